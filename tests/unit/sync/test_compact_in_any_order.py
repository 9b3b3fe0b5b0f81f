"""Batches, deaths, replays, drains and compactions in any order: every store ends up as the log says.

The steps are those of the real scripts, on fakeredis; at any step of a compaction something else may happen, or its
process be killed. A seed that fails prints what happened.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import fakeredis
import pytest
from compact_world import NOTHING_MEANWHILE, World, glob_escaped

from worker.log.position import START, ms_of, order
from worker.sync.expire import expire_dead

SEEDS = range(20)
STEPS = 80
PEOPLE = "abcdefgh"
WEIGHTS = {
    "accept": 8,
    "exclude": 2,
    "import": 3,
    "drain": 16,
    "bury": 6,
    "replay": 3,
    "insert": 2,
    "compact": 8,
    "kill": 1,
    "expire": 1,
}
MEANWHILE = {
    "accept": 1,
    "exclude": 1,
    "import": 1,
    "drain": 3,
    "bury": 1,
    "replay": 4,
    "insert": 4,
    "compact": 4,
    "expire": 1,
}

# What happened in all seeds together: a test of this test.
seen: Counter[str] = Counter()


class AnyOrder:
    def __init__(self, seed: int) -> None:
        client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        self.world = World(client, stores=2, dead_retention_seconds=0)
        self.chance = random.Random(seed)
        self.numbers = iter(range(1, 10_000))
        self.happened: list[str] = []
        self.world.accept("ab")

    def step(self, kinds: dict[str, int] = WEIGHTS) -> None:
        [kind] = self.chance.choices(list(kinds), list(kinds.values()))
        self.happened.append(kind)
        getattr(self, f"_{kind}")()

    def check(self) -> None:
        world = self.world
        assert world.truth() == world.expected()
        assert set(world.dead) <= {*world.positions(), *world.beside()}

    def finish(self) -> None:
        world = self.world
        world.drain_all()
        assert list(world.stores.values()) == [world.expected()] * 2
        committed = world.key(f"snapshot:{world.head('snapshot')}")
        lives = {key: world.client.ttl(key) for key in world.snapshot_keys()}
        assert {key for key, life in lives.items() if life == -1} == ({committed} if world.head("snapshot") else set())
        assert len(world.client.keys(glob_escaped(world.key("late:")) + "*")) == len(world.beside())

    def _note(self, what: str) -> None:
        self.happened[-1] += f" {what}"
        seen[what] += 1

    def _people(self) -> str:
        return "".join(self.chance.sample(PEOPLE, self.chance.randint(0, 3)))

    def _store(self) -> str:
        return self.chance.choice(list(self.world.stores))

    def _some(self, choices: Any, *, late: float = 1.0) -> str:
        """One of these positions; with a greater ``late``, rather one of the last."""
        ordered = sorted(choices, key=order)
        place = int(len(ordered) * (1 - self.chance.random() ** late))
        return ordered[min(place, len(ordered) - 1)] if ordered else ""

    def _accept(self) -> None:
        self.world.accept(self._people(), self._people(), apart=self.chance.random() < 0.5)

    def _exclude(self) -> None:
        self.world.exclude(self._people(), self._people())

    def _import(self) -> None:
        replaces = self.chance.random() < 0.7
        self.world.accept_import(self._people(), replace=replaces)
        self._note("replace" if replaces else "merge")

    def _drain(self) -> None:
        kind = self.chance.choice(("", "", "meanwhile", "killed"))
        if kind and self.world.folding == NOTHING_MEANWHILE:
            meanwhile = self._meanwhile_folding if kind == "meanwhile" else self._note_killed
            self.world.folding = (self.chance.randint(0, 6), meanwhile, kind == "killed")
        self._drain_one()

    def _meanwhile_folding(self) -> None:
        self._note("while an import was folded")
        self.step(MEANWHILE)

    def _note_killed(self) -> None:
        self._note("killed while an import was folded")

    def _drain_one(self) -> None:
        store_id = self._store()
        cursor, world = self.world.cursor(store_id), self.world
        if order(cursor) < order(world.head("trimmed") or START):
            below = order(cursor) < order(world.head("floor")) and cursor != START
            self._note("strays" if below else "base with entries beside it" if self._beside_base() else "base")
        world.drain(store_id, entries=self.chance.choice((1, 3, 1000)))

    def _beside_base(self) -> bool:
        base = self.world.wiring.snapshots.base(self.world.segment)
        return base is not None and bool(base.late)

    def _bury(self) -> None:
        position = self.world.accept(self._people() + "z", self._people())
        self.world.drain(self._store(), kill=position)

    def _replay(self) -> None:
        position = self._some(self.world.dead)
        if position:
            below = order(position) <= order(self.world.head("trimmed") or START)
            said = dict.fromkeys(self._people(), True) if self.chance.random() < 0.5 else None
            assert self.world.replay(position, said) == "inserted"
            self._note(f"replayed {'below' if below else 'above'}")

    def _insert(self) -> None:
        """A rejected body, accepted about when some batch was."""
        near = self._some(self.world.model, late=3)
        if near:
            position = f"{ms_of(near)}-{10**12 + next(self.numbers)}"
            below = order(position) <= order(self.world.head("trimmed") or START)
            said = {**dict.fromkeys(self._people(), True), **dict.fromkeys(self._people(), False)}
            verdict = self.world.insert(position, said)
            assert (verdict == "below") == (ms_of(position) < ms_of(self.world.head("floor") or START))
            self._note(f"insert {verdict} {'below' if below else 'above'}")

    def _compact(self, *, killed: bool = False) -> None:
        accepted = [*self.world.model, *self.world.dead]
        meanwhile = (lambda: self.step(MEANWHILE)) if self.chance.random() < 0.6 else None
        floor = self.world.head("floor")
        done = self.world.compact(
            now_ms=ms_of(self._some(accepted, late=4) or START) + 1,
            floor_ms=ms_of(self._some(accepted) or START),
            early=self.chance.random() < 0.3,
            meanwhile=None if killed else meanwhile,
            at=self.chance.randint(0, 5),
            killed=killed,
        )
        self._note(f"compaction {done.outcome}")
        if (self.world.head("floor") or START) != (floor or START):
            self._note("floor moved")

    def _kill(self) -> None:
        self._compact(killed=True)

    def _expire(self) -> None:
        before = set(self.world.dead)
        expire_dead(self.world.wiring)
        kept: Any = self.world.client.hkeys(self.world.key("dead"))
        for position in before - {entry_id.decode() for entry_id in kept}:
            del self.world.dead[position]
            self._note("expired")


@pytest.mark.parametrize("seed", SEEDS)
def test_every_store_ends_up_as_the_log_says(seed: int) -> None:
    run = AnyOrder(seed)
    try:
        for _ in range(STEPS):
            run.step()
            run.check()
        run.finish()
    except BaseException:
        print(f"seed {seed}:", "; ".join(run.happened))
        raise


def test_all_that_matters_has_happened() -> None:
    if sum(seen.values()) < 500:
        pytest.skip("not all seeds were run in this process")
    assert set(seen) >= {
        "base",
        "base with entries beside it",
        "strays",
        "replayed above",
        "replayed below",
        "insert inserted above",
        "insert inserted below",
        "insert below below",
        "compaction folded",
        "compaction killed",
        "compaction replaced",
        "compaction in use",
        "replace",
        "merge",
        "while an import was folded",
        "killed while an import was folded",
        "floor moved",
        "expired",
    }, seen
