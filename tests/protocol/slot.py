"""What the Lua scripts do to one segment's log and its stores' cursors, as pure functions on a small value.

The exhaustive model explores these functions, and the in-step test compares them with the scripts, call by call.
Positions are the numbers 1, 2, 3 …, 0 being before all; tokens and identities are numbers too, 0 meaning none. What the
entries say is not known here, as the scripts do not know it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of the protocol; the model shows for each what goes wrong without it."""

    # Drains
    rewind_bumps_epoch: bool = True
    advance_checks_epoch: bool = True
    open_marks: bool = True
    settle_waits_for_late_bytes: bool = True
    unclean_release_keeps_mark: bool = True
    fence_before_settling_at_take: bool = True
    release_checks_log: bool = True
    # Replay
    replay_rewinds_cursors: bool = True
    replay_rewinds_stores_unknown_to_the_caller: bool = True
    replay_bumps_epoch: bool = True
    replay_bumps_epoch_of_cursors_before_it: bool = True
    replay_keeps_position: bool = True
    append_comes_after_what_was_replayed: bool = True
    bury_checks_epoch: bool = True
    death_is_of_the_batch: bool = True
    # Snapshots
    behind_is_told: bool = True
    commit_compares_snapshot: bool = True
    commit_drops_only_merged: bool = True
    floor_waits_for_replays: bool = True
    replay_below_floor_is_refused: bool = True
    removed_members_stay: bool = True
    positions_stay: bool = True
    strays_are_removed_below_floor: bool = True
    strays_are_decided_at_each_read: bool = True
    fresh_until_first_write: bool = True
    progress_is_of_one_snapshot: bool = True
    progress_is_forgotten_on_rewind: bool = True
    progress_checks_epoch: bool = True
    # Imports
    imports_are_read_from_the_snapshot: bool = True
    replaced_members_stay: bool = True
    resets_stay: bool = True
    # Identity of the store
    cursor_carries_incarnation: bool = True
    void_removes_strays: bool = True
    audit_marks_from_the_start: bool = True
    note_of_strays_is_cleared_if_unchanged: bool = True
    cursor_carries_process: bool = True
    trail_is_two_steps_long: bool = True
    rewind_lowers_trail: bool = True
    take_compares_identity: bool = True
    # Stores that are read before they are written
    skip_needs_consistent_read: bool = True


RULES = Rules()
NONE = -1  # where a trail has not begun yet


class Cursor(NamedTuple):
    """How far one store has applied the log. ``marks`` holds (token, began) pairs.

    ``fresh``: nobody has drained yet. ``strays``: the store may hold members that no entry names. ``ripe``: the trail
    (``past``, ``recent``) was last moved so long ago that it moves with the next advance.
    """

    position: int = 0
    epoch: int = 0
    woken: bool = False
    lease: int = 0
    beat: int = 0
    marks: frozenset[tuple[int, int]] = frozenset()
    suspect: bool = False
    fresh: bool = True
    strays: bool = False
    base: int = 0
    chunks: int = 0
    incarnation: int = 0
    process: int = 0
    past: int = NONE
    recent: int = NONE
    ripe: bool = True


class Slot(NamedTuple):
    """The slot's state. ``late``: positions of entries beside the stream. ``snapshot``: token of the newest.

    ``imports``: positions of those entries of the stream that are imports.
    """

    stream: tuple[int, ...] = ()
    last: int = 0
    dead: frozenset[int] = frozenset()
    late: frozenset[int] = frozenset()
    snapshot: int = 0
    trimmed: int = 0
    floor: int = 0
    cursors: tuple[Cursor, ...] = (Cursor(),)
    imports: frozenset[int] = frozenset()


class Taken(NamedTuple):
    """A lease: where it starts and in which epoch; how many chunks of which base are in the store."""

    position: int
    epoch: int
    fresh: bool = False
    strays: bool = False
    base: int = 0
    chunks: int = 0


def put(slot: Slot, store: int, cursor: Cursor) -> Slot:
    """The slot with another cursor for that store."""
    return slot._replace(cursors=(*slot.cursors[:store], cursor, *slot.cursors[store + 1 :]))


def _arm(slot: Slot, store: int) -> tuple[Slot, bool]:
    cursor = slot.cursors[store]
    if cursor.lease or cursor.woken or slot.last <= cursor.position:
        return slot, False
    return put(slot, store, cursor._replace(woken=True)), True


def _rewound(cursor: Cursor, to: int, rules: Rules, *, bump: bool = True) -> Cursor:
    cursor = cursor._replace(position=min(cursor.position, to), epoch=cursor.epoch + bump)
    if rules.progress_is_forgotten_on_rewind:
        cursor = cursor._replace(base=0, chunks=0)
    if rules.rewind_lowers_trail:
        cursor = cursor._replace(past=min(cursor.past, to), recent=min(cursor.recent, to))
    return cursor


def _rewind_mark(cursor: Cursor, token: int, rules: Rules) -> Cursor:
    began = dict(cursor.marks).get(token)
    if began is None:
        return cursor
    cursor = cursor._replace(marks=cursor.marks - {(token, began)})
    return _rewound(cursor, began, rules, bump=rules.rewind_bumps_epoch)


def append(
    slot: Slot, stamp: int | None = None, rules: Rules = RULES, *, imports: bool = False
) -> tuple[Slot, list[bool]]:
    """append.lua: one more entry, by the clock's stamp if that is later than all; which wake-ups are due."""
    last = slot.last if rules.append_comes_after_what_was_replayed else max(slot.stream, default=0)
    place = last + 1 if stamp is None else max(stamp, last + 1)
    if imports:
        slot = slot._replace(imports=slot.imports | {place})
    return arm_all(slot._replace(stream=(*slot.stream, place), last=max(slot.last, place)))


def arm_all(slot: Slot) -> tuple[Slot, list[bool]]:
    """Which stores' wake-ups are due; they are claimed."""
    due = []
    for store in range(len(slot.cursors)):
        slot, one = _arm(slot, store)
        due.append(one)
    return slot, due


def take(
    slot: Slot,
    store: int,
    token: int,
    *,
    fenced: Collection[int] = (),
    waived: Collection[int] = (),
    identity: tuple[int, int] | None = None,
    audit: bool = False,
    rules: Rules = RULES,
) -> tuple[Slot, str | frozenset[int] | Taken]:
    """take.lua: "busy", "idle", the orphans' tokens, or the lease.

    ``identity``: incarnation and process of the store, as the session has seen them that will write. ``audit``: it will
    look at everything, though nothing waits, and may remove members whom no entry after the cursor names.
    """
    cursor = slot.cursors[store]._replace(woken=False)
    if cursor.lease:
        return put(slot, store, cursor), "busy"
    for orphan in fenced:
        cursor = _rewind_mark(cursor, orphan, rules)
    orphans = frozenset(orphan for orphan, _ in cursor.marks) - set(waived)
    if orphans:
        return put(slot, store, cursor), orphans
    if identity is not None:
        cursor = identify(cursor, identity, rules)
    if slot.last <= cursor.position and not audit:
        return put(slot, store, cursor), "idle"
    taken = Taken(cursor.position, cursor.epoch, cursor.fresh, cursor.strays, cursor.base, cursor.chunks)
    if rules.open_marks:
        began = 0 if audit and rules.audit_marks_from_the_start else cursor.position
        cursor = cursor._replace(marks=cursor.marks | {(token, began)})
    cursor = cursor._replace(lease=token, beat=1, fresh=cursor.fresh and not rules.fresh_until_first_write)
    return put(slot, store, cursor), taken


def identify(cursor: Cursor, identity: tuple[int, int], rules: Rules = RULES) -> Cursor:
    """The part of take.lua that compares whose life the cursor was made for (rules 12 and 13)."""
    incarnation, process = identity
    if rules.cursor_carries_incarnation and cursor.incarnation not in {0, incarnation}:
        cursor = _rewound(cursor, 0, rules)._replace(past=NONE, recent=NONE, ripe=True, fresh=False)
        cursor = cursor._replace(strays=rules.void_removes_strays)
    elif rules.cursor_carries_process and cursor.process not in {0, process}:
        to = cursor.past if rules.trail_is_two_steps_long or not cursor.ripe else cursor.recent
        cursor = _rewound(cursor, max(to, 0), rules)
    return cursor._replace(incarnation=incarnation, process=process)


def renew(slot: Slot, store: int, token: int, epoch: int) -> tuple[Slot, bool]:
    """renew.lua: whether the lease and its epoch still stand."""
    cursor = slot.cursors[store]
    if cursor.lease != token or cursor.epoch != epoch:
        return slot, False
    return put(slot, store, cursor._replace(beat=cursor.beat + 1)), True


def entries(slot: Slot, position: int, rules: Rules = RULES) -> list[int] | None:
    """read.lua: the positions of the live entries after a position; None when that is behind the snapshot."""
    if position < slot.trimmed and rules.behind_is_told:
        return None
    return sorted(place for place in {*slot.stream, *slot.late} - slot.dead if place > position)


def between(slot: Slot, above: int, below: int) -> list[int]:
    """The entries between two positions, dead ones, too."""
    return [place for place in {*slot.stream, *slot.late} if above < place < below]


def advance(
    slot: Slot, store: int, token: int, epoch: int, position: int, *, rules: Rules = RULES
) -> tuple[Slot, bool]:
    """advance.lua: move cursor, trail and open mark, if the lease and its epoch still stand."""
    cursor = slot.cursors[store]
    if cursor.lease != token or (rules.advance_checks_epoch and cursor.epoch != epoch):
        return slot, False
    if rules.open_marks and token not in dict(cursor.marks):
        return slot, False
    if cursor.ripe:
        past = cursor.position if cursor.recent == NONE else cursor.recent
        cursor = cursor._replace(past=past, recent=cursor.position, ripe=False)
    marks = frozenset((t, position if t == token else began) for t, began in cursor.marks)
    cursor = cursor._replace(position=position, beat=cursor.beat + 1, marks=marks, base=0, chunks=0, strays=False)
    return put(slot, store, cursor), True


def advance_base(
    slot: Slot, store: int, token: int, epoch: int, progress: tuple[int, int], *, rules: Rules = RULES
) -> tuple[Slot, bool]:
    """advance_base.lua: note of which base how many chunks are in the store. Cursor and mark stay."""
    cursor = slot.cursors[store]
    if cursor.lease != token or (rules.progress_checks_epoch and cursor.epoch != epoch):
        return slot, False
    return put(slot, store, cursor._replace(beat=cursor.beat + 1, base=progress[0], chunks=progress[1])), True


def release(slot: Slot, store: int, token: int, *, clean: bool, rules: Rules = RULES) -> tuple[Slot, bool | None]:
    """release.lua: whether a wake-up is due, or None when the lease was lost."""
    cursor = slot.cursors[store]
    if cursor.lease != token:
        return slot, None
    cursor = cursor._replace(lease=0)
    if clean or not rules.unclean_release_keeps_mark:
        marks = frozenset(mark for mark in cursor.marks if mark[0] != token)
        cursor = cursor._replace(marks=marks, suspect=False)
    slot = put(slot, store, cursor)
    return _arm(slot, store) if rules.release_checks_log else (slot, False)


def rewind(slot: Slot, store: int, token: int, rules: Rules = RULES) -> tuple[Slot, bool]:
    """rewind.lua: whether a wake-up is due. A lease that is still that drain's own is given back."""
    cursor = _rewind_mark(slot.cursors[store], token, rules)
    return _arm(put(slot, store, cursor._replace(lease=0) if cursor.lease == token else cursor), store)


def settle(slot: Slot, store: int, token: int, rules: Rules = RULES) -> tuple[Slot, bool]:
    """settle.lua: whether a wake-up is due; nothing while that token holds the lease."""
    cursor = slot.cursors[store]
    if cursor.lease == token:
        return slot, False
    return _arm(put(slot, store, _rewind_mark(cursor, token, rules)), store)


def expire(slot: Slot, store: int, token: int, beat: int) -> tuple[Slot, bool]:
    """expire.lua: whether a wake-up is due; nothing when the lease moved or is another's."""
    cursor = slot.cursors[store]
    if cursor.lease != token or cursor.beat != beat:
        return slot, False
    return _arm(put(slot, store, cursor._replace(lease=0, suspect=True)), store)


def void(slot: Slot, store: int, rules: Rules = RULES) -> tuple[Slot, bool]:
    """void.lua: a rebuild; whether a wake-up is due."""
    cursor = _rewound(slot.cursors[store], 0, rules)
    return _arm(put(slot, store, cursor._replace(strays=rules.void_removes_strays)), store)


def bury(slot: Slot, store: int, token: int, epoch: int, place: int, *, rules: Rules = RULES) -> tuple[Slot, bool]:
    """bury.lua: decide for all stores that an entry is dead; whether this call decided it.

    Not by a drain that lost lease or epoch: the entry may have been replayed since it was read.
    """
    cursor = slot.cursors[store]
    if place in slot.dead or (rules.bury_checks_epoch and (cursor.lease, cursor.epoch) != (token, epoch)):
        return slot, False
    return slot._replace(dead=slot.dead | {place}), True


def insert(
    slot: Slot, place: int, *, of_dead: bool, known: Collection[int] | None = None, rules: Rules = RULES
) -> tuple[Slot, str, list[bool]]:
    """insert.lua: a replayed entry at its own position, every cursor just before it; which wake-ups are due."""
    if place < slot.floor and rules.replay_below_floor_is_refused:
        return slot, "below", []
    if of_dead and place not in slot.dead:
        return slot, "not dead", []
    if not of_dead and place in slot.late:
        return slot, "taken", []
    slot = slot._replace(dead=slot.dead - {place})
    if not rules.replay_keeps_position:
        place = slot.last + 1
    slot = slot._replace(late=slot.late | {place}, last=max(slot.last, place))
    for store, cursor in enumerate(slot.cursors):
        if known is not None and store not in known and not rules.replay_rewinds_stores_unknown_to_the_caller:
            continue
        if cursor.fresh and not cursor.incarnation:
            continue  # no drain has looked at it: there is nothing to go back from, and nobody to tell
        after = cursor
        moves = cursor.position >= place
        bump = rules.replay_bumps_epoch and (moves or rules.replay_bumps_epoch_of_cursors_before_it)
        if rules.replay_rewinds_cursors:
            after = _rewound(cursor, place - 1, rules, bump=bump)
        elif bump:
            after = cursor._replace(epoch=cursor.epoch + 1)
        slot = put(slot, store, after)
    slot, due = arm_all(slot)
    return slot, "inserted", due


def limit(slot: Slot, bound: str = "all") -> int:
    """How far a snapshot may reach.

    "all": below every cursor and open mark. "first": below the most advanced cursor. "none": anywhere.
    """
    if bound == "none":
        return slot.last
    if bound == "first":
        return max(cursor.position for cursor in slot.cursors)
    return min(min([cursor.position, *(began for _, began in cursor.marks)]) for cursor in slot.cursors)


class Draft(NamedTuple):
    """A snapshot that was made and not committed yet.

    ``seen``: the one it was made from. ``merged``: entries beside the stream that it holds. ``passed``: entries that
    were dead when it was made; the stream drops them, and those that are dead still lie beside it from then on.
    """

    seen: int
    upto: int
    floor: int
    merged: frozenset[int]
    passed: frozenset[int]


def commit(slot: Slot, token: int, draft: Draft, *, bound: str = "all", rules: Rules = RULES) -> tuple[Slot, bool]:
    """compact.lua: put a snapshot in the place of the one it was made from, and drop what it holds."""
    _, upto, floor, merged, passed = draft
    if rules.commit_compares_snapshot and slot.snapshot != draft.seen:
        return slot, False
    if upto != slot.trimmed and upto in slot.imports:
        # Of no store's parsing, and nothing lies between it and the store that is the furthest.
        if between(slot, limit(slot, "first"), upto):
            return slot, False
    elif bound != "none" and upto != slot.trimmed and upto > limit(slot, bound):
        return slot, False
    if bound != "none" and max(merged, default=0) > max(cursor.position for cursor in slot.cursors):
        return slot, False
    if not merged <= slot.late - slot.dead or not slot.floor <= floor <= upto:
        return slot, False
    if any(slot.trimmed < place <= upto and place not in passed for place in slot.dead):
        return slot, False
    if floor != slot.floor and bound != "none" and floor > limit(slot, bound):
        return slot, False
    live = {place for place in slot.late - slot.dead if place <= upto} - merged
    if rules.floor_waits_for_replays and any(place < floor for place in live | slot.dead):
        return slot, False
    late = {place for place in slot.late if place > upto or place in slot.dead}
    late |= {place for place in slot.stream if place <= upto and place in slot.dead}
    if rules.commit_drops_only_merged:
        late |= live
    return slot._replace(
        stream=tuple(place for place in slot.stream if place > upto),
        late=frozenset(late),
        snapshot=token,
        trimmed=upto,
        floor=floor,
        imports=frozenset(place for place in slot.imports if place > upto),
    ), True


def forget(slot: Slot, place: int) -> tuple[Slot, bool]:
    """dead_expire.lua: a dead entry's retention is over; never while the stream has it."""
    if place not in slot.dead or place > slot.trimmed:
        return slot, False
    return slot._replace(dead=slot.dead - {place}, late=slot.late - {place}), True
