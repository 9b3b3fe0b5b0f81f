"""Guards of drains: what is read, judged, folded, written, and let go of (rules 3, 5 to 9, 19)."""

from __future__ import annotations

from mutants.mutant import Mutant, in_file

_TESTS = (
    "tests/unit/sync/test_judge.py",
    "tests/unit/sync/test_drain.py",
    "tests/unit/sync/test_drain_refused.py",
    "tests/unit/sync/test_base.py",
    "tests/unit/sync/test_audit.py",
    "tests/unit/sync/test_audit_under_lease.py",
    "tests/unit/sync/test_lives.py",
    "tests/unit/sync/test_made.py",
)

MUTANTS: list[Mutant] = [
    *in_file(
        "worker/sync/drain.py",
        _TESTS,
        (
            "a write of unknown fate keeps the mark",
            'clean=not (error.dependency == "store" and error.fate_unknown)',
            "clean=True",
        ),
        (
            "a write of known fate leaves no mark",
            'clean=not (error.dependency == "store" and error.fate_unknown)',
            "clean=False",
        ),
        (
            "our own bug keeps the mark",
            'done.outcome = "failed"\n            self._let_go(clean=False)',
            'done.outcome = "failed"\n            self._let_go(clean=True)',
        ),
        ("who lost the lease rewinds", "done.wake_up_due = lease.rewind()", "pass"),
        ("an unclean end makes the count approximate", "exact=clean and not self._writes)", "exact=True)"),
        (
            "an unclean end leaves the log suspect",
            "exact=clean and not self._writes)",
            "exact=clean and not self._writes, innocent=True)",
        ),
        ("a clean end clears the suspicion", "exact=self._exact, innocent=True)", "exact=self._exact)"),
        ("a count is exact only where the store tells", "exact=self._exact, innocent=True)", "innocent=True)"),
        (
            "whom a store refuses is noted",
            "self._wiring.refused_members.note(self._lease.store_id, self._lease.segment, counts.refused)",
            "pass",
        ),
        (
            "whom a store takes after all is noted no more",
            "            if some:",
            "            if False:",
        ),
        ("a segment is prepared before it is written", "            self._session.prepare(self._describe)\n", ""),
        (
            "a lease is renewed between two windows",
            "        self._lease.renew()\n        if self._stopping():",
            "        if self._stopping():",
        ),
        (
            "the cursor moves only once the write is answered",
            (
                "        counts = self._write(patches())\n"
                "        goes_on = self._lease.advance_to(*reading.reached, *self._change(counts))\n"
            ),
            (
                "        list(reading.members())\n"
                "        goes_on = self._lease.advance_to(*reading.reached, 0)\n"
                "        counts = self._write(patches())\n"
            ),
        ),
        ("a brake is looked at first", "                judge.check_brake()\n", ""),
        ("a drain that is told to stop takes no lease", "    if stopping():\n", "    if False:\n"),
        (
            "a write that takes too long is left when stopping",
            "if now - self._stopping_since >= STOP_SECONDS:",
            "if False:",
        ),
        (
            "a store whose circuit is open is left alone",
            "    if not wiring.circuits.allows(store_id):\n",
            "    if False:\n",
        ),
        (
            "a failure is told to the circuit",
            "        if not stopping():\n            wiring.circuits.failed(store_id, error)\n",
            "",
        ),
        (
            "a circuit closes only by a write",
            "wiring.circuits.succeeded if run.wrote else wiring.circuits.abstained",
            "wiring.circuits.succeeded",
        ),
        (
            "a write closes the circuit",
            "wiring.circuits.succeeded if run.wrote else wiring.circuits.abstained",
            "wiring.circuits.abstained",
        ),
        (
            "who found no lease gives the probe back",
            "wiring.circuits.abstained(store_id)  # it could",
            "pass  # it could",
        ),
        (
            "the state server's absence is not the store's",
            '        if error.dependency == "state":\n            raise\n        # No',
            "        # No",
        ),
        (
            "a snapshot that was replaced is begun anew",
            "        except SnapshotReplaced:\n            self._base = self._open_base()\n",
            "        except SnapshotReplaced:\n",
        ),
        (
            "a log that does not go back far enough is told of",
            "        if base is None:\n            raise Behind\n",
            "        assert base is not None\n",
        ),
        ("one store counts the members", "        if not self._counts_members:\n", "        if False:\n"),
    ),
    *in_file(
        "worker/sync/reading.py",
        _TESTS,
        ("dead entries are passed over", "() if entry.dead else self._judge", "self._judge"),
        (
            "what comes before an import is applied before it",
            '            if entry.kind == "import":\n                return\n',
            '            if entry.kind == "import":\n                continue\n',
        ),
        ("a drain that has had its time reads no more", "self._full and not self._over()", "self._full"),
        (
            "what was read stays read when the log is trimmed meanwhile",
            "        except Behind:\n            return []  # the",
            "        except Behind:\n            raise  # the",
        ),
        ("a drain reads on from where it has read to", "after=self.reached.entry_id)", "after=None)"),
        (
            "the cursor moves over all that was told",
            "            self.reached = Reached(",
            "            self.reached = self.reached if self.batches else Reached(",
        ),
    ),
    *in_file(
        "worker/sync/judge.py",
        _TESTS,
        ("a suspect log is parsed in a process of its own", "IsolatedParser() if lease.suspect else None", "None"),
        ("a batch dies of the third crash, not earlier", "MOST_CRASHES = 3", "MOST_CRASHES = 2"),
        ("a batch dies of the third crash, not later", "MOST_CRASHES = 3", "MOST_CRASHES = 4"),
        (
            "crashes are counted over all drains",
            "crashes = max(crashes + 1, self._lease.count_crash(entry))",
            "crashes += 1",
        ),
        (
            "while a brake is on nothing is drained",
            "        if not brakes.probe_due(*where):\n            raise Braked\n",
            "",
        ),
        ("a probe that fails keeps the brake on", "        if not lives:\n            raise Braked\n", ""),
        ("a probe is told", "        brakes.probed(*where, ok=lives, reason=reason)\n", ""),
        (
            "a probe of nothing is given back",
            "        if lives is None:\n            brakes.abstained(*where)\n",
            "        if lives is None:\n",
        ),
        (
            "a probe that is cut short is given back",
            "        except BaseException:\n            brakes.abstained(*where)\n",
            "        except BaseException:\n",
        ),
        (
            "a probe stands in no snapshot's way",
            "        except Behind:\n            return\n        if not",
            "        except Behind:\n            raise Braked from None\n        if not",
        ),
        ("most must live", "return 2 * len(reasons) < len(faults)", "return len(reasons) < len(faults)"),
        (
            "what is dead is no probe",
            "                if not entry.dead and entry.kind in PARTNERS:",
            "                if entry.kind in PARTNERS:",
        ),
        (
            "what people made is no probe",
            "                if not entry.dead and entry.kind in PARTNERS:",
            "                if not entry.dead:",
        ),
        (
            "a probe parses apart",
            "            self._parse_alone(isolated, entry)\n",
            "            read_members(self._wiring, entry)\n",
        ),
        (
            "a lease is renewed before an entry is parsed",
            "        self._lease.renew()\n        try:\n            said = self._parse(entry)",
            "        try:\n            said = self._parse(entry)",
        ),
        ("a lease is renewed while an entry is parsed alone", "meanwhile=self._lease.renew)", "meanwhile=None)"),
        (
            "a batch does not die while a brake is engaged",
            "        if self._wiring.brakes.died(*self._where(), reason=letter.reason):\n            raise Braked\n",
            "        self._wiring.brakes.died(*self._where(), reason=letter.reason)\n",
        ),
        (
            "a brake hears of those that lived",
            "            self._wiring.brakes.lived(*self._where(), count=self._lived)\n",
            "",
        ),
        (
            "what died is found again",
            "            wiring.dead_letters.index(segment, entry.entry_id, entry.batch_id)\n",
            "",
        ),
        (
            "a parser that is not there is no fault of the batch",
            "        if text is None:\n            raise Unavailable(",
            '        if text is None:\n            raise InvalidBatch("bug", "") if entry else Unavailable(',
        ),
    ),
    *in_file(
        "worker/sync/base.py",
        _TESTS,
        ("progress is of one snapshot", "chunks if snapshot == base.token else 0", "chunks"),
        ("below the floor a store is compared", "if order(self._from) < order(base.floor) and not whole:", "if False:"),
        (
            "a store that is filled from nothing is not compared",
            "if order(self._from) < order(base.floor) and not whole:",
            "if order(self._from) < order(base.floor):",
        ),
        (
            "a store that was half filled with another snapshot is compared",
            "self._from == START and lease.filling == base.token",
            "self._from == START",
        ),
        ("a store that is filled from nothing is told from others", "from_nothing=lease.fresh)", "from_nothing=True)"),
        ("what a store is filled with is noted", "from_nothing=lease.fresh)", "from_nothing=False)"),
        (
            "progress in a snapshot is noted",
            "        self._lease.advance_base(self.base.token, self._next, members_change, excluded_change)\n",
            "",
        ),
        (
            "what was replayed below a snapshot is applied with it",
            "self._from, self._beside, final=final)",
            "self._from, final=final)",
        ),
        (
            "what was replayed beyond the last member is applied",
            "final = self._next == self.base.chunks - 1",
            "final = False",
        ),
    ),
    *in_file(
        "worker/sync/fold.py",
        ("tests/property/test_fold.py", "tests/unit/sync/test_drain.py"),
        ("the last write about a member wins", "net.update(members)", "net = {**members, **net}"),
        (
            "who is removed last is removed",
            "[name for name, include in net.items() if not include] if len(added) < len(net) else []",
            "[]",
        ),
        ("who is in is added alone", "[name for name, include in net.items() if include]", "list(net)"),
    ),
    *in_file(
        "worker/sync/taking.py",
        _TESTS,
        (
            "a wiped store that waits for a person is not drained",
            '    if incarnation is None:\n        return "wiped"\n',
            "",
        ),
        (
            "a mark is settled at once only when its bytes cannot land",
            "bool(connection) and store.fence(connection)",
            "True",
        ),
        (
            "a connection that nobody knows cannot be fenced",
            "bool(connection) and store.fence(connection)",
            "store.fence(connection)",
        ),
        ("an orphan that is fenced off is rewound", "(fenced if sure else waived)", "waived"),
    ),
    *in_file(
        "worker/sync/truth.py",
        _TESTS,
        (
            "what is dead says nothing",
            "        meanwhile()\n        if not entry.dead:\n            said",
            "        meanwhile()\n        if True:\n            said",
        ),
        (
            "what is dead waits for nobody",
            "            if not entry.dead:\n                found.update",
            "            if True:\n                found.update",
        ),
        # Not here: that the truth is that at the cursor (`upto`), for who is decided about after it is left out anyway.
        (
            "what nobody has parsed yet is no part of the truth",
            "            if order(entry.entry_id) > order(reached if upto is None else upto):\n",
            "            if False:\n",
        ),
        (
            "what nobody has parsed yet waits for nobody",
            "            if order(entry.entry_id) > order(reached):\n",
            "            if False:\n",
        ),
        (
            "what was replayed below a snapshot is part of the truth",
            "    yield from base.late if base is not None else ()\n",
            "",
        ),
        (
            "a truth that was compacted meanwhile is read anew",
            "        except (Behind, SnapshotReplaced):\n            continue",
            "        except (Behind, SnapshotReplaced):\n            break",
        ),
    ),
]
