"""Guards of logs: what is appended, read, replayed, buried and compacted (rules 1 to 3, 17 to 19)."""

# ruff: noqa: E501 - texts of other files, whole lines
from __future__ import annotations

from mutants.mutant import Mutant, in_file

_LUA = "worker/log/lua"
_TESTS = (
    "tests/unit/log/test_append.py",
    "tests/unit/log/test_compaction.py",
    "tests/unit/log/test_guards.py",
    "tests/unit/log/test_snapshots.py",
    "tests/unit/log/test_upkeep.py",
    "tests/unit/log/test_lease.py",
    "tests/protocol/test_protocol_in_step.py",
    "tests/unit/sync/test_compact.py",
    "tests/unit/sync/test_made.py",
    "tests/unit/sync/test_imports_below.py",
    "tests/unit/sync/test_replay.py",
    "tests/unit/sync/test_audit.py",
)

_APPENDS = ("tests/unit/log/test_append.py", "tests/unit/log/test_guards.py", "tests/unit/log/test_upkeep.py")
_SNAPSHOTS = (
    "tests/property/test_snapshot.py",
    "tests/unit/sync/test_compact.py",
    "tests/unit/sync/test_imports_below.py",
)

MUTANTS: list[Mutant] = [
    *in_file(
        f"{_LUA}/append.lua",
        _TESTS,
        ("an append comes in time", "if time > not_after then return {'expired'} end", ""),
        ("an append fits its segment", "if refused then return refused end", ""),
        ("an append creates only when it may", "cohort, wanted_generation == '')", "cohort, true)"),
        ("a batch is appended once", "redis.call('ZADD', recent, 'NX', now, batch_id) == 0 then", "false then"),
        ("an import is appended once for good", "if is_known or redis", "if redis"),
        (
            "an append that failed halfway makes the next one no duplicate",
            "if remembered then redis.call('ZREM', remembered, batch[1]) end",
            "",
        ),
        ("what is wrong with one batch is no other's", "pcall(append, unpack(batch))", "true, append(unpack(batch))"),
        (
            "what people made is for the generation that they saw",
            "if wanted_generation ~= '' and wanted_generation ~= '*' and not lives(wanted_generation) then",
            "if false then",
        ),
        (
            "an import is appended with all of its chunks",
            "redis.call('HLEN', import_key(generation, import)) ~= chunks",
            "false",
        ),
        (
            "the chunks of an import outlive their hour once it is appended",
            "redis.call('PERSIST', import_key",
            "local _ = (import_key",
        ),
        ("a batch is remembered for a minute", "time - 60000", "time"),
        ("an append that is repeated wakes nobody whose lease is held", "if lease(cursor) == '' and after", "if after"),
        (
            "an append that is repeated wakes nobody who has applied it",
            " and after(last(generation), position(cursor)) then",
            " then",
        ),
        ("an append comes after every position there is", "if tonumber(last_ms) >= time then", "if false then"),
    ),
    *in_file(
        f"{_LUA}/claim.lua",
        _TESTS,
        ("to claim creates only when asked to", "ARGV[2] == '1'", "true"),
    ),
    *in_file(
        f"{_LUA}/read.lua",
        _TESTS,
        ("a read below the snapshot says so", "if after(trimmed(generation), from) then return {'behind'} end", ""),
        (
            "a read merges in order of position",
            "if late and not (found and after(late, found[1])) then",
            "if late then",
        ),
        (
            "of two at one position the replayed one is read",
            "if late and not (found and after(late, found[1])) then",
            (
                "if late and found and late == found[1] then\n    late = next_late(generation, late)\n"
                "    id, all = found[1], found[2]\n"
                "  elseif late and not (found and after(late, found[1])) then"
            ),
        ),
        ("a read tells what is dead", "(some_dead and redis.call('HEXISTS', dead, id)) or 0", "0"),
    ),
    *in_file(
        f"{_LUA}/insert.lua",
        _TESTS,
        ("replay: the generation lives", "if not lives(generation) then return {'gone'} end", ""),
        ("replay: not below the floor", "if floor and after(floor, id) then return {'below'} end", ""),
        (
            "replay: what is dead comes to life",
            "if not decided or string.sub(decided, 1, #DEAD) ~= DEAD then",
            "if false then",
        ),
        ("replay: what was decided about stays so", " or string.sub(decided, 1, #DEAD) ~= DEAD then", " then"),
        ("replay: a place is one batch's", "elseif there then", "elseif false then"),
        ("replay: a batch is inserted once", "there == batch_id and 'not dead' or 'taken'", "'taken'"),
        ("replay: what comes to life is dead no longer", "redis.call('HDEL', dead_key(generation), id)\n", ""),
        ("replay: crashes are counted anew", "redis.call('HDEL', base .. ':g' .. generation .. ':crashes', id)\n", ""),
        (
            "replay: what comes after all is the last",
            "if after(id, last(generation)) then redis.call('HSET', head_key(generation), 'last', id) end",
            "",
        ),
        ("replay: a count is approximate", "redis.call('HSET', segment_key, 'members_exact', '0')\n", ""),
        (
            "replay: cursors go back",
            "for i = 1, #stores do rewind_cursor(cursor_key(generation, stores[i]), before(id), batches, bytes) end\n",
            "",
        ),
        ("replay: cursors go back to before the entry", "before(id), batches, bytes", "id, batches, bytes"),
        (
            "replay: every store that read the log goes back",
            "redis.call('SMEMBERS', stores_key(generation))",
            "{unpack(ARGV, 6 + fields)}",
        ),
        ("replay: the totals are those of before the entry", "if past then", "if false then"),
    ),
    *in_file(
        f"{_LUA}/bury.lua",
        _TESTS,
        # Without the removal of the count of crashes nothing is lost: a replay removes it, and so does the expiry.
        ("bury: the lease is the taker's", "lease(cursor) ~= ARGV[3] or ", ""),
        ("bury: the epoch is the take's", " or epoch(cursor) ~= ARGV[4]", ""),
        ("bury: the first decision stands", "'HSETNX'", "'HSET'"),
    ),
    *in_file(
        f"{_LUA}/decide.lua",
        _TESTS,
        ("a person decides once", " or string.sub(known, 1, #DEAD) ~= DEAD then", " then"),
    ),
    *in_file(
        f"{_LUA}/dead_expire.lua",
        _TESTS,
        (
            "what is decided about meanwhile does not expire",
            "redis.call('HGET', dead_key(generation), id) ~= ARGV[3] or ",
            "",
        ),
        ("what the stream has does not expire", " or after(id, trimmed(generation)) then", " then"),
    ),
    *in_file(
        f"{_LUA}/base.lua",
        _TESTS,
        (
            "what is below a snapshot and dead is not read",
            "if redis.call('HEXISTS', dead, id) == 0 then",
            "if true then",
        ),
        ("what is above a snapshot is not read with it", "while id and not after(id, head[2]) do", "while id do"),
        ("of what is below a snapshot, one entry at least is read", " and #reply > 7 then", " then"),
    ),
    *in_file(
        f"{_LUA}/compact.lua",
        _TESTS,
        (
            "compact: an import comes next of all",
            "  if not_next(upto, most) then return 'in use' end\n",
            "",
        ),
        (
            "compact: an import waits for no store but the furthest",
            "if import then\n  if not_next",
            "if false then\n  if not_next",
        ),
        ("compact: the chunks of an import go with it", "  redis.call('UNLINK', import_key(generation, import))\n", ""),
        (
            "compact: an import is as old as itself",
            "  if after(upto, most) then redis.call('HSET', head, 'before_import', most) end\n",
            "",
        ),
        (
            "compact: what follows nothing makes nobody older",
            "if upto ~= from then redis.call('HDEL', head, 'before_import') end",
            "redis.call('HDEL', head, 'before_import')",
        ),
        (
            "compact: what follows an import is as old as ever",
            "then redis.call('HDEL', head, 'before_import') end",
            "then end",
        ),
        ("compact: of two one commits", "if (known[1] or '') ~= former or not known[2] then", "if not known[2] then"),
        ("compact: the log is there", " or not known[2] then return 'replaced' end", " then return 'replaced' end"),
        ("compact: nothing was trimmed without a snapshot", "(former == '' and from ~= '0-0') or ", ""),
        (
            "compact: a snapshot never goes back",
            " or after(from, upto) then return 'replaced' end",
            " then return 'replaced' end",
        ),
        (
            "compact: every chunk is there",
            "if redis.call('LLEN', snapshot_key(generation, token)) ~= chunks then return 'incomplete' end",
            "",
        ),
        ("compact: not beyond the most current store", "after(upto, most) or ", ""),
        ("compact: not beyond a store that holds the log", " or (least and after(upto, least))", ""),
        ("compact: not beyond an open mark", "for j = 1, #open do hold(string.match(open[j], '^(%S+)')) end", ""),
        (
            "compact: what is folded from beside the stream is applied",
            "if after(id, most) then return 'in use' end",
            "",
        ),
        (
            "compact: what was replayed otherwise meanwhile stays",
            "redis.call('HGET', late_entry_key(generation, id), 'm') ~= digest or ",
            "",
        ),
        (
            "compact: what died meanwhile beside the stream is not folded",
            " or redis.call('HEXISTS', dead, id) == 1 then",
            " then",
        ),
        ("compact: the floor never goes down", "if after(former_floor, floor) or ", "if "),
        (
            "compact: the floor is not above the snapshot",
            " or after(floor, upto) then return 'floor' end",
            " then return 'floor' end",
        ),
        (
            "compact: the floor is not above a cursor",
            "if floor ~= former_floor and least and after(floor, least) then return 'floor' end\n",
            "",
        ),
        (
            "compact: what died meanwhile is not folded",
            "if after(id, from) and not after(id, upto) and not passed[id] then return 'changed' end",
            "",
        ),
        (
            "compact: the floor is below what may be replayed",
            "if after(floor, id) and string.sub(records[i + 1], 1, #DEAD) == DEAD then return 'floor' end",
            "",
        ),
        (
            "compact: the floor is below what is yet to be folded",
            "if after(floor, low[i]) and not folded[low[i]] and redis.call('HEXISTS', dead, low[i]) == 0 then return 'floor' end",
            "",
        ),
        (
            "compact: what may be replayed leaves the stream without being lost",
            "    if entry then\n",
            "    if false then\n",
        ),
        (
            "compact: what lies beside the stream already stays as it is",
            " and not redis.call('ZSCORE', late, id) then",
            " then",
        ),
        ("compact: a snapshot is kept for good", "redis.call('PERSIST', snapshot_key(generation, token))\n", ""),
        ("a count is exact where nobody is at work", " and marks == 0", ""),
        ("a count is exact with everything folded", " and upto == known[2]\n", "\n"),
        (
            "a count is exact with every store current",
            "exact = exact and position(cursor_key(generation, stores[i])) == upto",
            "",
        ),
        (
            "a count is exact with nothing beside the stream",
            "exact = exact and redis.call('HEXISTS', dead, left[i]) == 1",
            "",
        ),
    ),
    *in_file(
        f"{_LUA}/foldable.lua",
        _TESTS,
        (
            "foldable: who misses nothing but an import does not lag",
            "return not before_import or after(before_import, at) or tonumber(ms_of(trim)) < limit",
            "return true",
        ),
        ("fold: not beyond a cursor", "    hold(at)\n    local marks", "    local marks"),
        ("fold: not beyond an open mark", "for j = 1, #marks do hold(string.match(marks[j], '^(%S+)')) end", ""),
        ("fold: not beyond the most current store", "hold(most)\n", ""),
        ("fold: a store that is current does not lag", "if tonumber(ms_of(at)) >= limit then return false end", ""),
        ("fold: what waits beside the stream keeps the floor down", "    note(late[i])\n", ""),
        ("fold: what may be replayed keeps the floor down", "== DEAD then note(records[i]) end", "== DEAD then end"),
    ),
    *in_file(
        f"{_LUA}/count.lua",
        _TESTS,
        ("count: the lease is the taker's", "lease(cursor) ~= ARGV[3] or ", ""),
        ("count: the store has everything", " or position(cursor) ~= last(generation) then", " then"),
        # Its own mark cannot have gone while the lease is its own.
        ("count: nobody else may still write", "if redis.call('HLEN', open) ~= 1 or ", "if "),
    ),
    *in_file(
        f"{_LUA}/payloads.lua",
        _TESTS,
        ("a shared payload stays for what lies beside the stream", "if not needed[refs[i]] then", "if true then"),
        ("a shared payload stays for what the stream has", "'-inf', gone)", "'-inf', '+inf')"),
    ),
    *in_file(
        f"{_LUA}/rejected_keep.lua",
        ("tests/unit/log/test_rejected_bodies.py",),
        ("a rejected body is kept in time", "if now > tonumber(ARGV[3]) then return {'expired'} end", ""),
        ("a rejected body is kept once", "if existing then return {'kept', existing} end", ""),
        ("a rejected body comes after its millisecond", "1e12 + number", "number"),
    ),
    *in_file(
        f"{_LUA}/rejected_mark.lua",
        ("tests/unit/log/test_rejected_bodies.py",),
        (
            "a rejected body is decided about once",
            "if redis.call('HGET', body, 'status') ~= 'rejected' then return 0 end",
            "",
        ),
    ),
    *in_file(
        "worker/log/append_call.py",
        _APPENDS,
        (
            "an append says until when it counts",
            'cohort.url or "", batch.not_after_ms,',
            'cohort.url or "", 10**15,',
        ),
        (
            "an append that came too late is told of",
            'case b"expired":\n            return',
            'case b"never":\n            return',
        ),
        ("an append to another cohort's segment is told of", 'case b"taken":', 'case b"never":'),
        ("an append of another kind is told of", 'case b"kind":', 'case b"never":'),
        ("a payload does not create a segment that is not registered", '"" if create else "*"', '""'),
    ),
    *in_file(
        "worker/log/append.py",
        _APPENDS,
        (
            "an append goes with what it presupposes",
            '[("HSETNX", *entry) for entry in needed]',
            '[("PING",) for entry in needed]',
        ),
        (
            "an entry without what it presupposes is not accepted",
            "if missing := {",
            "if False and {",
        ),
        ("a refusal of several leaves no segment behind", 'for create in ("0", "1"):', 'for create in ("1",):'),
        (
            "a shared payload goes with what it presupposes",
            'needed = [("HSETNX", *entry) for entry in _needed(batch, create=True)]',
            "needed = []",
        ),
        (
            "a shared payload names its logs",
            '            ("SADD", f"{payload}:logs", *(keyspace.log_name(segment) for segment in segments)),\n',
            "",
        ),
        (
            "a shared payload is incomplete until it is everywhere",
            '            ("ZADD", keyspace.PAYLOADS, batch.not_after_ms, batch.batch_id),\n',
            "",
        ),
        (
            "what one of its logs cannot take is not accepted",
            "            if isinstance(outcome, Exception):\n                return outcome\n",
            "            if isinstance(outcome, Exception):\n                continue\n",
        ),
        ("a ticket is fresh", "secrets.token_hex(8)", '"1"'),
        ("a log with a wake-up due is entered in the index", "    if ahead:\n", "    if False:\n"),
        ("a segment is registered when it is created", "(*batch.prerequisites, *registrations)", "batch.prerequisites"),
        ("a segment that is there is not registered again", "    if not create:\n", "    if False:\n"),
        ("an append that finds no segment is tried again", "if isinstance(outcome, Absent)]", "if False]"),
    ),
    *in_file(
        "worker/log/snapshot.py",
        _SNAPSHOTS,
        ("of two batches about a member the later decides", "if known is None or order(known[1]) <= here:", "if True:"),
        ("batches in order are told from others", "if here >= self._latest:", "if True:"),
        (
            "of a snapshot and a batch about a member the later decides",
            "elif known is None or order_of(known[1]) <= here:",
            "else:",
        ),
        ("what came before a replace is over", "if here < over and not is_excluded(key):", "if False:"),
        ("a replace leaves the excluded list alone", "here < over and not is_excluded(key)", "here < over"),
        (
            "who was decided at a replace or later stays so",
            "if known is None or order_of(known[1]) < over:",
            "if True:",
        ),
        (
            "whom a store has as they should be is not written",
            "return everyone or order_of(decision[1]) > from_",
            "return True",
        ),
        (
            "below the floor everyone is written",
            "return everyone or order_of(decision[1]) > from_",
            "return order_of(decision[1]) > from_",
        ),
        ("the last chunk reaches to the last key", "    if final:\n        return None\n", ""),
    ),
    *in_file(
        "worker/log/chunk.py",
        _SNAPSHOTS,
        (
            "an older worker is told of marked names",
            "VERSION if first == beyond and not reset else VERSION_MARKED",
            "VERSION",
        ),
    ),
    *in_file(
        "worker/log/merging.py",
        _SNAPSHOTS,
        (
            "whoever is not in a replace is out",
            'if decision[0] and ("excluded" if',
            'if False and ("excluded" if',
        ),
        ("who left is known down to the floor", "if position and order(position) >= lowest:", "if False:"),
    ),
    *in_file(
        "worker/log/position.py",
        ("tests/property/test_snapshot.py", "tests/unit/sync/test_compact.py", "tests/unit/log/test_snapshots.py"),
        ("positions are ordered as numbers", "return int(ms), int(sequence)", "return int(ms), int(sequence[:1] or 0)"),
    ),
]
