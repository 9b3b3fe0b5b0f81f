"""How a figure comes about: alternating rounds of ours and of its reference, and the median of their ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import harmonic_mean, median


@dataclass(frozen=True, slots=True)
class Result:
    """One figure of the report.

    Attributes:
        name: as in bench.json.
        value: the median of the rounds.
        unit: of the value; "ratio" where it is one, and shares are fractions.
        rounds: what each round gave.
        said: what was divided by what, for people.
    """

    name: str
    value: float
    unit: str
    rounds: Sequence[float]
    said: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: of each figure; odd.
        scale: by how much the work of a round is divided when it is quick.
        say: tells a person what is being done.
    """

    rounds: int = 5
    quick: bool = False
    say: Callable[[str], None] = field(default=print)

    def sized(self, full: int, quick: int) -> int:
        """How much work a round has."""
        return quick if self.quick else full


def over(name: str, ours: Sequence[float], reference: Sequence[float], *, said: str = "") -> Result:
    """Ours by the reference, round by round, and the median of that."""
    rounds = [one / other for one, other in zip(ours, reference, strict=True)]
    return Result(name, median(rounds), "ratio", rounds, said)


def alternate(plan: Plan, *sides: Callable[[], float], turns: int = 1) -> list[list[float]]:
    """Do each side's work in each round, in an order that turns; the rates that each gave, round by round.

    With several turns a round, sides change places within it, and the rate is that of all its turns: a machine whose
    neighbours come and go by the second is then the same for all of them.
    """
    found: list[list[float]] = [[] for _ in sides]
    for number in range(plan.rounds):
        rates: list[list[float]] = [[] for _ in sides]
        for turn in range(turns):
            for place in range(len(sides)):
                side = (place + number + turn) % len(sides)
                rates[side].append(sides[side]())
        for side, of_turns in enumerate(rates):
            found[side].append(harmonic_mean(of_turns))  # each turn has the same work
    return found
