"""Work that takes longer than a request: imports and exports. A record of each, and a lease for who is at it.

Imports lie in one hash slot and exports in another; ``B`` is ``segsync:{imports}`` or ``segsync:{exports}``:

    B:open           zset    id -> when it began, ms: the work that is not over
    B:job:ID         hash    its record: what is asked for and how far it is; lease, beat_ms (when its worker last
                             showed itself), attempts (how many workers have begun it), hinted_ms (when a worker was
                             last told of it)
    B:busy           hash    subject -> id: of those that only one may be about at a time
    B:pieces:ID      list    an upload: see uploads.py
    B:pieces:ID:T    list    an export's file, written by the worker with the token T

A worker that is killed stops showing itself; the sweeper finds its work when the lease is over, by the state server's
clock. Two workers at one piece of work do no harm, if that clock jumps: each writes keys of its own, and what takes
effect does so in one step, once.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import redis

from worker.errors import LeaseLost, Unavailable
from worker.log.scripts import script
from worker.state import state_errors

Kind = Literal["imports", "exports"]

# A worker shows itself twice a second; one request to the state server may take three.
LEASE_SECONDS = 20.0
# A hint that has led nobody to the work by then is sent again.
HINT_AGAIN_SECONDS = 10.0


@dataclass(slots=True)
class Claim:
    """The right to do one piece of work, until its worker has not shown itself for twenty seconds.

    Attributes:
        record: its fields when it was taken up.
        attempts: how many workers have begun it, this one included, less those that gave it back.
    """

    job_id: str
    token: str
    record: Mapping[str, str]
    _jobs: Jobs = field(repr=False)

    @property
    def attempts(self) -> int:
        return int(self.record["attempts"])

    def note(self, **fields: object) -> None:
        """Say how far it is.

        Raises:
            LeaseLost: somebody else has taken it up, or it is over.
            Unavailable: the state server is away.
        """
        self._note("on", fields)

    def wait(self, **fields: object) -> None:
        """The worker's part is done; it stays open for what others do, and its subject is free. Raises as ``note``."""
        self._note("free", fields)

    def finish(self, keep_seconds: int, **fields: object) -> None:
        """It is over; the record stays for so long. Raises as ``note``."""
        self._note("over", fields, keep_seconds)

    def give_back(self) -> None:
        """Let somebody else take it up at once: nothing is wrong with it. Raises as ``note``."""
        self._note("back", {})

    def _note(self, becomes: str, fields: Mapping[str, object], keep_seconds: int = 0) -> None:
        if not self._jobs.note(self.job_id, self.token, becomes, fields, keep_seconds):
            raise LeaseLost(f"lost the lease of {self._jobs.kind} {self.job_id}")


class Jobs:
    """The work of one kind. Safe between threads, as far as the client is."""

    def __init__(self, client: redis.Redis, kind: Kind) -> None:
        self._client = client
        self.kind = kind
        self.base = f"segsync:{{{kind}}}"

    def pieces_key(self, job_id: str, token: str = "") -> str:
        """Where an upload, or an attempt's file, lies."""
        return f"{self.base}:pieces:{job_id}{f':{token}' if token else ''}"

    def begin(self, job_id: str, record: Mapping[str, object], *, subject: str = "", pieces: int = 0) -> str | None:
        """Put it on record, to be done; doing it again changes nothing.

        Args:
            job_id: new.
            record: its fields; ``status`` is among them.
            subject: what only one may be about at a time; "" when any number may.
            pieces: how many its upload has; they live for as long as the record from now on.

        Returns:
            None, or the id of the one that is about the same.

        Raises:
            Unavailable: the state server is away, or the upload is gone; it may be on record.
        """
        verdict, *rest = script("job_open")(self._client, self.base, job_id, subject, pieces, *_flat(record))
        if verdict == b"incomplete":
            raise Unavailable("what was uploaded is gone: it took too long", dependency="state")
        return rest[0].decode() if verdict == b"busy" else None

    def busy(self, subject: str) -> str | None:
        """The id of the one that is about it, if one is.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("bytes | None", self._client.hget(f"{self.base}:busy", subject))
            if found is None or self._client.zscore(f"{self.base}:open", found.decode()) is None:
                return None
        return found.decode()

    def claim(self, job_id: str) -> Claim | None:
        """Take it up; None when somebody is at it, or it is over.

        Raises:
            Unavailable: the state server is away; it may be taken up, until its lease is over.
        """
        token = secrets.token_hex(8)
        reply = script("job_claim")(self._client, self.base, job_id, token, int(LEASE_SECONDS * 1000))
        return Claim(job_id, token, _fields(reply), self) if reply else None

    def note(self, job_id: str, token: str, becomes: str, fields: Mapping[str, object], keep_seconds: int = 0) -> bool:
        """See ``Claim``; with the token "" for work that waits for others. False when it is another's, or over.

        Raises:
            Unavailable: the state server is away; it may be noted.
        """
        told = (job_id, token, becomes, max(1, keep_seconds), *_flat(fields))
        return bool(script("job_note")(self._client, self.base, *told))

    def read(self, job_id: str) -> dict[str, str] | None:
        """Its record; None when there is none (any more).

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("dict[bytes, bytes]", self._client.hgetall(f"{self.base}:job:{job_id}"))
        return {name.decode(): value.decode() for name, value in found.items()} or None

    def open(self) -> list[str]:
        """The work that is not over, oldest first.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            return [found.decode() for found in cast("list[bytes]", self._client.zrange(f"{self.base}:open", 0, -1))]

    def due(self, status: str) -> list[str]:
        """The work of that status that nobody is at; hints of it are the caller's to send, now.

        Raises:
            Unavailable: the state server is away.
        """
        waits = (int(LEASE_SECONDS * 1000), int(HINT_AGAIN_SECONDS * 1000), status)
        return [found.decode() for found in script("job_due")(self._client, self.base, *waits)]


def _flat(record: Mapping[str, object]) -> list[Any]:
    return [part for name, value in record.items() for part in (name, str(value))]


def _fields(reply: list[bytes]) -> dict[str, str]:
    text = [part.decode() for part in reply]
    return dict(zip(text[::2], text[1::2], strict=True))
