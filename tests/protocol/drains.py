"""What a drain may do next, and everything that may happen to it."""

from __future__ import annotations

from collections.abc import Iterator

import slot as script
from slot import Taken
from world import Compaction, Scenario, Store, Worker, World, Write, base, fold, reset_after

Steps = Iterator[tuple[str, World]]


def with_worker(world: World, number: int, worker: Worker) -> World:
    """The world with another state of that worker."""
    return world._replace(workers=(*world.workers[:number], worker, *world.workers[number + 1 :]))


def with_store(world: World, number: int, store: Store) -> World:
    """The world with another state of that store."""
    return world._replace(stores=(*world.stores[:number], store, *world.stores[number + 1 :]))


def with_write(world: World, number: int, write: Write) -> World:
    """The world with a write landed in that store."""
    store = world.stores[number]
    member, value = write
    content = (*store.content[:member], value, *store.content[member + 1 :])
    before = store.content if store.before else ()
    return with_store(world, number, store._replace(content=content, before=before))


def spent(world: World, fault: str, by: int = 1) -> World:
    """The world with one fault less to come."""
    return world._replace(faults=world.faults._replace(**{fault: getattr(world.faults, fault) - by}))


def new_life(world: World) -> int:
    """An incarnation that nobody has seen."""
    seen = [store.incarnation for store in world.stores]
    seen += [worker.incarnation for worker in world.workers]
    return 1 + max([*seen, *(cursor.incarnation for cursor in world.slot.cursors)])


def free_token(world: World) -> int:
    """A token that nobody has."""
    tokens = [token for other in world.workers for token in (other.token, *other.fenced)]
    tokens += [token for token, _, _ in world.late]
    return 1 + max(
        [*tokens, *(token for cursor in world.slot.cursors for token, _ in (*cursor.marks, (cursor.lease, 0)))]
    )


def drain_steps(scenario: Scenario, world: World, number: int) -> Steps:
    """What one worker may do next."""
    worker, rules = world.workers[number], scenario.rules
    if worker.step == "idle" and scenario.identity:
        yield from _open(scenario, world, number)
    elif worker.step in {"idle", "taking"}:
        yield from _take(scenario, world, number)
    elif worker.step == "read":
        yield from _read(scenario, world, number)
    elif worker.step == "importing":
        yield from _commit_import(scenario, world, number)
    elif worker.step == "parsed":
        slot, refused = world.slot, False
        for place in worker.doomed:
            if place not in slot.dead:
                slot, buried = script.bury(slot, worker.store, worker.token, worker.epoch, place, rules=rules)
                refused = refused or not buried
        after = worker._replace(step="write", doomed=())
        if refused:
            after = worker._replace(step="lost", doomed=(), todo=())
        yield (
            f"{worker.token} buries {worker.doomed}: {not refused}",
            with_worker(world._replace(slot=slot), number, after),
        )
    elif worker.step == "write" and worker.todo and scenario.skips and not worker.planned:
        yield from _plan(scenario, world, number)
    elif worker.step == "write" and worker.todo:
        yield from _write(scenario, world, number)
    elif worker.step == "write" and not worker.note:
        yield from _advance(scenario, world, number)
    elif worker.step == "done":
        if world.slot.last > worker.position:
            yield f"{worker.token} goes on", with_worker(world, number, worker._replace(step="read"))
        yield from release(scenario, world, number, "releases", clean=True)
    elif worker.step == "lost":
        slot, _ = script.rewind(world.slot, worker.store, worker.token, rules)
        yield f"{worker.token} rewinds", with_worker(world._replace(slot=slot), number, Worker(store=worker.store))


def _open(scenario: Scenario, world: World, number: int) -> Steps:
    """A session begins: it sees whose life the store leads, and gives it one if it has none."""
    worker = world.workers[number]
    store = world.stores[worker.store]
    if not store.incarnation:
        store = store._replace(incarnation=new_life(world))
        world = with_store(world, worker.store, store)
    after = worker._replace(step="taking", incarnation=store.incarnation, process=store.process)
    world = with_worker(world, number, after)
    if not scenario.rules.take_compares_identity:
        cursor = script.identify(world.slot.cursors[worker.store], (store.incarnation, store.process), scenario.rules)
        world = world._replace(slot=script.put(world.slot, worker.store, cursor))
    yield f"a worker opens store {worker.store}", world


def _take(scenario: Scenario, world: World, number: int) -> Steps:
    worker, rules = world.workers[number], scenario.rules
    store = worker.store
    orphans = frozenset(token for token, _ in world.slot.cursors[store].marks)
    token = free_token(world)
    slot, found = script.take(
        world.slot,
        store,
        token,
        fenced=worker.fenced,
        waived=frozenset() if scenario.fences else orphans,
        identity=(worker.incarnation, worker.process) if scenario.identity and rules.take_compares_identity else None,
        rules=rules,
    )
    after = world._replace(slot=slot)
    if isinstance(found, Taken):
        below = rules.strays_are_removed_below_floor and found.position < slot.floor and not found.fresh
        late_look = rules.strays_are_decided_at_each_read
        lease = worker._replace(
            step="read",
            token=token,
            epoch=found.epoch,
            position=found.position,
            fenced=(),
            fresh=found.fresh,
            strays=found.strays or (below and not late_look),
            base=found.base,
            chunks=found.chunks,
        )
        yield f"{token} takes the lease of store {store} at {found.position}", with_worker(after, number, lease)
    elif isinstance(found, frozenset):
        fenced = worker._replace(step="taking", fenced=tuple(sorted({*worker.fenced, *found})))
        after = with_worker(after, number, fenced)
        if rules.fence_before_settling_at_take:
            cut = tuple(w._replace(cut=w.cut or (w.token in found and w.token > 0)) for w in after.workers)
            late = frozenset(bytes_ for bytes_ in after.late if bytes_[0] not in found)
            after = after._replace(workers=cut, late=late)
        yield f"a worker fences {set(found)}", after
    elif worker.step == "taking":
        yield f"a worker finds it {found}", with_worker(after, number, Worker(store=store))


def _read(scenario: Scenario, world: World, number: int) -> Steps:
    worker, slot, rules = world.workers[number], world.slot, scenario.rules
    live = script.entries(slot, worker.position, rules)
    if live is None:
        yield _read_base(scenario, world, number)
        return
    upto = slot.last
    imports = sorted(place for place in slot.imports if place > worker.position)
    if imports and rules.imports_are_read_from_the_snapshot:
        upto = max(script.between(slot, worker.position, imports[0]), default=0)
        if not upto:
            yield _fold_import(scenario, world, number, imports[0])
            return
        live = [place for place in live if place <= upto]
    numbers = {place: batch for place, batch, _ in world.places}
    late = slot.late - slot.dead
    poison = [p for p in live if scenario.batches[numbers[p]].kind == "poison" and p not in late]
    fickle = [p for p in live if scenario.batches[numbers[p]].kind == "fickle" and not rules.death_is_of_the_batch]
    for doomed in [poison, poison + fickle] if fickle else [poison]:
        told = [(place, numbers[place]) for place in live if place not in doomed]
        net = fold(scenario, told, (None,) * scenario.members)
        todo = tuple(
            (member, decided[0] if decided else 0) for member, decided in enumerate(net) if decided or (worker.strays)
        )
        after = worker._replace(
            step="parsed" if doomed else "write",
            upto=upto,
            todo=todo,
            doomed=tuple(doomed),
            basing=False,
            base=0,
            chunks=0,
            planned=False,
        )
        what = f", kills {doomed}" if doomed else ""
        yield f"{worker.token} reads {live}{what}", with_worker(world, number, after)


def _fold_import(scenario: Scenario, world: World, number: int, place: int) -> tuple[str, World]:
    """Make the snapshot that has the import that comes next, and everything before it."""
    worker, slot = world.workers[number], world.slot
    merged = frozenset(late for late in slot.late - slot.dead if late <= place)
    live = {at for at in slot.stream if at <= place} - slot.dead | merged
    told = [(at, batch) for at, batch, _ in world.places if at in live]
    content = fold(scenario, told, world.content, world.reset)
    passed = frozenset(at for at in slot.dead if at <= place)
    draft = script.Draft(slot.snapshot, place, slot.floor, merged, passed)
    made = Compaction(draft, content, reset_after(scenario, told, world.reset))
    after = with_worker(world, number, worker._replace(step="importing", made=made))
    return f"{worker.token} folds the import at {place}: {content}", after


def _commit_import(scenario: Scenario, world: World, number: int) -> Steps:
    """Who commits it need not have the lease any more. Where it is refused, its cursor may have gone back: it ends."""
    worker, made = world.workers[number], world.workers[number].made
    assert made is not None
    slot, done = script.commit(world.slot, world.slot.snapshot + 1, made.draft, rules=scenario.rules)
    if not done and world.slot.snapshot == made.draft.seen:
        yield from release(scenario, world, number, "cannot commit the import, and releases", clean=True)
        return
    after = with_worker(world._replace(slot=slot), number, worker._replace(step="read", made=None))
    if done:
        after = after._replace(content=made.content, reset=made.reset)
    yield f"{worker.token} commits the import at {made.draft.upto}: {done}", after


def _read_base(scenario: Scenario, world: World, number: int) -> tuple[str, World]:
    worker, slot = world.workers[number], world.slot
    if worker.base != slot.snapshot and scenario.rules.progress_is_of_one_snapshot:
        worker = worker._replace(chunks=0)
    below = worker.position < slot.floor
    two_way = worker.strays
    if scenario.rules.strays_are_decided_at_each_read and scenario.rules.strays_are_removed_below_floor:
        two_way = two_way or (below and not worker.fresh)
    todo = tuple(
        (member, decided[0] if decided else 0)
        for member, decided in enumerate(base(scenario, world))
        if (not scenario.chunked or member == worker.chunks)
        and (two_way or (decided and (decided[1] > worker.position or (below and not decided[1]))))
    )
    after = worker._replace(step="write", basing=True, planned=False, base=slot.snapshot, upto=slot.trimmed, todo=todo)
    return f"{worker.token} reads chunk {worker.chunks} of the base at {slot.trimmed}: {todo}", with_worker(
        world, number, after
    )


def _plan(scenario: Scenario, world: World, number: int) -> Steps:
    """What the store holds already is not written; whatever is written meanwhile by others, this drain does not see."""
    worker, store = world.workers[number], world.stores[world.workers[number].store]
    for seen in {store.content} if scenario.rules.skip_needs_consistent_read else {store.content, store.before}:
        todo = tuple((member, value) for member, value in worker.todo if seen[member] != value)
        after = with_worker(world, number, worker._replace(todo=todo, planned=True))
        yield f"{worker.token} reads {seen}, and has {todo} to write", after


def _write(scenario: Scenario, world: World, number: int) -> Steps:
    worker = world.workers[number]
    token, write = worker.token, worker.todo[0]
    _, renewed = script.renew(world.slot, worker.store, token, worker.epoch)
    if not renewed:
        yield f"{token} finds the lease lost", with_worker(world, number, worker._replace(step="lost", todo=()))
    # It need not look before each write, nor write at once after it has looked: so it may write all the same.
    elsewhere = scenario.identity and worker.process != world.stores[worker.store].process
    if worker.cut or elsewhere:
        yield from release(scenario, world, number, "finds its connection cut", clean=False)
        if worker.cut:
            return
    wrote = worker._replace(todo=worker.todo[1:], fresh=worker.fresh and not scenario.rules.fresh_until_first_write)
    written = world if elsewhere else with_write(world, worker.store, write)
    yield f"{token} writes {write}{' to the old server' if elsewhere else ''}", with_worker(written, number, wrote)
    if world.faults.timeouts and not elsewhere:
        late = spent(world._replace(late=world.late | {(token, worker.store, write)}), "timeouts")
        yield from release(scenario, late, number, f"has no answer to {write}", clean=False)
    if world.faults.refusals:
        yield from release(scenario, spent(world, "refusals"), number, f"is refused {write}", clean=True)


def _advance(scenario: Scenario, world: World, number: int) -> Steps:
    worker, rules = world.workers[number], scenario.rules
    chunks = worker.chunks + 1
    if worker.basing and scenario.chunked and chunks < scenario.members:
        slot, moved = script.advance_base(
            world.slot, worker.store, worker.token, worker.epoch, (worker.base, chunks), rules=rules
        )
        after = with_worker(
            world._replace(slot=slot), number, worker._replace(step="read" if moved else "lost", chunks=chunks)
        )
        yield f"{worker.token} has written {chunks} chunks: {moved}", after
        if moved and world.faults.pauses:
            yield from release(scenario, spent(after, "pauses"), number, "pauses, and releases", clean=True)
        return
    slot, moved = script.advance(world.slot, worker.store, worker.token, worker.epoch, worker.upto, rules=rules)
    position = worker.upto if moved else worker.position
    after = with_worker(
        world._replace(slot=slot),
        number,
        worker._replace(
            step="done" if moved else "lost", position=position, base=0, chunks=0, basing=False, strays=False
        ),
    )
    yield f"{worker.token} advances to {worker.upto}: {moved}", after


def release(scenario: Scenario, world: World, number: int, what: str, *, clean: bool) -> Steps:
    """A worker lets its lease go."""
    worker = world.workers[number]
    slot, due = script.release(world.slot, worker.store, worker.token, clean=clean, rules=scenario.rules)
    lost = due is None and worker.step == "done"
    after = worker._replace(step="lost") if lost else Worker(store=worker.store)
    yield f"{worker.token} {what}", with_worker(world._replace(slot=slot), number, after)
