"""Guards of cursors: lease, epoch, open mark, position, whose life they are of (rules 4 to 7, 12, 13)."""

from __future__ import annotations

from mutants.mutant import Mutant, in_file

_LUA = "worker/log/lua"
_TESTS = (
    "tests/unit/log/test_lease.py",
    "tests/unit/log/test_upkeep.py",
    "tests/unit/log/test_guards.py",
    "tests/unit/log/test_append.py",
    "tests/protocol/test_protocol_in_step.py",
    "tests/unit/sync/test_base.py",
    "tests/unit/sync/test_freshness.py",
    "tests/unit/sync/test_judge.py",
    "tests/unit/sync/test_audit_under_lease.py",
)

MUTANTS: list[Mutant] = [
    *in_file(
        f"{_LUA}/_prelude.lua",
        _TESTS,
        ("positions of a millisecond are ordered as numbers", "tonumber(a_seq) > tonumber(b_seq)", "a_seq > b_seq"),
        ("just before an entry is below it", "string.format('%.0f', tonumber(seq) - 1)", "seq"),
        (
            "entries beside the stream are ordered within a millisecond",
            "(ms_of(best) == ms_of(found[i]) and after(best, found[i]))",
            "false",
        ),
        ("no wake-up while a lease is held", "if known[1] and known[1] ~= '' then return 0 end", ""),
        (
            "one wake-up is outstanding at a time",
            "if known[2] == '1' then return 0 end",
            "",
        ),
        (
            "no wake-up where nothing waits",
            "if not after(last(generation), known[3] or '0-0') then return 0 end",
            "",
        ),
        ("who arms a wake-up claims it", "redis.call('HSET', cursor, 'woken', '1')\n", ""),
        ("a rewind never moves a cursor on", "if after(position(cursor), to) then", "if true then"),
        (
            "a rewind takes the trail back, too",
            "if there and after(string.match(there, '^(%S+)'), to) then",
            "if false then",
        ),
        (
            "a rewind never moves the trail on",
            "if there and after(string.match(there, '^(%S+)'), to) then",
            "if there then",
        ),
        ("a rewind forgets what was applied of a snapshot", "redis.call('HDEL', cursor, 'base', 'base_chunks')\n", ""),
        ("a rewind begins another epoch", "redis.call('HINCRBY', cursor, 'epoch', 1)\n", ""),
        ("a mark that is rewound goes", "redis.call('HDEL', open, token)\n", ""),
        (
            "a count is approximate once a mark is rewound",
            "redis.call('HDEL', open, token)\n  inexact(generation)",
            "redis.call('HDEL', open, token)",
        ),
        ("a segment is one integration's", "known[2] ~= integration or ", ""),
        ("a segment is one cohort's", " or known[3] ~= cohort", ""),
        ("a segment holds one kind of contexts", "if known[1] ~= kind then return {'kind', known[1]} end", ""),
        ("to ask creates no segment", "elseif create then", "else"),
        (
            "generations are counted on",
            "redis.call('HINCRBY', segment_key, 'generation', 1)",
            "redis.call('HSET', segment_key, 'generation', 1)",
        ),
    ),
    *in_file(
        f"{_LUA}/take.lua",
        _TESTS,
        ("a take consumes the wake-up", "redis.call('HSET', cursor, 'woken', '0')\n", ""),
        ("a lease that is held is not taken", "if lease(cursor) ~= '' then return {'busy'} end", ""),
        (
            "a drain that is fenced off is rewound",
            "for i = 9, 8 + fenced do rewind_mark(generation, store, ARGV[i]) end",
            "",
        ),
        ("only marks that were looked at are waived", "if not waived[marks[i]] then", "if false then"),
        ("orphans are fenced before the lease is given", "if #orphans > 1 then return orphans end", ""),
        ("a cursor of another life starts over", "if made_for[1] and made_for[1] ~= incarnation then", "if false then"),
        (
            "the trail of another life is forgotten",
            "redis.call('HDEL', cursor, 'past', 'recent', 'rotated_ms', 'drained', 'filling')\n",
            "redis.call('HDEL', cursor, 'drained', 'filling')\n",
        ),
        (
            "what another life was filled with is forgotten",
            "'rotated_ms', 'drained', 'filling')\n",
            "'rotated_ms', 'drained')\n",
        ),
        (
            "another process takes a cursor back",
            "elseif made_for[2] and made_for[2] ~= process and process ~= '' then",
            "elseif false then",
        ),
        ("a process that does not tell takes nothing back", " and process ~= '' then\n  rewind", " then\n  rewind"),
        ("a cursor notes whose life it is for", "redis.call('HSET', cursor, 'incarnation', incarnation)\n", ""),
        ("a cursor notes the process", "if process ~= '' then redis.call('HSET', cursor, 'process', process) end", ""),
        ("every store that reads a log is known to it", "redis.call('SADD', stores_key(generation), store)\n", ""),
        (
            "no lease where nothing waits",
            " and not after(last(generation), began) then return {'idle'} end",
            " and false then return {'idle'} end",
        ),
        ("who compares marks from the start", "if ARGV[7] == '1' then mark = '0-0 0 0' end", ""),
        ("a lease leaves an open mark", "redis.call('HSET', open, token, mark .. ' ' .. connection)\n", ""),
        ("the renewal counter begins anew", "'beat', '1', 'drained', '1')", "'drained', '1')"),
        ("a store that was drained is not fresh", "'beat', '1', 'drained', '1')", "'beat', '1')"),
    ),
    *in_file(
        f"{_LUA}/advance.lua",
        _TESTS,
        ("advance: the lease is the taker's", "lease(cursor) ~= token or ", ""),
        ("advance: the epoch is the take's", "epoch(cursor) ~= ARGV[4] or ", ""),
        # Not here: `not mark` (without another lease or epoch the mark of a drain cannot have gone), and that the
        # filling ends (kept for longer, it causes a comparison too many at the most).
        ("advance: not beyond the last entry", "if after(ARGV[5], last(generation)) then", "if false then"),
        ("advance: not backwards", "if not after(ARGV[5], from) then", "if false then"),
        ("the trail moves every ten minutes", "if now - tonumber(known[4] or '0') >= TRAIL_MS then", "if true then"),
        ("the trail is two steps long", "known[3] or here", "here"),
        ("a cursor notes when it moved", ",\n  'advanced_ms', string.format('%.0f', now))", ")"),
        ("what was applied of a snapshot ends with an advance", "'base', 'base_chunks', 'filling')", "'filling')"),
        ("an advance renews", "redis.call('HINCRBY', cursor, 'beat', 1)\n", ""),
        (
            "what some store has reached never goes back",
            "if after(ARGV[5], redis.call('HGET', head, 'reached') or '0-0') then",
            "if true then",
        ),
        (
            "what some store has reached is noted",
            "if after(ARGV[5], redis.call('HGET', head, 'reached') or '0-0') then",
            "if false then",
        ),
        (
            "the mark moves along with the cursor",
            "redis.call('HSET', open, token, ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. ARGV[7] .. ' ' .. connection)\n",
            "",
        ),
    ),
    *in_file(
        f"{_LUA}/advance_base.lua",
        _TESTS,
        ("advance in a snapshot: the lease is the taker's", "lease(cursor) ~= ARGV[3] or ", ""),
        ("advance in a snapshot: the epoch is the take's", " or epoch(cursor) ~= ARGV[4]", ""),
        (
            "the snapshot that a store was first filled with stays known",
            "'HSETNX', cursor, 'filling'",
            "'HSET', cursor, 'filling'",
        ),
        ("only a store that had nothing is filled from nothing", "if ARGV[9] == '1' then", "if true then"),
        ("an advance in a snapshot renews", "redis.call('HINCRBY', cursor, 'beat', 1)\n", ""),
    ),
    *in_file(
        f"{_LUA}/renew.lua",
        _TESTS,
        ("renew: the lease is the taker's", "lease(cursor) ~= ARGV[3] or ", ""),
        ("renew: the epoch is the take's", " or epoch(cursor) ~= ARGV[4]", ""),
        ("a renewal moves the counter", "redis.call('HINCRBY', cursor, 'beat', 1)\n", ""),
    ),
    *in_file(
        f"{_LUA}/release.lua",
        _TESTS,
        ("release: the lease is the taker's", "if lease(cursor) ~= token then return {'lost'} end", ""),
        ("an unclean release keeps the mark", "if ARGV[4] == '1' then", "if true then"),
        ("a clean release takes the mark away", "if ARGV[4] == '1' then", "if false then"),
        ("a log is suspect until every entry could be parsed", "if ARGV[6] == '1' then", "if true then"),
        ("a log is suspect no longer once every entry could be parsed", "if ARGV[6] == '1' then", "if false then"),
        ("a count is approximate after an unclean release", "if ARGV[5] == '0' then", "if false then"),
        ("a release looks at the log again", "arm(generation, store)}", "0}"),
    ),
    *in_file(
        f"{_LUA}/rewind.lua",
        _TESTS,
        ("a rewind gives back no lease but its own", "if lease(cursor) == ARGV[3] then", "if true then"),
        ("a rewind gives its own lease back", "if lease(cursor) == ARGV[3] then", "if false then"),
    ),
    *in_file(
        f"{_LUA}/settle.lua",
        _TESTS,
        (
            "a drain that holds its lease is not settled",
            "if lease(cursor_key(ARGV[1], ARGV[2])) == ARGV[3] then",
            "if false then",
        ),
    ),
    *in_file(
        f"{_LUA}/expire.lua",
        _TESTS,
        ("expire: the lease is the one that stood still", "lease(cursor) ~= ARGV[3] or ", ""),
        ("expire: the counter has not moved", " or redis.call('HGET', cursor, 'beat') ~= ARGV[4]", ""),
        ("a lease that expired makes its log suspect", ", 'suspect', '1')", ")"),
    ),
    *in_file(
        f"{_LUA}/void.lua",
        _TESTS,
        ("a void cursor starts over", "rewind_cursor(cursor, '0-0', '0', '0')\n", ""),
        ("a rebuild forgets what the store was filled with", "redis.call('HDEL', cursor, 'filling')\n", ""),
        ("a count is approximate after a rebuild", "inexact(ARGV[1])\n", ""),
    ),
    *in_file(
        f"{_LUA}/status.lua",
        _TESTS,
        (
            "status: a cursor of another life is at the start",
            "if found[8] and ARGV[i + 1] ~= '' and found[8] ~= ARGV[i + 1] then",
            "if false then",
        ),
        ("status: where no life is known a cursor stands", "found[8] and ARGV[i + 1] ~= '' and", "found[8] and"),
        # Not here: `after(found[1], to)`, for a trail is never beyond its cursor.
        (
            "status: another process takes a cursor back",
            "elseif found[9] and ARGV[i + 2] ~= '' and found[9] ~= ARGV[i + 2]\n",
            "elseif false\n",
        ),
        (
            "status: what moved long before the process changed stays",
            "\n    and tonumber(found[10] or '0') >= tonumber(ARGV[i + 3]) - TRAIL_MS then",
            " then",
        ),
        (
            "what an open drain wrote holds freshness",
            "if marks[j] ~= found[6] and after(from, began) then from = began end",
            "",
        ),
        (
            "what was compacted and not applied holds freshness",
            "if after(gone, from) then\n    oldest = ms_of(from)\n",
            "if after(gone, from) then\n",
        ),
        (
            "what was replayed holds freshness",
            "if late and not (entry and after(late, entry[1])) then oldest = ms_of(late) end",
            "",
        ),
        (
            "of a stream's entry and one beside it the earlier holds freshness",
            "if late and not (entry and after(late, entry[1])) then",
            "if late then",
        ),
        (
            "what was replayed is behind",
            "add(ahead and redis.call('ZCOUNT', late_key(generation), '(' .. ms_of(found[1] or '0-0'), '+inf') or 0)",
            "add(0)",
        ),
    ),
    *in_file(
        "worker/log/lease.py",
        _TESTS,
        (
            "who cannot renew has lost the lease",
            'if not self._call("renew", self.epoch):\n            raise self._lost()',
            'self._call("renew", self.epoch)',
        ),
        (
            "who cannot advance has lost the lease",
            (
                '        verdict = self._call("advance", self.epoch, position, batches_total, bytes_total, *change)\n'
                "        if not verdict:\n"
                "            raise self._lost()\n"
            ),
            '        verdict = self._call("advance", self.epoch, position, batches_total, bytes_total, *change)\n',
        ),
        (
            "who cannot advance in a snapshot has lost the lease",
            '        if not self._call("advance_base", self.epoch, *told):\n            raise self._lost()\n',
            '        self._call("advance_base", self.epoch, *told)\n',
        ),
        ("who cannot release has lost the lease", 'if verdict == b"lost":', "if False:"),
        ("who cannot bury has lost the lease", "if decided < 0:", "if False:"),
        ("a read behind the snapshot is told", 'if verdict == b"behind":', "if False:"),
    ),
    *in_file(
        "worker/log/upkeep.py",
        _TESTS,
        (
            "a log leaves the index with the ticket that was seen",
            "if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end end",
            "redis.call('HDEL', KEYS[1], ARGV[i]) end",
        ),
        (
            "a shared payload goes with its last log",
            "if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('DEL', KEYS[1]) end",
            "redis.call('DEL', KEYS[1])",
        ),
        (
            "a request in progress is not taken for a cut one",
            "limit = self.server_ms() - CUT_AFTER_SECONDS * 1000",
            "limit = self.server_ms()",
        ),
        (
            "of a cut request what was appended stays",
            'if self._client.zscore(f"{base}:g{segment.generation}:refs", text) is None:',
            "if True:",
        ),
    ),
]
