"""A log with stores that are sets, and a model beside it: the live batches, folded in order of position."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from typing import Any
from unittest.mock import patch

import redis
from made_builders import change_by_hand, import_keys
from sync_builders import Installation

from worker.log.compaction import Draft
from worker.log.dead import DeadLetter
from worker.log.entry import Entry, compress, pack_fields, pack_slice
from worker.log.late import insert_entry
from worker.log.lease import Behind, Busy, Idle, Lease
from worker.log.names import excluded_name, is_excluded
from worker.log.position import START, ms_of, order
from worker.log.snapshot import Changes, decisions_after, members
from worker.log.snapshots import SnapshotReplaced
from worker.model import RedisStoreConfiguration
from worker.records.stores import StoreRecords
from worker.sync import compact as compact_module
from worker.sync.compact import Compacted, compact, fold_import
from worker.sync.members import read_members
from worker.wiring import Wiring

Members = Mapping[str, bool]
# Longer than any test: nothing that is not meant to be old is.
LONG_S = 86_400


class World:
    """Stores are sets here, and a drain is what the real one does, step by step, with every fault of its own choosing.

    ``model`` has the live batches by position; ``dead`` those that died, with what they say; ``imports`` whom each
    import has, and whether it is a replace. Stores and model have both lists, by name.
    """

    def __init__(self, client: redis.Redis, *, stores: int = 1, **settings: Any) -> None:
        defaults = {"retention_seconds": 0, "dead_retention_seconds": LONG_S, "rejected_retention_seconds": 0}
        self.client = client
        self.installation = Installation(client, **{**defaults, **settings})
        self.wiring = self.installation.wiring
        self.segment = self.installation.segment()
        added = [
            StoreRecords(client).add(
                self.segment.environment_id, f"store-{number}", RedisStoreConfiguration(host=f"host-{number}")
            )
            for number in range(1, stores)
        ]
        self.stores: dict[str, set[str]] = {
            store_id: set() for store_id in (self.installation.store_id, *(store.store_id for store in added))
        }
        self.model: dict[str, Members] = {}
        self.dead: dict[str, Members] = {}
        self.imports: dict[str, tuple[set[str], bool]] = {}
        self.parsed: set[tuple[str, str]] = set()
        self.folding = NOTHING_MEANWHILE

    @property
    def first(self) -> str:
        return next(iter(self.stores))

    def accept(self, add: str = "", remove: str = "", *, apart: bool = True) -> str:
        """One batch that adds and removes people of one letter each; returns its position.

        ``apart``: the next has another millisecond.
        """
        self.installation.accept(add=tuple(add), remove=tuple(remove))
        position = self.head("last")
        self.model[position] = {**dict.fromkeys(add, True), **dict.fromkeys(remove, False)}
        while apart and self.now_ms() == ms_of(position):
            pass
        return position

    def exclude(self, add: str = "", remove: str = "") -> str:
        """A change by hand of the excluded list."""
        change_by_hand(self.installation, add_excluded=tuple(add), remove_excluded=tuple(remove))
        position = self.head("last")
        said = {**dict.fromkeys(add, True), **dict.fromkeys(remove, False)}
        self.model[position] = {excluded_name(key): include for key, include in said.items()}
        return position

    def accept_import(self, people: str = "", *, replace: bool = True) -> str:
        """An import of people of one letter each; returns its position."""
        import_keys(self.installation, *people, mode="replace" if replace else "merge", chunk_keys=2)
        position = self.head("last")
        self.imports[position] = (set(people), replace)
        return position

    def head(self, name: str) -> str:
        found = self.client.hget(self.key("head"), name)
        return found.decode() if isinstance(found, bytes) else ""

    def key(self, name: str) -> str:
        environment_id, segment_key, generation = self.segment
        return f"segsync:{{{environment_id}/{segment_key}}}:g{generation}:{name}"

    def positions(self) -> list[str]:
        """What the stream has."""
        found: Any = self.client.xrange(self.key("log"))
        return [entry_id.decode() for entry_id, _ in found]

    def beside(self) -> list[str]:
        found: Any = self.client.zrange(self.key("late"), 0, -1)
        return [entry_id.decode() for entry_id in found]

    def cursor(self, store_id: str) -> str:
        found = self.client.hget(self.key(f"cursor:{store_id}"), "position")
        return found.decode() if isinstance(found, bytes) else START

    def now_ms(self) -> int:
        return self.wiring.upkeep.server_ms()

    def take(self, store_id: str | None = None) -> Lease | None:
        found = self.wiring.drain_log.take(self.segment, store_id or self.first, connection="c")
        assert isinstance(found, Lease | Busy | Idle), found
        return found if isinstance(found, Lease) else None

    def drain(self, store_id: str | None = None, *, entries: int = 1000, kill: str = "") -> None:
        """Apply what waits to one store; the batch at position ``kill`` dies of it, if no store has applied it."""
        store_id = store_id or self.first
        lease = self.take(store_id)
        if lease is None:
            return
        try:
            found = lease.read(most_bytes=1 << 20, most_entries=entries)
        except Behind:
            self._apply_base(store_id, lease)
        else:
            if found and found[0].kind == "import":
                self.fold_import(found[0])
                found = []
            found = list(takewhile(lambda entry: entry.kind != "import", found))
            for entry in found:
                if entry.entry_id == kill and entry.entry_id in self.model and not self._applied(kill):
                    assert lease.bury(entry, letter(entry.batch_id))
                    self.dead[kill] = self.model.pop(kill)
                elif not entry.dead:
                    write(self.stores[store_id], self._parse(entry))
            if found:
                lease.advance(found[-1], 0)
        lease.release(clean=True)

    def fold_import(self, entry: Entry) -> str:
        """What a drain does that has come to one; at a step of ``folding`` something happens, or it is killed."""
        steps = iter(range(10_000))
        at, meanwhile, killed = self.folding

        def step() -> bool:
            if next(steps) == at:
                self.folding = NOTHING_MEANWHILE
                meanwhile()
                if killed:
                    raise Killed
            return False

        abandon = (lambda _: None) if killed else Draft.abandon
        with (
            patch.object(compact_module, "read_members", self._read_applied),
            patch.object(Draft, "abandon", abandon),
            suppress(Killed),
        ):
            return fold_import(self.wiring, self.segment, entry, lambda: None, step)
        return "killed"

    def _read_applied(self, wiring: Wiring, entry: Entry) -> Members:
        parsed = self._applied(entry.entry_id) or (entry.entry_id, entry.parser_digest) in self.parsed
        assert parsed, "what no store has applied may kill who parses it"
        return read_members(wiring, entry)

    def _parse(self, entry: Entry) -> Members:
        self.parsed.add((entry.entry_id, entry.parser_digest))
        return read_members(self.wiring, entry)

    def drain_all(self) -> None:
        for store_id in self.stores:
            while order(self.cursor(store_id)) < order(self.head("last") or START):
                self.drain(store_id)

    def _applied(self, position: str) -> bool:
        return any(order(self.cursor(store_id)) >= order(position) for store_id in self.stores)

    def _apply_base(self, store_id: str, lease: Lease) -> None:
        for _ in range(5):
            base = self.wiring.snapshots.base(self.segment)
            assert base is not None
            store, from_ = self.stores[store_id], lease.position
            if order(from_) < order(base.floor):
                store.clear()  # whom the snapshot does not name must go: the simplest way to compare
                from_ = START
            beside = Changes()
            for entry in base.late:
                beside.add(entry.entry_id, self._parse(entry))
            try:
                for number in range(base.chunks):
                    final = number == base.chunks - 1
                    add, remove = decisions_after(base.chunk(number), from_, beside, final=final)
                    write(store, {**dict.fromkeys(add, True), **dict.fromkeys(remove, False)})
            except SnapshotReplaced:
                continue
            lease.advance_to(base.position, base.batches_total, base.bytes_total, 0)
            return
        raise AssertionError("the snapshot was replaced again and again")

    def replay(self, position: str, said: Members | None = None) -> str:
        """A dead batch comes to life at its own place, saying perhaps something else by now."""
        said = self.dead[position] if said is None else said
        verdict = self._insert(position, said, batch_id=f"batch-{position}", of_dead=True)
        if verdict == "inserted":
            del self.dead[position]
            self.model[position] = said
        return verdict

    def insert(self, position: str, said: Members) -> str:
        """A batch comes to this log that never was in it: a rejected body, or one of another segment."""
        verdict = self._insert(position, said, batch_id=f"batch-{position}", of_dead=False)
        if verdict == "inserted":
            self.model[position] = said
        return verdict

    def _insert(self, position: str, said: Members, *, batch_id: str, of_dead: bool) -> str:
        fields = pack_fields(
            integration_key="rudderstack",
            parser_digest=f"digest-{sorted(said.items())}",
            policy="reject",
            kind="slice",
            content=compress(pack_slice(said)),
        )
        found = insert_entry(
            self.client,
            self.segment,
            position,
            batch_id=batch_id,
            fields=fields,
            store_ids=list(self.stores),
            of_dead=of_dead,
        )
        return "inserted" if isinstance(found, list) else found

    def compact(
        self,
        *,
        now_ms: int | None = None,
        floor_ms: int | None = None,
        early: bool = False,
        meanwhile: Callable[[], None] | None = None,
        at: int = 0,
        killed: bool = False,
    ) -> Compacted:
        """Compact as of a time; at its step number ``at``, something happens meanwhile, or it is killed.

        ``floor_ms`` is the highest that the floor may be, where that is not what the settings say.
        """
        steps = iter(range(10_000))
        now = now_ms if now_ms is not None else self.now_ms() + 1

        def step() -> bool:
            if next(steps) == at:
                if meanwhile is not None:
                    meanwhile()
                if killed:
                    raise Killed
            return False

        rules = compact_module._rules

        def with_floor(*arguments: Any, **named: Any) -> Any:
            found = rules(*arguments, **named)
            return found and replace(found, floor_ms=found.floor_ms if floor_ms is None else floor_ms)

        with (
            patch.object(compact_module, "read_members", self._read_applied),
            patch.object(compact_module, "_now", lambda _: (now, early)),
            patch.object(compact_module, "_rules", with_floor),
        ):
            if not killed:
                return compact(self.wiring, self.segment, force=True, stopping=step)
            try:
                with patch.object(Draft, "abandon", lambda _: None):  # the dead tidy up nothing
                    return compact(self.wiring, self.segment, force=True, stopping=step)
            except Killed:
                return Compacted("killed")

    def truth(self) -> set[str]:
        """What the log says: its snapshot, and what came after it."""
        base = self.wiring.snapshots.base(self.segment)
        found: dict[str, bool] = {}
        position = START
        if base is not None:
            beside = Changes()
            for entry in base.late:
                beside.add(entry.entry_id, read_members(self.wiring, entry))
            for number in range(base.chunks):
                add, _ = decisions_after(base.chunk(number), START, beside, final=number == base.chunks - 1)
                found.update(dict.fromkeys(add, True))
            position = base.position
        for entry in self.wiring.drain_log.read(self.segment, position, most_bytes=1 << 20, most_entries=1000):
            if entry.kind == "import":
                there = {name for name, include in found.items() if include}
                found = dict.fromkeys(self._imported(there, entry.entry_id), True)
            elif not entry.dead:
                found.update(read_members(self.wiring, entry))
        return {key for key, include in found.items() if include}

    def expected(self) -> set[str]:
        """What the model says."""
        store: set[str] = set()
        for position in sorted([*self.model, *self.imports], key=order):
            if position in self.imports:
                store = self._imported(store, position)
            else:
                write(store, self.model[position])
        return store

    def _imported(self, store: set[str], position: str) -> set[str]:
        people, replaces = self.imports[position]
        return people | ({name for name in store if is_excluded(name)} if replaces else store)

    def snapshot_members(self) -> set[str]:
        base = self.wiring.snapshots.base(self.segment)
        return {key for n in range(base.chunks) for key in members(base.chunk(n))[0]} if base else set()

    def snapshot_keys(self) -> list[str]:
        found: Any = self.client.keys(glob_escaped(self.key("snapshot:")) + "*")
        return sorted(key.decode() for key in found)


NOTHING_MEANWHILE: tuple[int, Callable[[], None], bool] = (-1, lambda: None, False)


class Killed(BaseException):
    """A compactor that is no more."""


def glob_escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "*?[]\\" else character for character in text)


def letter(batch_id: str = "", *, died_ms: int = 1) -> DeadLetter:
    return DeadLetter("dead", "malformed", "it is no JSON", batch_id=batch_id, died_ms=died_ms)


def write(store: set[str], said: Members) -> None:
    for key, include in said.items():
        (store.add if include else store.discard)(key)
