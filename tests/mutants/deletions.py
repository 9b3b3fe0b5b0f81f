"""Guards of deletions, and of the work that takes longer than a request."""

from __future__ import annotations

from mutants.mutant import Mutant, in_file

_LUA = "worker/log/lua"
_DELETION = ("tests/unit/sync/test_deletion.py",)
_JOBS = ("tests/unit/log/test_jobs.py",)
_IMPORT = ("tests/unit/sync/test_import.py",)
_EXPORT = ("tests/unit/sync/test_export.py",)

MUTANTS: list[Mutant] = [
    *in_file(
        f"{_LUA}/delete_close.lua",
        _DELETION,
        (
            "a generation is closed when no store can lose that it is empty",
            "\n    or tonumber(redis.call('HGET', cursor, 'advanced_ms') or '0') > settled_by then",
            " then",
        ),
        ("strays of closed generations are known", "redis.call('SADD', base .. ':closed', generation)", ""),
    ),
    *in_file(
        f"{_LUA}/delete_forget.lua",
        _DELETION,
        (
            "dead letters outlive their generation",
            "if ARGV[2] ~= '1' and redis.call('HLEN', dead_key(generation)) > 0 then return 0 end",
            "",
        ),
    ),
    *in_file(
        f"{_LUA}/take.lua",
        _DELETION,
        (
            "nothing of a closed generation begins anew",
            "if last(generation) == '0-0' and not lives(generation) then return {'idle'} end",
            "",
        ),
        (
            "a store that has something of it empties itself",
            "if not made_for[1] and position(cursor) == '0-0' and not lives(generation) then",
            "if not lives(generation) then",
        ),
        (
            "a store that had something of it in another life empties itself",
            "if not made_for[1] and position(cursor) == '0-0' and not lives(generation) then",
            "if not (made_for[1] == incarnation) and position(cursor) == '0-0' and not lives(generation) then",
        ),
    ),
    *in_file(
        f"{_LUA}/insert.lua",
        _DELETION,
        (
            "what was refused before a deletion stays out",
            "if not of_dead and deleted and tonumber(ms_of(id)) <= tonumber(deleted) then return {'gone'} end",
            "",
        ),
    ),
    *in_file(
        "worker/sync/deleting.py",
        _DELETION,
        ("a deletion is listed", "    wiring.closings.add(segment, not_after_ms)\n", "    pass\n"),
        (
            "a deletion that may still land is waited for",
            "if wiring.upkeep.server_ms() > ending.not_after_ms:",
            "if True:",
        ),
        (
            "a generation is closed when every store is through it",
            "        if not all(store.settled for store in status.stores.values()):\n            return False\n",
            "",
        ),
    ),
    *in_file(
        "worker/log/closing.py",
        _DELETION,
        (
            "a deletion that is tried again stays listed",
            "if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[1]) end",
            "redis.call('ZREM', KEYS[1], ARGV[1])",
        ),
    ),
    *in_file(
        "worker/sync/audit.py",
        _DELETION,
        (
            "what came back of a generation that is being deleted is a stray",
            "*closed_generations(self._wiring.client, environment_id, keys), *self._emptied(set(keys))}",
            "*closed_generations(self._wiring.client, environment_id, keys)}",
        ),
        (
            "who is not through a deletion is not compared with it",
            " and status.stores[self._record.store_id].settled:",
            ":",
        ),
    ),
    *in_file(
        "worker/sync/maintenance.py",
        _DELETION,
        (
            "a store is compared when it is through deletions",
            "if any(not store.settled for status in deleted for store in status.stores.values()):",
            "if False:",
        ),
    ),
    *in_file(
        "worker/sync/freshness.py",
        _DELETION,
        (
            "who is not through a deletion is not fresh",
            "                deleted_statuses(wiring, environment_id, store_ids),\n",
            "",
        ),
    ),
    *in_file(
        f"{_LUA}/job_claim.lua",
        _JOBS,
        (
            "one worker at a time",
            "if known[1] ~= '' and now < tonumber(known[2]) + tonumber(ARGV[3]) then return {} end",
            "",
        ),
    ),
    *in_file(
        f"{_LUA}/job_note.lua",
        _JOBS,
        (
            "who lost the lease says nothing more",
            " or (known[1] or '') ~= token then return 0 end",
            " then return 0 end",
        ),
        (
            "who is over frees only what is its own",
            " and redis.call('HGET', busy, known[2]) == id then",
            " then",
        ),
    ),
    *in_file(
        f"{_LUA}/job_open.lua",
        _JOBS,
        ("a lost reply begins nothing anew", "if redis.call('EXISTS', job) == 1 then", "if false then"),
        (
            "an upload that is gone is not put on record",
            "if pieces > 0 and redis.call('LLEN', list) ~= pieces then",
            "if false then",
        ),
    ),
    *in_file(
        "worker/sync/imports.py",
        _IMPORT,
        ("a file that ends workers is given up", "if self._claim.attempts > MOST_ATTEMPTS:", "if False:"),
        ("a file of nobody empties no segment", "            if not self._keys:\n", "            if False:\n"),
    ),
    *in_file(
        "worker/sync/exports.py",
        _EXPORT,
        (
            "what was read of a segment that is gone is no export",
            "                    _check_lives(wiring, self._segment)  # else",
            "                    pass  # else",
        ),
    ),
]
