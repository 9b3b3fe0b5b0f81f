"""Every mutant there is."""

from __future__ import annotations

from mutants import cursors, deletions, drains, logs, replays, stores, upkeep
from mutants.mutant import Mutant


def all_mutants() -> list[Mutant]:
    """All of them, by the part of the protocol that they belong to."""
    return [
        *cursors.MUTANTS,
        *logs.MUTANTS,
        *drains.MUTANTS,
        *replays.MUTANTS,
        *upkeep.MUTANTS,
        *stores.MUTANTS,
        *deletions.MUTANTS,
    ]
