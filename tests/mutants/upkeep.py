"""Guards of upkeep: freshness, lives of stores, comparing, sweeping, expiry (rules 7, 10 to 14, 21, 22)."""

# ruff: noqa: E501 - texts of other files, whole lines
from __future__ import annotations

from mutants.mutant import Mutant, in_file

_TESTS = (
    "tests/unit/sync/test_freshness.py",
    "tests/unit/sync/test_audit.py",
    "tests/unit/sync/test_audit_under_lease.py",
    "tests/unit/sync/test_audit_by_key.py",
    "tests/unit/sync/test_lives.py",
    "tests/unit/sync/test_maintenance.py",
    "tests/unit/sync/test_sweep.py",
    "tests/unit/sync/test_sweep_held_back.py",
    "tests/unit/sync/test_store_watch.py",
    "tests/unit/sync/test_store_health.py",
    "tests/unit/sync/test_compact.py",
)

MUTANTS: list[Mutant] = [
    *in_file(
        "worker/sync/audit.py",
        _TESTS,
        (
            "who waits to be added or removed is not missing",
            "if name in right and name not in waiting]",
            "if name in right]",
        ),
        ("who should be in is missing", "if name in right and name not in waiting]", "if name not in waiting]"),
        (
            "who waits to be added or removed is no stray",
            "if name not in right and name not in waiting]",
            "if name not in right]",
        ),
        (
            "who should be in is no stray",
            "if name not in right and name not in waiting]",
            "if name not in waiting]",
        ),
        (
            "who has come meanwhile is not missing",
            "lost = self._not_as(segment, wanted, there=True)\n        return",
            "lost = wanted\n        return",
        ),
        (
            "who has gone meanwhile is no stray",
            "return lost, self._not_as(segment, unwanted, there=False), _sizes(right)",
            "return lost, unwanted, _sizes(right)",
        ),
        ("strays that cannot be removed are folded out", "(stray and not removed)", "False"),
        (
            "who left and is in again is looked for where nobody can be listed",
            "_some(former, size)",
            "_some(former, 0)",
        ),
        ("only who repairs changes a store", "if self._repair and stray:", "if stray:"),
        (
            "who compares and loses the lease rewinds",
            "                lease.rewind()\n                self._index(segment)\n",
            "",
        ),
        (
            "who compares and is not answered keeps the mark",
            "lease.release(clean=not error.fate_unknown, exact=False)",
            "lease.release(clean=True, exact=False)",
        ),
        (
            "what came while the lease was held is entered",
            "        if lease.release(clean=True, exact=exact):\n",
            "        if not lease.release(clean=True, exact=exact):\n",
        ),
        # Not here: that nothing is judged below the snapshot, for the log is behind there, and that is told.
        (
            "who is missing is folded again",
            "            void_cursor(self._wiring.client, segment, self._record.store_id)\n",
            "",
        ),
        ("strays that stay make the count approximate", "exact=counted or not stray)", "exact=True)"),
        (
            "a count is exact only where the store is right",
            "counted = right and segment in self._approximate and",
            "counted = segment in self._approximate and",
        ),
        (
            "the store whose replies count is compared for the count",
            "counts_members = self._sample is None and self._counts_members()",
            "counts_members = self._sample is None",
        ),
        (
            "a sample counts nobody",
            "counts_members = self._sample is None and self._counts_members()",
            "counts_members = self._counts_members()",
        ),
    ),
    *in_file(
        "worker/sync/freshness.py",
        _TESTS,
        (
            "freshness is as of the oldest batch that may not be in",
            "seen.fresh_ms = min(seen.fresh_ms, store.oldest_ms)",
            "pass",
        ),
        (
            "freshness is as of before the look",
            "        now_ms = wiring.upkeep.server_ms()\n        lives",
            "        now_ms = wiring.upkeep.server_ms() + 10**6\n        lives",
        ),
        (
            "a segment that cannot be looked at holds freshness",
            "            except Unavailable as error:\n                failure = error\n            else:\n                if looked",
            "            except ZeroDivisionError as error:\n                failure = error\n            else:\n                if looked",
        ),
        ("an absent segment's failure is raised", "        if failure is not None:\n            raise failure\n", ""),
        ("a store with strays claims nothing", "return None if notes.strays_due or (", "return None if ("),
        (
            "a store of which nothing is known claims nothing",
            "if incarnation is None or not seen.fresh_ms:",
            "if incarnation is None:",
        ),
        (
            "cursors of a life that nobody knows claim nothing",
            "        if store.incarnation and not seen.life.incarnation:\n            seen.fresh_ms = 0",
            "        if False:\n            seen.fresh_ms = 0",
        ),
        (
            "a store that waits for a person claims nothing",
            "        if notes.wiped_ms is not None and not record.rebuild_when_wiped:\n            return None\n",
            "",
        ),
        (
            "a new process claims nothing",
            'if changed or (process and seen.life.process not in {"", process}):',
            'if process and seen.life.process not in {"", process}:',
        ),
        (
            "another process than was looked at claims nothing",
            'if changed or (process and seen.life.process not in {"", process}):',
            "if changed:",
        ),
        (
            "another life than was looked at claims nothing",
            "notes.strays_due or (seen.life.incarnation or found) != found else",
            "notes.strays_due else",
        ),
        (
            "a store that was rolled back begins another life",
            "if sentinel is not None and incarnations.is_rolled_back(sentinel, notes):",
            "if False:",
        ),
        (
            "a beat is remembered",
            "            wiring.incarnations.note_beat(record.store_id, seen.now_ms)\n",
            "            pass\n",
        ),
        ("what the index lacks is entered", "            self._enter_missing(waiting)\n", "            pass\n"),
        (
            "what was told is noted",
            "                self._healths.note_told(seen.record, seen.fresh_ms if told else None)\n",
            "                pass\n",
        ),
        (
            "a store that was told nothing is not well",
            "note_told(seen.record, seen.fresh_ms if told else None)",
            "note_told(seen.record, seen.fresh_ms)",
        ),
        (
            "a store whose circuit is open is not told",
            "            if not wiring.circuits.allows(store_id):\n                return\n",
            "",
        ),
        (
            "a store that cannot be told fails its circuit",
            "                wiring.circuits.failed(store_id, error)\n",
            "                pass\n",
        ),
        (
            "a beat alone closes no circuit where batches wait",
            "wiring.circuits.succeeded if seen.current else wiring.circuits.abstained",
            "wiring.circuits.succeeded",
        ),
        (
            "what the most current store has applied holds up no sender",
            "size += min((store.bytes_behind for store in stores), default=status.bytes)",
            "size += max((store.bytes_behind for store in stores), default=status.bytes)",
        ),
    ),
    *in_file(
        "worker/incarnation.py",
        _TESTS,
        (
            "a store's life is the one that is known",
            "        if sentinel is not None and self._known.get(record.store_id) == sentinel.incarnation:",
            "        if sentinel is not None:",
        ),
        (
            "a store without its sentinel was wiped",
            "        if known is not None:\n            self._note_wiped",
            "        if False:\n            self._note_wiped",
        ),
        (
            "a wiped store may have to wait for a person",
            "            self._note_wiped(record, sentinel, server_ms())\n            if not record.rebuild_when_wiped:\n                return None\n",
            "            self._note_wiped(record, sentinel, server_ms())\n",
        ),
        (
            "a store that had members when its life began is compared",
            "            if strays:\n",
            "            if False:\n",
        ),
        (
            "a sentinel that is there is taken over",
            "        if sentinel is None:\n            sentinel = store.claim(secrets.token_hex(8), now_ms)\n",
            "        store.replace_sentinel(secrets.token_hex(8), now_ms)\n        sentinel = store.sentinel()\n        assert sentinel is not None\n",
        ),
        ("a new life waits for nobody", '            pipe.hdel(notes, "wiped_ms")\n', ""),
        (
            "a beat of long ago is told from a late one",
            "return notes.beat_ms - sentinel.beat_ms > ROLLED_BACK_MS",
            "return notes.beat_ms - sentinel.beat_ms > 0",
        ),
        (
            "a store that was rolled back may have to wait for a person",
            "        self._note_wiped(record, sentinel, now_ms)\n        if not record.rebuild_when_wiped:\n            return None\n",
            "        self._note_wiped(record, sentinel, now_ms)\n",
        ),
        ("the life of a store that was rolled back ends", "        store.replace_sentinel(*following)\n", ""),
        ("another process is noticed", "        return bool(former)\n", "        return False\n"),
        ("the same process is no other", "            if former == process:\n", "            if False:\n"),
        ("when a process was last seen is kept", '{int(seen_ms or 0)}"', '0"'),
        ("a process that does not tell is no other", "        if not process:\n            return False\n", ""),
        (
            "strays noted meanwhile stay noted",
            "if redis.call('HGET', KEYS[1], 'strays_due') == ARGV[1] then redis.call('HDEL', KEYS[1], 'strays_due') end",
            "redis.call('HDEL', KEYS[1], 'strays_due')",
        ),
        (
            "each note of strays is another",
            '            self._client.hset(_notes_key(store_id), "strays_due", secrets.token_hex(8))\n',
            '            self._client.hset(_notes_key(store_id), "strays_due", "1")\n',
        ),
    ),
    *in_file(
        "worker/sync/sweep.py",
        _TESTS,
        (
            "a lease expires when its counter stands still",
            "(store.lease, store.beat), LEASE_SECONDS)",
            "(store.lease,), LEASE_SECONDS)",
        ),
        (
            "a lease has its time",
            "            return self._stands_still(key, what) >= seconds\n",
            "            return True\n",
        ),
        (
            "a mark has the time that bytes may take",
            "(mark.token,), SETTLE_SECONDS):",
            "(mark.token,), LEASE_SECONDS):",
        ),
        # Not here: that a mark of the drain at work is no orphan, for the script does not settle it either.
        (
            "a log that is ahead stays in the index",
            "                    if all(store.settled for store in status.stores.values()):\n",
            "                    if True:\n",
        ),
        (
            "a log that is gone leaves the index",
            "                sweep.done += ((segment, indexed[segment]) for segment in gone)\n",
            "                pass\n",
        ),
        (
            "what a changed store misses is woken at once",
            "sweep.changed.isdisjoint((*may_hold, _store(store_id)))",
            "sweep.changed.isdisjoint(may_hold)",
        ),
        (
            "a log is not woken while it is held back",
            "holds = [sweep.holds[key] for key in may_hold if key in sweep.holds]",
            "holds: list[_Hold] = []",
        ),
        (
            "a log that is drained is not woken",
            "if not store.lease and (store.ahead or store.orphans):",
            "if store.ahead or store.orphans:",
        ),
        (
            "a log that moves is not woken",
            '(*where, "waiting"), (store.position, store.epoch)',
            '(*where, "waiting"), (store_id,)',
        ),
        ("orphans are woken for", "(store.ahead or store.orphans)", "store.ahead"),
        (
            "what was held back is woken at once",
            "            if not sweep.changed.isdisjoint((*may_hold, _store(store_id))):\n",
            "            if False:\n",
        ),
        (
            "one log probes",
            "            if all(hold.due and hold.key not in probed and self._wants_probe(hold) for hold in holds):\n",
            "            if all(hold.due and self._wants_probe(hold) for hold in holds):\n",
        ),
        ("one wake-up for a probe", "and self._wants_probe(hold) for hold in holds", "for hold in holds"),
        (
            "what cannot be looked at keeps no other",
            "            except Unavailable as error:\n                # Wake-ups",
            "            except ZeroDivisionError as error:\n                # Wake-ups",
        ),
    ),
    *in_file(
        "worker/sync/maintenance.py",
        _TESTS,
        (
            "what fails keeps nothing else from being done",
            '            except Unavailable as error:\n                _log.warning("maintenance.incomplete", error=str(error))\n            except Exception:',
            '            except ZeroDivisionError as error:\n                _log.warning("maintenance.incomplete", error=str(error))\n            except MemoryError:',
        ),
        (
            "dead letters that nobody noted are found",
            "            wiring.dead_letters.reindex(wiring.compaction.read_dead(segments))\n",
            "            pass\n",
        ),
        (
            "a store whose circuit is open is not compared",
            "        if not wiring.circuits.allows(record.store_id):\n            return False\n",
            "",
        ),
        (
            "stores are compared when it is due",
            "        if not wiring.incarnations.notes(record.store_id).strays_due:\n            return False\n",
            "",
        ),
        ("strays are removed last", 'status.trimmed != "0-0" and store.position == "0-0" and store.ahead', "False"),
        (
            "a comparison that was not sure is made again",
            "if not found.uncertain and not stop_requested():",
            "if not stop_requested():",
        ),
        (
            "a comparison that was stopped is made again",
            "if not found.uncertain and not stop_requested():",
            "if not found.uncertain:",
        ),
        (
            "one comparison at a time",
            "        if self._auditing is not None and self._auditing.is_alive():\n            return\n",
            "",
        ),
    ),
    *in_file(
        "worker/sync/expire.py",
        _TESTS,
        ("a dead letter has its time", "_decided_ms(letter, entry_id) < before_ms and ", ""),
        ("a dead letter that the stream has stays", " and order(entry_id) <= order(trimmed[segment])", ""),
    ),
]
