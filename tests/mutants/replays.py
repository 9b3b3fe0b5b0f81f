"""Guards of replays: what is planned, where it goes, what is done again (rule 17)."""

# ruff: noqa: E501 - texts of other files, whole lines
from __future__ import annotations

from mutants.mutant import Mutant, in_file

_TESTS = (
    "tests/unit/sync/test_replay_places.py",
    "tests/unit/sync/test_replay.py",
    "tests/unit/sync/test_replay_cut_short.py",
)

MUTANTS: list[Mutant] = [
    *in_file(
        "worker/sync/replay.py",
        _TESTS,
        ("what cannot be replayed is left", "        if planned.problem is not None:\n            return done\n", ""),
        ("what is skipped is left", "            if target.skipped is not None:\n", "            if False:\n"),
        (
            "what is dead comes last",
            "sorted(planned.targets, key=lambda target: target.of_dead)",
            "sorted(planned.targets, key=lambda target: not target.of_dead)",
        ),
        (
            "what is replayed is entered in the index",
            "            self._wiring.upkeep.index(done.inserted, ticket=planned.batch_id)\n",
            "            pass\n",
        ),
        (
            "what was replayed nowhere is not noted as replayed",
            "if done.inserted or planned.already_live or not done.skipped:",
            "if True:",
        ),
        (
            "a replay that was cut short is noted when it is finished",
            "if done.inserted or planned.already_live or not done.skipped:",
            "if done.inserted:",
        ),
        (
            "a segment that does not take the batch is left",
            "            if isinstance(generation, str):\n                done.skipped[key] = generation\n                return\n",
            "            generation = int(generation) if str(generation).isdigit() else 1\n",
        ),
        (
            "where another batch lies the next place is taken",
            '            if inserted != "taken":\n                break\n',
            "            break\n",
        ),
        (
            "what the log refuses is told",
            "        if isinstance(inserted, str):\n",
            "        inserted = inserted if isinstance(inserted, list) else []\n        if isinstance(inserted, str):\n",
        ),
        (
            "what is not dead any more was not replayed",
            '        if inserted == "not dead":\n            return\n',
            '        inserted = [] if inserted == "not dead" else inserted\n',
        ),
        (
            "what belongs elsewhere is noted as moved",
            "        for entry in planned.leaves:\n",
            "        for entry in ():\n",
        ),
        (
            "a rejected body is noted as replayed",
            '                self._wiring.rejected.mark(batch.batch_id, "replayed", self._by, why)\n',
            "                pass\n",
        ),
    ),
    *in_file(
        "worker/sync/replay_plan.py",
        _TESTS,
        (
            "batches are replayed in the order accepted",
            "return sorted(groups.values(), key=lambda group: min(order(batch.position) for batch in group))",
            "return list(groups.values())",
        ),
        ("what was decided about is not replayed", "        if batch.waits:\n", "        if True:\n"),
        (
            "a batch keeps the position at which it was first",
            "first = min(group, key=lambda batch: order(batch.position))",
            "first = max(group, key=lambda batch: order(batch.position))",
        ),
        (
            "an unknown environment takes nothing",
            "        if environment is None:\n            raise _Hopeless(",
            "        if False:\n            raise _Hopeless(",
        ),
        (
            "a batch of a deleted generation is skipped",
            "if segment is None or segment.generation != entry.segment.generation:",
            "if segment is None:",
        ),
        (
            "what was accepted before a generation stays out of it",
            "if segment.generation > 1 and segment.created_ms > ms_of(position):",
            "if False:",
        ),
        ("a batch of another kind is skipped", "if kind is not None and segment.context_kind != kind:", "if False:"),
        (
            "what is below the floor is skipped",
            "if order(target.position) < order(self._wiring.snapshots.bounds(target.segment)[0]):",
            "if False:",
        ),
        ("what is alive is not inserted again", "            if where in alive:\n", "            if False:\n"),
        (
            "what was inserted is not inserted again",
            "if segment is not None and is_inserted(wiring.client, where, target.position, replay.batch_id):",
            "if False:",
        ),
        (
            "a dead entry comes to life where it lies",
            "Target(entry.segment, entry.entry_id, cohort, of_dead=True, moved=False)",
            'Target(entry.segment, foreign_position("", entry.entry_id), cohort, of_dead=False, moved=False)',
        ),
        (
            "a batch that is moved lies at its accept time",
            'return f"{ms_of(position)}-{AFTER_A_MS + number}"',
            'return f"{ms_of(position) + 10**6}-{AFTER_A_MS + number}"',
        ),
        (
            "a batch that is moved comes after its millisecond",
            'return f"{ms_of(position)}-{AFTER_A_MS + number}"',
            'return f"{ms_of(position)}-{number}"',
        ),
        (
            "a rejected body lies where it was refused",
            "foreign_position(replay.batch_id, replay.position) if dead else replay.position",
            "foreign_position(replay.batch_id, replay.position)",
        ),
        ("what belongs elsewhere leaves", "        replay.leaves = list(dead.values())\n", ""),
        (
            "where the policy skips members by now they are skipped",
            '            if replay.policy == "reject" and error.environment_id is not None:\n',
            "            if False:\n",
        ),
    ),
    *in_file(
        "worker/sync/effects.py",
        _TESTS,
        ("what was decided later stays", "if position and order(position) > here:", "if False:"),
        (
            "each batch is counted as if those before it were replayed",
            "                planned[name] = (include, target.position)\n",
            "",
        ),
    ),
]
