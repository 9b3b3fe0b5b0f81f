"""What will be broken, and when: the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from chaos.manifests import INTEGRATIONS

WORKERS = 3
RECEIVERS = 2
SCHEDULERS = 2
STORES = ("a", "b")

# A lease is taken from whoever has not renewed it for twenty seconds.
_PAST_THE_LEASE = (22.0, 32.0)
# Senders give up on a receiver that has not answered for ten.
_SHORT_OF_THEIR_PATIENCE = (2.0, 8.0)
# A storm of that length has room for everything at its usual distance; shorter ones are denser.
_USUAL_STORM_SECONDS = 75.0
_DENSEST = 0.4
# By then after the storm everything is mended; what would take longer is shortened, or not done.
_AFTERMATH_SECONDS = 8.0


class Fault(NamedTuple):
    """One thing that is broken.

    Attributes:
        at: seconds after the storm began, at the earliest: the faults of one target never overlap.
        target: "worker-0", "receiver-1", "scheduler-0", "state", "store-a", "manifest-KEY", "hints", "compaction".
        kind: what is done to it. "…_writing": while it waits for the answer to a write. "crash": ``kill -9`` with
            requests in hand that it has not answered. "wipe": FLUSHALL. "replace": by an empty one, at the same place.
            "roll_back": to what it held so many seconds ago, as after a restore. "off", "add_again",
            "rebuild": by command.
        seconds: for how long it stays so.
    """

    at: float
    target: str
    kind: str
    seconds: float


class _Lane(NamedTuple):
    """The faults of one target: what may happen (a kind that stands twice happens twice as often), how often."""

    kinds: Sequence[str]
    gap: tuple[float, float]
    seconds: Mapping[str, tuple[float, float]]


_PROCESS = {"kill": (0.0, 3.0), "terminate": (0.0, 2.0), "kill_main": (0.0, 1.0), "kill_child": (0.0, 0.0)}
_LANES: dict[str, _Lane] = {
    "worker": _Lane(
        ["kill", "kill_writing", "kill_writing", "kill_child", "kill_main", "freeze", "freeze_writing", "terminate"],
        (4, 16),
        _PROCESS | {"kill_writing": (0.0, 3.0), "freeze": _PAST_THE_LEASE, "freeze_writing": _PAST_THE_LEASE},
    ),
    "receiver": _Lane(
        ["kill", "kill", "terminate", "freeze"], (15, 40), _PROCESS | {"freeze": _SHORT_OF_THEIR_PATIENCE}
    ),
    "scheduler": _Lane(["kill", "terminate", "freeze"], (15, 45), _PROCESS | {"freeze": _PAST_THE_LEASE}),
    "state": _Lane(
        ["kill", "crash", "stop", "freeze", "freeze"],
        (15, 40),
        {"kill": (0.0, 4.0), "crash": (0.0, 9.0), "stop": (0.0, 9.0), "freeze": (2.0, 12.0)},
    ),
    "store": _Lane(
        ["freeze", "crash", "crash", "stop", "roll_back", "roll_back", "off"],
        (8, 30),
        {"freeze": (3.0, 20.0), "crash": (0.0, 5.0), "stop": (1.0, 15.0), "roll_back": (3.0, 15.0), "off": (2.0, 15.0)},
    ),
    "manifest": _Lane(["refuse", "spoil", "change"], (15, 40), {"refuse": (6.0, 10.0), "spoil": (6.0, 9.0)}),
    "hints": _Lane(["lose", "double"], (3, 10), {}),
    "compaction": _Lane(["begin"], (2, 8), {}),
}


# By these a store is written anew.
_EMPTYING = _Lane(["wipe", "replace", "add_again", "rebuild"], (0, 0), {})


def plan(seed: int, rounds: int, storm_seconds: float, *, compact: bool = False) -> list[list[Fault]]:
    """Everything that so many storms of that length break, in order of time; with ``compact``, compactions beside."""
    targets: dict[str, Sequence[str]] = {
        "worker": [f"worker-{number}" for number in range(WORKERS)],
        "receiver": [f"receiver-{number}" for number in range(RECEIVERS)],
        "scheduler": [f"scheduler-{number}" for number in range(SCHEDULERS)],
        "state": ["state"],
        "store": [f"store-{name}" for name in STORES],
        "manifest": [f"manifest-{integration}" for integration in INTEGRATIONS],
        "hints": ["hints"],
        "compaction": ["compaction"] if compact else [],
    }
    planned: list[list[Fault]] = [[] for _ in range(rounds)]
    emptying = _Deck(Random(f"{seed}:plan:emptying"), _EMPTYING)
    for lane, names in targets.items():
        deck = _Deck(Random(f"{seed}:plan:{lane}"), _LANES[lane])
        for number in range(rounds):
            for place, name in enumerate(names):
                # What is filled anew shows nothing of what was wrong with it: one store keeps its content, every time.
                emptied = lane == "store" and number % len(names) == place
                dice = Random(f"{seed}:plan:{name}:{number}")
                planned[number] += _faults(dice, name, deck, storm_seconds, emptying if emptied else None)
    return [sorted(faults) for faults in planned]


class _Deck:
    """Kinds in random order, each as often as it stands there before any comes again: no run goes without one."""

    def __init__(self, dice: Random, lane: _Lane) -> None:
        self.lane = lane
        self._dice = dice
        self._left: list[str] = []

    def deal(self) -> str:
        if not self._left:
            self._left = self._dice.sample(self.lane.kinds, len(self.lane.kinds))
        return self._left.pop()


def _faults(dice: Random, target: str, deck: _Deck, storm_seconds: float, first: _Deck | None) -> Iterator[Fault]:
    """One target's faults; the first one is dealt by another deck, if there is one."""
    lane = deck.lane
    pace = min(1.0, max(_DENSEST, storm_seconds / _USUAL_STORM_SECONDS))
    at = dice.uniform(0.1, 0.5) * lane.gap[1] * pace
    while at < storm_seconds:
        kind, first = (first or deck).deal(), None
        least, most = lane.seconds.get(kind, (0.0, 0.0))
        seconds = min(dice.uniform(least, most), storm_seconds + _AFTERMATH_SECONDS - at)
        if seconds >= least:
            yield Fault(round(at, 2), target, kind, round(seconds, 2))
            at += seconds
        at += dice.uniform(*lane.gap) * pace
