"""Comparing a store with the log under the lease, and removing members of whom no log knows (rule 14)."""

from __future__ import annotations

import slot as script
from drains import Steps, free_token, release, with_worker
from slot import Taken
from world import Scenario, Worker, World, known_at


def audit_steps(scenario: Scenario, world: World, number: int) -> Steps:
    """What one worker may do next that compares, or may begin to.

    A store's note says that strays are due; each new reason for it is another number.
    """
    worker, rules = world.workers[number], scenario.rules
    store = worker.store
    note = world.notes[store]
    if worker.step == "idle" and note:
        orphans = frozenset(token for token, _ in world.slot.cursors[store].marks)
        token = free_token(world)
        slot, found = script.take(world.slot, store, token, waived=orphans, audit=True, rules=rules)
        if isinstance(found, Taken):
            audit = Worker("compare", store, token, found.epoch, found.position, note=note)
            yield (
                f"{token} takes the lease to compare, at {found.position}",
                with_worker(world._replace(slot=slot), number, audit),
            )
    elif worker.step == "compare" and worker.position < world.slot.trimmed:
        yield from release(scenario, world, number, "finds entries that the store lacks", clean=True)
    elif worker.step == "compare":
        right = known_at(scenario, world, worker.position)
        content = world.stores[store].content
        strays = tuple((member, 0) for member, there in enumerate(content) if there and not right[member])
        audit = worker._replace(step="write", todo=strays, upto=worker.position)
        yield f"{worker.token} finds strays: {strays}", with_worker(world, number, audit)
    elif worker.step == "write" and worker.note and not worker.todo:
        slot, due = script.release(world.slot, store, worker.token, clean=True, rules=rules)
        after = worker._replace(step="lost" if due is None else "compared", todo=())
        yield f"{worker.token} has compared", with_worker(world._replace(slot=slot), number, after)
    elif worker.step == "compared":
        same = note == worker.note or not rules.note_of_strays_is_cleared_if_unchanged
        notes = tuple(0 if same and other == store else kept for other, kept in enumerate(world.notes))
        done = with_worker(world._replace(notes=notes), number, Worker(store=store))
        yield "a worker notes that strays are gone" if same else "a worker finds another note of strays", done
