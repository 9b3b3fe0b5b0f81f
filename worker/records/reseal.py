"""Sealing every secret in the records anew, under the first key: after a change of keys, or of an older version."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple, cast, get_args

import redis
from pydantic import SecretStr

from worker.errors import Misconfigured
from worker.model import StoreConfiguration
from worker.records.change import change_records
from worker.records.directory import Directory
from worker.records.secret_box import NO_KEYS, SEALED, CannotOpen, SecretBox
from worker.records.tables import STORES, Writes
from worker.state import state_errors

_KINDS: Final = get_args(get_args(StoreConfiguration)[0])
_SECRET_FIELDS: Final = frozenset(
    name for kind in _KINDS for name, field in kind.model_fields.items() if field.annotation is SecretStr
)


class Resealed(NamedTuple):
    """What became of the stores that have secrets.

    Attributes:
        stores: how many are sealed under the first key now.
        locked: ids of those that none of the keys opens; they are as they were.
    """

    stores: int
    locked: list[str]


def reseal(client: redis.Redis, box: SecretBox) -> Resealed:
    """Seal all secrets of stores under the first key, in one step; those in plain text, too.

    Nobody notices: the secrets are the same, and so are the versions of the stores. Records of a newer version are
    kept as they are but for what is sealed in them.

    Raises:
        Misconfigured: there is no key.
        Unavailable: the state server is away; all of it was done, or nothing.
    """
    if not box.has_keys:
        raise Misconfigured(NO_KEYS)

    def decide(_directory: Directory) -> tuple[Resealed, Writes | None]:
        # Read after the directory, and written only if that is still true: nobody's change is lost.
        with state_errors():
            kept = cast("dict[bytes, bytes]", client.hgetall(STORES))
        made: dict[bytes, str] = {}
        locked: list[str] = []
        for store_id, text in sorted(kept.items()):
            try:
                record = json.loads(text)
                found = _reseal(record.get("configuration"), box)
            except CannotOpen:
                locked.append(store_id.decode())
                continue
            except (ValueError, AttributeError):  # nothing that any version writes
                continue
            if found:
                made[store_id] = json.dumps(record)
        outcome = Resealed(len(made), locked)
        return outcome, (lambda pipe: pipe.hset(STORES, mapping=made)) if made else None

    return change_records(client, decide, box)


def _reseal(configuration: Any, box: SecretBox) -> int:
    """Seal what is secret in a configuration, in place; how much there was."""
    if not isinstance(configuration, dict):
        return 0
    secret = {
        name: box.open(value)
        for name, value in configuration.items()
        if isinstance(value, str) and value and (name in _SECRET_FIELDS or value.startswith(SEALED))
    }
    configuration.update({name: box.seal(plain) for name, plain in secret.items()})
    return len(secret)
