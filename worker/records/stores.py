"""The stores of environments: added, changed and removed, never two at one place, and no change of another's lost."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final, Literal, TypedDict, Unpack, cast

import redis

from worker.errors import Conflict, Misconfigured, NotFound
from worker.model import RedisStoreConfiguration, StoreConfiguration, StoreRecord
from worker.records.change import change_records
from worker.records.circuit import Circuits
from worker.records.directory import Directory
from worker.records.keys import check_tags
from worker.records.place import places_of
from worker.records.secret_box import SecretBox, secrets_of
from worker.records.tables import FORGOTTEN, STORES, Writes
from worker.state import state_errors

# What `segsync init` and `segsync up` do with a store that is there already; see ``StoreRecords.settle``.
ExistingStore = Literal["keep", "refuse", "replace", "moved"]

_LONGEST_NAME: Final = 64
_MADE_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{12}")


class StoreChanges(TypedDict, total=False):
    """What may be changed of a store."""

    name: str
    on: bool
    tags: tuple[str, ...]
    rebuild_when_wiped: bool
    configuration: StoreConfiguration


class StoreRecords:
    """Adds, changes and removes stores. Receivers, workers and schedulers follow within seconds.

    ``box`` seals what is secret of them. One without keys does for whoever has no secrets to write.
    """

    def __init__(self, client: redis.Redis, box: SecretBox | None = None) -> None:
        self._client = client
        self._box = box or SecretBox()

    def add(
        self,
        environment_id: str,
        name: str,
        configuration: StoreConfiguration,
        *,
        on: bool = True,
        tags: Sequence[str] = (),
        rebuild_when_wiped: bool = True,
    ) -> StoreRecord:
        """Give an environment one more store: it has cursors of its own, at the beginning of every log.

        Raises:
            NotFound: there is no such environment.
            Conflict: the name is taken, or another store, of whichever environment, is at the same place.
            Misconfigured: the name is no name, a tag no tag; or it has a secret, and there is no key to encrypt it.
            Unavailable: the state server is away; it was added or not.
        """

        def decide(directory: Directory) -> tuple[StoreRecord, Writes]:
            if environment_id not in directory.environments:
                raise NotFound(f"there is no environment {environment_id}; run `segsync init` first")
            made = StoreRecord(
                store_id=_next_id(directory.stores),
                environment_id=environment_id,
                name=name,
                on=on,
                tags=tuple(tags),
                rebuild_when_wiped=rebuild_when_wiped,
                configuration=configuration,
            )
            _check(directory, made)
            return made, _written(made, self._box)

        return change_records(self._client, decide, self._box)

    def set(
        self, store_id: str, *, expected_version: int | None = None, **changes: Unpack[StoreChanges]
    ) -> StoreRecord:
        """Change a store; its version grows by one, unless it is like that already.

        Args:
            store_id: which one.
            expected_version: the version on whose strength the changes were made; None: any.
            changes: what shall be otherwise.

        A configuration at another place is taken for the same store, moved there with its content. A store that is
        switched on, or whose configuration is given, is tried at once, whatever kept it away.

        Raises:
            NotFound: there is no such store.
            Conflict: its version is another than expected, the name is taken, or another store is at that place.
            Misconfigured: the name is no name, a tag no tag; or it has another secret, and there is no key to encrypt
                it.
            Unavailable: the state server is away; it was changed or not.
        """

        def decide(directory: Directory) -> tuple[StoreRecord, Writes | None]:
            known = _known(directory, store_id)
            if expected_version not in {None, known.version}:
                raise Conflict(f"the store has been changed meanwhile: its version is {known.version}; look again")
            changed = known.model_copy(update=dict(changes))
            if changed == known:
                return known, None
            changed = _changed(changed, known)
            _check(directory, changed)
            return changed, _written(changed, self._box, known)

        found = change_records(self._client, decide, self._box)
        if changes.get("on") or "configuration" in changes:
            Circuits(self._client).reset(store_id)
        return found

    def remove(self, store_id: str) -> StoreRecord:
        """Remove a store, and note that its cursors are to be forgotten; what lies in the store stays there.

        The cursors go a while later (``worker.sync.forget``): for some seconds, processes use the record that they
        have read.

        Returns:
            What was removed.

        Raises:
            NotFound: there is no such store.
            Unavailable: the state server is away; it was removed or not.
        """
        now_ms = server_ms(self._client)

        def decide(directory: Directory) -> tuple[StoreRecord, Writes]:
            return _known(directory, store_id), lambda pipe: queue_removal(pipe, store_id, now_ms)

        return change_records(self._client, decide, self._box)

    def removed_before(self, epoch_ms: int) -> list[str]:
        """The ids of stores that were removed until then, by the state server's clock, and are not forgotten yet.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("list[bytes]", self._client.zrangebyscore(FORGOTTEN, "-inf", epoch_ms))
        return [store_id.decode() for store_id in found]

    def forgotten(self, store_id: str) -> None:
        """Note that nothing tells of that store any more.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.zrem(FORGOTTEN, store_id)

    def settle(
        self, environment_id: str, configuration: StoreConfiguration, existing_store: ExistingStore
    ) -> StoreRecord | None:
        """Make sure that the environment has the store described; the one at that place is brought up to date.

        Args:
            environment_id: of an environment that there is.
            configuration: the store.
            existing_store: what to do when there is one of its kind elsewhere: "refuse", or "replace" it by another
                store, which is filled anew. Where nobody has asked for this store, none is made, for whoever removed
                it wants it gone: "keep" what there is, or take the store that differs by nothing but host and port
                for the same one, "moved" with its content.

        Returns:
            The store at that place; with "keep", the first there is. None when there is none, and none was made.

        Raises:
            Misconfigured: there is one elsewhere, or there are several, and none is to be touched; or the place is
                that of another environment's store.
            Unavailable: the state server is away; it was done or not.
        """
        now_ms = server_ms(self._client)

        def decide(directory: Directory) -> tuple[StoreRecord | None, Writes | None]:
            stores = directory.stores_of(environment_id)
            if existing_store == "keep":
                return next(iter(stores), None), None
            existing = _existing(stores, configuration, moved=existing_store == "moved")
            if existing:
                return _brought_up_to_date(directory, existing, configuration, self._box)
            if existing_store == "moved":
                return None, None
            elsewhere = _of_kind(stores, configuration.kind)
            if elsewhere and existing_store == "refuse":
                raise Misconfigured(
                    f"the environment has a store already ({elsewhere[0].configuration}); --replace-store leaves it "
                    f"for the one given ({configuration}), `segsync store add` adds that beside it"
                )
            if len(elsewhere) > 1:
                raise Misconfigured(
                    f"the environment has {len(elsewhere)} {configuration.kind} stores, and which one to replace is "
                    "not clear; use `segsync store add` and `segsync store remove`"
                )
            # Its cursors tell what is in the old place; they must not be taken for the new one.
            gone = [store.store_id for store in elsewhere]
            made = StoreRecord(
                store_id=_next_id(directory.stores),
                environment_id=environment_id,
                name=_free_name(configuration.kind, [store for store in stores if store not in elsewhere]),
                configuration=configuration,
            )
            _check(directory, made, but=gone)
            write = _written(made, self._box)

            def queue(pipe: Any) -> None:
                for store_id in gone:
                    queue_removal(pipe, store_id, now_ms)
                write(pipe)

            return made, queue

        found = change_records(self._client, decide, self._box)
        if found is not None and existing_store != "keep":
            Circuits(self._client).reset(found.store_id)
        return found


def _brought_up_to_date(
    directory: Directory, store: StoreRecord, configuration: StoreConfiguration, box: SecretBox
) -> tuple[StoreRecord, Writes | None]:
    """The store with this configuration, and what writes it; None when it is so already.

    Raises:
        Misconfigured: another store is at that place.
    """
    if store.configuration == configuration:
        return store, None
    made = _changed(store.model_copy(update={"configuration": configuration}), store)
    _check(directory, made)
    return made, _written(made, box, store)


def first_store(
    directory: Directory, environment_id: str, configuration: StoreConfiguration, box: SecretBox
) -> tuple[StoreRecord, Writes]:
    """The first store of an environment that is about to be made, and what writes it.

    Raises:
        Misconfigured: another environment's store is at that place, or there is no key to encrypt its secret.
    """
    made = StoreRecord(
        store_id=_next_id(directory.stores),
        environment_id=environment_id,
        name=configuration.kind,
        configuration=configuration,
    )
    _check(directory, made)
    return made, _written(made, box)


def _known(directory: Directory, store_id: str) -> StoreRecord:
    found = directory.store(store_id)
    if found is None:
        raise NotFound(f"there is no store {store_id}; `segsync store list` shows those there are")
    return found


def _check(directory: Directory, store: StoreRecord, *, but: Sequence[str] = ()) -> None:
    """Refuse what must not be written beside the other stores.

    Raises:
        Misconfigured: see there.
    """
    name = store.name
    if name and (not name.isprintable() or len(name) > _LONGEST_NAME or name != name.strip()):
        raise Misconfigured(
            f"a store's name is {_LONGEST_NAME} printable characters at the most, without blanks around them"
        )
    check_tags(store.tags)
    for other in directory.stores:
        if other.store_id in {store.store_id, *but}:
            continue
        beside = other.environment_id == store.environment_id
        if name and (name == other.store_id or (beside and name == other.name)):
            raise Conflict(f"there is a store {name} already ({other.configuration}); choose another name")
        if places_of(other.configuration) & places_of(store.configuration):
            # Also one of another environment: refs carry no environment, and members of one would be in the other.
            raise Conflict(
                f"store {other.label} of environment {other.environment_id} is at that place already "
                f"({other.configuration}); choose another prefix, database or table"
            )


def _existing(stores: Sequence[StoreRecord], configuration: StoreConfiguration, *, moved: bool) -> StoreRecord | None:
    """The store at the place of this configuration, or, once moved, the one that has come from elsewhere."""
    for store in stores:
        if places_of(store.configuration) & places_of(configuration):
            return store
    if moved and isinstance(configuration, RedisStoreConfiguration):
        here = {"host": configuration.host, "port": configuration.port}
        return next((store for store in stores if store.configuration.model_copy(update=here) == configuration), None)
    return None


def _of_kind(stores: Sequence[StoreRecord], kind: str) -> list[StoreRecord]:
    return [store for store in stores if store.configuration.kind == kind]


def _free_name(wish: str, stores: Sequence[StoreRecord]) -> str:
    taken, number = {store.name for store in stores}, 1
    name = wish
    while name in taken:
        number += 1
        name = f"{wish}-{number}"
    return name


def _next_id(stores: Sequence[StoreRecord]) -> str:
    """An id after those of all stores, also when the clock has stepped back: ids are ordered by age, as the first
    store's replies count members.
    """
    made = [match for store in stores if (match := _MADE_ID.fullmatch(store.store_id))]
    last = max((int(match[1], 16) for match in made), default=0)
    return f"{max(int(time.time() * 1000), last + 1):012x}{secrets.token_hex(6)}"


def _changed(changed: StoreRecord, known: StoreRecord) -> StoreRecord:
    """A store as it is to be written; locked only as long as it has a secret that could not be opened."""
    kept = set(secrets_of(known.configuration).values())
    locked = known.locked and any(secret in kept for secret in secrets_of(changed.configuration).values())
    return changed.model_copy(update={"version": known.version + 1, "locked": locked})


def _written(store: StoreRecord, box: SecretBox, known: StoreRecord | None = None) -> Writes:
    """What writes a store.

    A secret that could not be opened, or that lies there in plain text and cannot be sealed, stays as it is: who
    renames a store, or switches it off, need not have its keys.

    Raises:
        Misconfigured: it has a new secret, and there is no key to encrypt it.
    """
    as_it_is = known is not None and (known.locked or not box.has_keys)
    kept = set(secrets_of(known.configuration).values()) if known and as_it_is else set()
    record = store.model_dump(mode="json")
    for name, secret in secrets_of(store.configuration).items():
        record["configuration"][name] = secret if secret in kept else box.seal(secret)
    text = json.dumps(record)
    return lambda pipe: pipe.hset(STORES, store.store_id, text)


def server_ms(client: redis.Redis) -> int:
    """The state server's clock.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


def queue_removal(pipe: Any, store_id: str, now_ms: int) -> None:
    """Queue what removes a store and notes that its cursors are to be forgotten; see ``StoreRecords.remove``."""
    pipe.hdel(STORES, store_id)
    pipe.zadd(FORGOTTEN, {store_id: now_ms})
