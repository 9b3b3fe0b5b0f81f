"""Everything that may happen next: drains, deaths, late bytes, the sweeper, replays, snapshots, stores that change."""

from __future__ import annotations

import slot as script
from audits import audit_steps
from drains import Steps, drain_steps, new_life, spent, with_store, with_worker, with_write
from world import Compaction, Content, Scenario, Store, Worker, World, fold, reset_after


def steps(scenario: Scenario, world: World) -> Steps:
    """Everything that may happen next."""
    yield from _append(scenario, world)
    for number in range(len(world.workers)):
        yield from drain_steps(scenario, world, number)
        yield from audit_steps(scenario, world, number)
        yield from _kill(world, number)
    yield from _leases(world)
    yield from _late_bytes(scenario, world)
    if world.faults.replays:
        yield from _replay(scenario, world)
    yield from _compactions(scenario, world)
    for number in range(len(world.stores)):
        yield from _stores(scenario, world, number)


def _append(scenario: Scenario, world: World) -> Steps:
    while True:
        number = world.appended
        if number == len(scenario.batches):
            return
        world = world._replace(appended=number + 1)
        if scenario.batches[number].kind != "rejected":
            break
    batch = scenario.batches[number]
    slot, _ = script.append(world.slot, batch.stamp, scenario.rules, imports=batch.kind == "replace")
    place = slot.stream[-1]
    if batch.kind == "dead":
        slot = slot._replace(dead=slot.dead | {place})
    yield (
        f"batch {number} {dict(batch.writes)} is accepted at {place}",
        world._replace(slot=slot, places=tuple(sorted((*world.places, (place, number, place))))),
    )


def _kill(world: World, number: int) -> Steps:
    worker = world.workers[number]
    if worker.step == "idle" or not world.faults.kills:
        return
    dead = spent(with_worker(world, number, Worker(store=worker.store)), "kills")
    yield f"kill -9 {worker.token}", dead
    here = worker.process in {0, world.stores[worker.store].process}
    if worker.step == "write" and worker.todo and here and not worker.cut:
        yield (
            f"kill -9 {worker.token}, a write still under way",
            dead._replace(late=dead.late | {(worker.token, worker.store, worker.todo[0])}),
        )


def _leases(world: World) -> Steps:
    for store, cursor in enumerate(world.slot.cursors):
        owned = cursor.lease in {worker.token for worker in world.workers if worker.step != "idle"}
        if cursor.lease and (world.faults.expiries or not owned):
            slot, _ = script.expire(world.slot, store, cursor.lease, cursor.beat)
            yield f"the lease of {cursor.lease} expires", spent(world._replace(slot=slot), "expiries", owned)


def _late_bytes(scenario: Scenario, world: World) -> Steps:
    for token, store, write in world.late:
        left = world._replace(late=world.late - {(token, store, write)})
        yield f"late write {write} of {token} lands", with_write(left, store, write)
        yield f"late write {write} of {token} is gone for good", left
    for store, cursor in enumerate(world.slot.cursors):
        for token, _ in cursor.marks:
            alive = any(w.token == token for w in world.workers) or any(at == token for at, _, _ in world.late)
            if token != cursor.lease and not (alive and scenario.rules.settle_waits_for_late_bytes):
                slot, _ = script.settle(world.slot, store, token, scenario.rules)
                yield f"the sweeper settles {token}", world._replace(slot=slot)


def _replay(scenario: Scenario, world: World) -> Steps:
    there = {number for _, number, _ in world.places}
    found = [(place, number) for place, number, _ in world.places if place in world.slot.dead]
    found += [
        (batch.stamp, number)
        for number, batch in enumerate(scenario.batches)
        if batch.kind == "rejected" and number not in there and number <= world.appended
    ]
    for place, number in found:
        slot, answer, _ = script.insert(
            world.slot, place, of_dead=place in world.slot.dead, known=(0,), rules=scenario.rules
        )
        if answer != "inserted":
            continue
        at = place if scenario.rules.replay_keeps_position else slot.last
        places = {one for one in world.places if one[1] != number} | {(at, number, place)}
        yield (
            f"batch {number} {dict(scenario.batches[number].writes)} is replayed at {at}",
            spent(world._replace(slot=slot, places=tuple(sorted(places))), "replays"),
        )


def _compactions(scenario: Scenario, world: World) -> Steps:
    for number, compaction in enumerate(world.compactions):
        rest = world.compactions
        if compaction is None:
            if world.faults.compactions:
                for made in _snapshots(scenario, world):
                    after = spent(world, "compactions")._replace(
                        compactions=(*rest[:number], made, *rest[number + 1 :])
                    )
                    yield (
                        f"compactor {number} reads up to {made.draft.upto}, floor {made.draft.floor}: {made.content}",
                        after,
                    )
            continue
        slot, done = script.commit(
            world.slot,
            world.slot.snapshot + 1,
            compaction.draft,
            bound=scenario.commit_bound,
            rules=scenario.rules,
        )
        after = world._replace(slot=slot, compactions=(*rest[:number], None, *rest[number + 1 :]))
        if done:
            after = after._replace(content=compaction.content, reset=compaction.reset)
        yield f"compactor {number} commits a snapshot at {compaction.draft.upto}: {done}", after
    for place in world.slot.dead if scenario.floors else ():
        slot, gone = script.forget(world.slot, place)
        if gone:
            places = tuple(one for one in world.places if one[0] != place)
            yield f"the dead entry at {place} expires", world._replace(slot=slot, places=places)


def _snapshots(scenario: Scenario, world: World) -> list[Compaction]:
    slot = world.slot
    upto = max(script.limit(slot, scenario.bound), slot.trimmed)
    if any(place <= upto for place in slot.imports):  # a drain's to fold, that comes to it
        upto = max([slot.trimmed, *script.between(slot, slot.trimmed, min(slot.imports))])
    merged = frozenset(place for place in slot.late - slot.dead if place <= upto)
    if upto == slot.trimmed and not merged:
        return []
    live = {place for place in slot.stream if place <= upto} - slot.dead | merged
    told = [(place, number) for place, number, _ in world.places if place in live]
    whole = fold(scenario, told, world.content, world.reset)
    reset = reset_after(scenario, told, world.reset)
    passed = frozenset(place for place in slot.dead if place <= upto)
    floors = {slot.floor}
    if scenario.floors:
        # A floor lies between two entries as well as at one.
        places = {at for place, _, _ in world.places for at in (place, place + 1)}
        floors |= {at for at in places if slot.floor < at <= upto}
    drafts = [script.Draft(slot.snapshot, upto, floor, merged, passed) for floor in floors]
    return [
        Compaction(draft, _kept(scenario, whole, draft.floor), reset if reset >= draft.floor else 0) for draft in drafts
    ]


def _kept(scenario: Scenario, whole: Content, floor: int) -> Content:
    content: list[tuple[int, int] | None] = []
    for decided in whole:
        if decided is None or (not decided[0] and (decided[1] < floor or not scenario.rules.removed_members_stay)):
            content.append(None)
        elif decided[1] < floor or (decided[0] and not scenario.rules.positions_stay):
            content.append((decided[0], 0))
        else:
            content.append(decided)
    return tuple(content)


def _stores(scenario: Scenario, world: World, number: int) -> Steps:
    store, faults = world.stores[number], world.faults
    empty = (0,) * scenario.members
    if faults.wipes:
        wiped = Store(empty, 0, store.process, empty, empty)
        yield f"store {number} is wiped", spent(with_store(world, number, wiped), "wipes")
    sessions = [worker for worker in world.workers if worker.store == number and worker.process]
    processes = [store.process, world.slot.cursors[number].process, *(worker.process for worker in sessions)]
    successor = max(processes) + 1
    there = frozenset(bytes_ for bytes_ in world.late if bytes_[1] != number)
    if faults.swaps and scenario.held:
        slot, _ = script.void(world.slot, number, scenario.rules)
        slot = script.put(slot, number, slot.cursors[number]._replace(strays=False))  # they are left to an audit
        fresh = 1 + max([*world.notes, *(worker.note for worker in world.workers)])
        notes = tuple(fresh if other == number else note for other, note in enumerate(world.notes))
        again = with_store(world._replace(slot=slot, notes=notes), number, store._replace(content=scenario.held))
        yield f"store {number} holds {scenario.held} again, which is noted", spent(again, "swaps")
    elif faults.swaps:
        full = (1,) * scenario.members
        other = Store(full, new_life(world), successor, full, full)
        yield (
            f"store {number} is another one now",
            spent(with_store(world._replace(late=there), number, other), "swaps"),
        )
    if faults.failovers:
        other = store._replace(content=store.replica, process=successor, noted=store.replica, caught=True)
        yield (
            f"store {number} fails over and knows {store.replica}",
            spent(with_store(world._replace(late=there), number, other), "failovers"),
        )
        if store.replica != store.content:
            caught = store._replace(replica=store.content, caught=True)
            yield "the replica catches up", with_store(world, number, caught)
    cursor = world.slot.cursors[number]
    if faults.ticks and not cursor.ripe and all(worker.process == store.process for worker in sessions):
        replica = store.replica if store.caught else store.noted
        older = store._replace(replica=replica, noted=store.content, caught=False)
        slot = script.put(world.slot, number, cursor._replace(ripe=True))
        yield "ten minutes go by", spent(with_store(world._replace(slot=slot), number, older), "ticks")
    if faults.rebuilds:
        slot, _ = script.void(world.slot, number, scenario.rules)
        yield f"a rebuild of store {number} begins", spent(world._replace(slot=slot), "rebuilds")
