"""What is explored: scenarios that must hold, and for each rule one in which the store ends wrong without it."""

from __future__ import annotations

from world import Batch, Faults, Scenario

# Entries by position: who is in and who is out. Positions leave room between them.
_IN_OUT = (Batch(2, ((0, 1),)), Batch(4, ((0, 0),)))
_IN = _IN_OUT[:1]
_TWO_MEMBERS = (Batch(2, ((0, 1), (1, 1))), Batch(4, ((0, 0),)), Batch(6, ((1, 0),)))
_HALF_OUT = (Batch(2, ((0, 1), (1, 1))), Batch(4, ((0, 0),)))
# The classic accident: a batch that adds somebody dies, a later one removes them, the first is replayed.
_DEAD = (Batch(2, ((0, 1), (1, 1)), "dead"), Batch(4, ((0, 0),)))
_POISON = (Batch(2, ((0, 1), (1, 1)), "poison"), Batch(4, ((0, 0),)))
_BETWEEN = (Batch(2, ((0, 1),)), Batch(3, ((0, 1), (1, 1)), "rejected"), Batch(4, ((0, 0),)))
# A batch without members moves the log on: what was decided before it can be below the floor.
_ON = Batch(6, ())
_BEFORE = (Batch(2, ((0, 0), (1, 1)), "rejected"), Batch(4, ((0, 1),)), _ON)
_AFTER = (Batch(2, ((1, 1),)), Batch(3, ((0, 1),), "rejected"))
_BELOW = (Batch(1, ((0, 1),), "rejected"), Batch(2, ((1, 1),)))
_APART = (Batch(2, ((1, 1),)), Batch(4, ((0, 1),)))
_EARLIEST = (Batch(1, ((1, 1),), "rejected"), Batch(2, ((0, 1),)), Batch(4, ((0, 0),)))
# The clock steps back after a body was rejected: the next stamp is below the rejected one's position.
_CLOCK_BACK = (Batch(2, ((0, 1),)), Batch(5, ((1, 1),), "rejected"), Batch(3, ((0, 0),)))
_OUT_IN = (Batch(2, ((0, 0),)), Batch(4, ((0, 1),)))
_FICKLE = (Batch(2, ((0, 1),), "fickle"),)

# A replace: the first member is out, the second stays; what comes after it decides as ever.
_REPLACE = (Batch(2, ((0, 1), (1, 1))), Batch(4, ((1, 1),), "replace"))
_REPLACE_THEN = (*_REPLACE, Batch(6, ((0, 1),)))
_REPLACE_TWICE = (Batch(2, ((0, 1),)), Batch(4, ((1, 1),), "replace"), Batch(6, ((0, 1),), "replace"))
# Somebody of whom the log knew nothing when the replace was folded is added by a replay at a place before it.
_REPLAY_BEFORE_REPLACE = (Batch(1, ((1, 1),)), Batch(2, ((0, 1),), "rejected"), Batch(4, ((1, 1),), "replace"))
_DEAD_BEFORE_REPLACE = (Batch(2, ((0, 1), (1, 1)), "dead"), Batch(4, ((1, 1),), "replace"))
_REPLAY_AFTER_REPLACE = (Batch(2, ((0, 1),)), Batch(4, (), "replace"), Batch(6, ((0, 1),), "rejected"))

_STALE_LEASE = Scenario(_IN_OUT, Faults(expiries=2))
_TIMEOUT = Scenario(_IN_OUT, Faults(timeouts=1))
_REPLAY = Scenario(_DEAD, Faults(replays=1, expiries=1))
_BURIAL = Scenario(_POISON, Faults(replays=1, expiries=1))
_CLOCK = Scenario(_CLOCK_BACK, Faults(replays=1))
_TWO_STORES = Scenario(_DEAD[:1], Faults(replays=1, expiries=1), workers=(0, 1))
_SNAPSHOT = Scenario(_BETWEEN, Faults(replays=1, compactions=1, expiries=1), floors=True)
_FLOOR = Scenario(_BEFORE, Faults(replays=1, compactions=1), floors=True)
_TWO_COMPACTORS = Scenario(_BETWEEN, Faults(replays=1, compactions=2), compactors=2, floors=True)
_PRESSURE = Scenario(
    (*_IN_OUT, _ON), Faults(compactions=1), workers=(0, 1), floors=True, bound="first", commit_bound="first"
)
_HALF_FILLED = Scenario(
    (*_IN_OUT, _ON), Faults(compactions=1, kills=1), workers=(0,), floors=True, bound="none", commit_bound="none"
)
_CHUNKS = Scenario(
    _BELOW, Faults(replays=1, compactions=1, pauses=1), workers=(0,), chunked=True, bound="none", commit_bound="none"
)
_NEW_CHUNKS = Scenario(
    _HALF_OUT, Faults(compactions=2), workers=(0, 1), chunked=True, bound="first", commit_bound="first"
)
# Strays that are there from the start, and an audit that removes them.
_AUDIT = Scenario(_BELOW, Faults(replays=1, timeouts=1), held=(1, 1))
_AUDIT_AGAIN = Scenario(_BELOW[1:], Faults(swaps=1), held=(1, 0))
_WIPE = Scenario(_IN, Faults(wipes=1, kills=1), identity=True)
_SWAP = Scenario(_AFTER, Faults(swaps=1), identity=True)
_FAILOVER = Scenario(_APART, Faults(failovers=1, ticks=2), workers=(0,), identity=True)
_OLD_PRIMARY = Scenario(_IN, Faults(failovers=1, ticks=1), identity=True)
_FAILOVER_AFTER_REPLAY = Scenario(_EARLIEST, Faults(failovers=1, ticks=2, replays=1), workers=(0,), identity=True)
_LAGGING_REPLACE = Scenario(_REPLACE, Faults(), workers=(0, 1))
_RESET = Scenario(_REPLAY_BEFORE_REPLACE, Faults(replays=1, compactions=1), floors=True)
_SKIPS = Scenario(_IN_OUT, Faults(expiries=1, timeouts=1), skips=True)

HOLDS: dict[str, Scenario] = {
    "a lost lease": _STALE_LEASE,
    "a lost lease, a kill and a time-out": Scenario(_IN_OUT, Faults(expiries=1, kills=1, timeouts=1)),
    "two kills and a refusal": Scenario(_IN_OUT, Faults(kills=2, refusals=1)),
    "three workers": Scenario(_IN_OUT, Faults(expiries=2), workers=(0, 0, 0)),
    "three entries and two members": Scenario(_TWO_MEMBERS, Faults(expiries=1, kills=1)),
    "a store that fences, a lost lease, a kill and a time-out": Scenario(
        _IN_OUT, Faults(expiries=1, kills=1, timeouts=1), fences=True
    ),
    "replay of a dead entry": _REPLAY,
    "replay of a dead entry, a kill and a time-out": Scenario(_DEAD, Faults(replays=1, kills=1, timeouts=1)),
    "replay of an entry that drains still bury": _BURIAL,
    "replay of a rejected body between entries": Scenario(_BETWEEN, Faults(replays=1, kills=1)),
    "replay after the last entry, by a clock that steps back": _CLOCK,
    "replay with two stores": _TWO_STORES,
    "a snapshot, a lost lease and a time-out": Scenario(
        _IN_OUT, Faults(compactions=1, expiries=1, timeouts=1), floors=True
    ),
    "a snapshot and a dead entry that is replayed or expires": Scenario(
        _DEAD, Faults(compactions=1, kills=1, replays=1), floors=True
    ),
    "a snapshot and a replay": _SNAPSHOT,
    "a snapshot and a replay below everything": _FLOOR,
    "two compactors and a replay": _TWO_COMPACTORS,
    "snapshots past a store that lags": _PRESSURE,
    "snapshots past every cursor and mark": Scenario(
        _BETWEEN, Faults(compactions=1, replays=1, timeouts=1), floors=True, bound="none", commit_bound="none"
    ),
    "snapshots past a store that was half filled": _HALF_FILLED,
    "a base in chunks and a replay": _CHUNKS,
    "a base in chunks that is replaced": _NEW_CHUNKS,
    "a base in chunks that is replaced by one that forgets": Scenario(
        (*_HALF_OUT, _ON),
        Faults(compactions=2),
        workers=(0,),
        floors=True,
        chunked=True,
        bound="none",
        commit_bound="none",
    ),
    "a replace, a lost lease and a time-out": Scenario(_REPLACE_THEN, Faults(expiries=1, timeouts=1)),
    "a replace and kills": Scenario(_REPLACE_THEN, Faults(kills=2)),
    "a replace, a second store and a kill": Scenario(_REPLACE, Faults(kills=1), workers=(0, 1)),
    "a replace that two stores come to at once": _LAGGING_REPLACE,
    "two replaces and a second store": Scenario(_REPLACE_TWICE, Faults(kills=1), workers=(0, 1)),
    "a replace, a snapshot and a replay before it": _RESET,
    "a replace, a second store and a replay before it": Scenario(
        _REPLAY_BEFORE_REPLACE, Faults(replays=1, compactions=1), workers=(0, 1), floors=True
    ),
    "a replace and a dead entry that is replayed": Scenario(
        _DEAD_BEFORE_REPLACE, Faults(replays=1, expiries=1, kills=1)
    ),
    "a replace, a dead entry that is replayed or expires, and a snapshot": Scenario(
        _DEAD_BEFORE_REPLACE, Faults(replays=1, compactions=1, kills=1), floors=True
    ),
    "a replace and a replay after it": Scenario(_REPLAY_AFTER_REPLACE, Faults(replays=1, kills=1)),
    "a replace that is read in chunks, and a replay": Scenario(
        _REPLAY_BEFORE_REPLACE, Faults(replays=1, pauses=1, kills=1), workers=(0,), chunked=True
    ),
    "a replace that is read in chunks while the snapshot is replaced": Scenario(
        _REPLACE_TWICE,
        Faults(compactions=1, pauses=1),
        workers=(0, 1),
        chunked=True,
        floors=True,
        bound="first",
        commit_bound="first",
    ),
    "a replace and a failover": Scenario(_REPLACE, Faults(failovers=1, ticks=1), workers=(0,), identity=True),
    "a replace and a wiped store": Scenario(_REPLACE, Faults(wipes=1), workers=(0,), identity=True),
    "a replace and a rebuild": Scenario(_REPLACE, Faults(rebuilds=1, timeouts=1)),
    "a rebuild, a lost lease and a time-out": Scenario(_AFTER, Faults(rebuilds=1, expiries=1, timeouts=1)),
    "an audit, a replay and a time-out": _AUDIT,
    "an audit, a replay and a lost lease": Scenario(_BELOW, Faults(replays=1, expiries=1), held=(1, 1)),
    "an audit while strays come back": _AUDIT_AGAIN,
    "a wiped store and a kill": _WIPE,
    "a wiped store and a snapshot": Scenario(
        _OUT_IN, Faults(wipes=1, compactions=1), workers=(0,), identity=True, floors=True
    ),
    "a store that is another one": _SWAP,
    "a failover": _FAILOVER,
    "a failover under a drain": _OLD_PRIMARY,
    "a failover after a replay": _FAILOVER_AFTER_REPLAY,
    "a failover after a time-out": Scenario(
        _IN_OUT, Faults(failovers=1, ticks=1, timeouts=1), workers=(0,), identity=True
    ),
    "deaths are of the batch": Scenario(_FICKLE, Faults(kills=1)),
    "a store that is read first, a lost lease and a time-out": _SKIPS,
    "a store that is read first, kills and a time-out": Scenario(_IN_OUT, Faults(kills=2, timeouts=1), skips=True),
    "a store that is read first, two time-outs": Scenario(_OUT_IN, Faults(timeouts=2, expiries=1), skips=True),
    "a store that is read first, a replay and a kill": Scenario(_DEAD, Faults(replays=1, kills=1), skips=True),
}

NEEDED: dict[str, Scenario] = {
    "rewind_bumps_epoch": _STALE_LEASE,
    "advance_checks_epoch": _STALE_LEASE,
    "open_marks": Scenario(_IN_OUT, Faults(expiries=1, kills=1)),
    "settle_waits_for_late_bytes": _TIMEOUT,
    "unclean_release_keeps_mark": _TIMEOUT,
    "fence_before_settling_at_take": Scenario(_IN_OUT, Faults(kills=1, expiries=1), fences=True),
    "replay_rewinds_cursors": _REPLAY,
    "replay_rewinds_stores_unknown_to_the_caller": _TWO_STORES,
    "replay_bumps_epoch": _REPLAY,
    "replay_bumps_epoch_of_cursors_before_it": _REPLAY,
    "replay_keeps_position": _REPLAY,
    "append_comes_after_what_was_replayed": _CLOCK,
    "bury_checks_epoch": _BURIAL,
    "death_is_of_the_batch": Scenario(_FICKLE, Faults(kills=1)),
    "behind_is_told": _SNAPSHOT,
    "commit_compares_snapshot": _TWO_COMPACTORS,
    "commit_drops_only_merged": _SNAPSHOT,
    "floor_waits_for_replays": _FLOOR,
    "replay_below_floor_is_refused": _FLOOR,
    "removed_members_stay": _SNAPSHOT,
    "positions_stay": _FLOOR,
    "strays_are_removed_below_floor": _PRESSURE,
    "strays_are_decided_at_each_read": _PRESSURE,
    "fresh_until_first_write": _HALF_FILLED,
    "progress_is_of_one_snapshot": _NEW_CHUNKS,
    "progress_is_forgotten_on_rewind": _CHUNKS,
    "progress_checks_epoch": _CHUNKS,
    "imports_are_read_from_the_snapshot": _LAGGING_REPLACE,
    "replaced_members_stay": _LAGGING_REPLACE,
    "resets_stay": _RESET,
    "cursor_carries_incarnation": _WIPE,
    "void_removes_strays": _SWAP,
    "audit_marks_from_the_start": _AUDIT,
    "note_of_strays_is_cleared_if_unchanged": _AUDIT_AGAIN,
    "take_compares_identity": _OLD_PRIMARY,
    "cursor_carries_process": _FAILOVER,
    "trail_is_two_steps_long": _FAILOVER,
    "rewind_lowers_trail": _FAILOVER_AFTER_REPLAY,
    "skip_needs_consistent_read": _SKIPS,
}
