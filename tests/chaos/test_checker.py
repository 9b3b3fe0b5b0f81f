"""The history checker finds nothing in a good history, and finds out each way in which one can be bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from chaos.checker import Expected, Verdict, check_counts, check_logs, check_store, expected_store, membership
from chaos.history import Attempt, History, Payload
from chaos.load import make_body
from chaos.logs import LogEntry, Logs, read_members
from chaos.manifests import INTEGRATIONS, Manifests
from chaos.plan import plan

ONE, TWO = "split-c1", "split-c2"


@dataclass
class Past:
    """A history that is being made up: each payload takes a second, and lies in its logs in the middle of it."""

    history: History = field(default_factory=History)
    logs: dict[str, list[LogEntry]] = field(default_factory=dict)
    clock: float = 1000.0

    def send(self, changes: dict[str, dict[str, bool]], *statuses: int, kept: bool = True) -> Payload:
        payload = self.history.begin(0, "split", changes)
        for number, status in enumerate(statuses or (204,)):
            attempt = Attempt(payload.number, number, f"body {payload.number}.{number}".encode(), sent=self.clock)
            attempt.told, attempt.status = self.clock + 1, status
            payload.attempts.append(attempt)
            if 200 <= status < 300 and kept:
                self.store(payload, number)
            self.clock += 2
        return payload

    def store(self, payload: Payload, number: int = -1, after_ms: int = 500) -> None:
        """Put one of its attempts into the logs."""
        attempt = payload.attempts[number]
        position = (int(attempt.sent * 1000) + after_ms, 0)
        for segment, members in payload.changes.items():
            entry = LogEntry(segment, position, f"batch-{attempt.marker}", attempt.marker, attempt.body, members)
            self.logs.setdefault(segment, []).append(entry)

    def check(self, expected: Expected | None = None) -> Verdict:
        return check_logs(self.history.payloads(), self.logs, expected)

    def change(self, segment: str, place: int, **changes: object) -> None:
        self.logs[segment][place] = replace(self.logs[segment][place], **changes)  # type: ignore[arg-type]


@pytest.fixture
def past() -> Past:
    """Five payloads for two segments; one needed three attempts, one was refused."""
    made = Past()
    made.send({ONE: {"ann": True, "bob": True}})
    made.send({ONE: {"ann": False}, TWO: {"ann": True}})
    made.send({ONE: {"cyd": True}}, 503, 0, 204)
    made.send({TWO: {"dan": True}}, 400)
    made.send({TWO: {"ann": True, "eve": True}})
    return made


def found(verdict: Verdict) -> set[str]:
    """The promises that were broken."""
    names = ("lost", "unexpected", "doubled", "disordered", "wrong", "other")
    return {name for name in names if getattr(verdict, name)}


def test_a_good_history_has_no_problems_and_the_membership_that_its_order_gives(past: Past) -> None:
    assert past.check().problems() == []
    assert membership(past.logs[ONE]) == {"bob", "cyd"}
    assert membership(past.logs[TWO]) == {"ann", "eve"}
    assert check_store("a", expected_store(past.logs), past.logs) == []


def test_an_attempt_of_unknown_fate_may_be_in_the_log_where_it_took_place(past: Past) -> None:
    for number in (0, 1):
        past.store(past.history.payloads()[2], number)
    assert past.check().problems() == []


def drop(past: Past) -> None:
    past.logs[ONE].pop()


def drop_from_one_of_two(past: Past) -> None:
    past.logs[TWO].pop(0)


def leave_unsettled(past: Past) -> None:
    past.send({ONE: {"ann": True}}, 503)


def kill(past: Past) -> None:
    past.change(ONE, 0, state="dead")


def discard(past: Past) -> None:
    past.change(ONE, 0, state="discarded")


def keep_an_earlier_try_instead(past: Past) -> None:
    past.logs[ONE].pop()
    past.store(past.history.payloads()[2], 0)


def keep_what_was_refused(past: Past) -> None:
    past.store(past.history.payloads()[3])


def keep_what_nobody_sent(past: Past) -> None:
    past.change(ONE, 0, marker="77.0")
    past.store(past.history.payloads()[0])


def keep_other_bytes(past: Past) -> None:
    past.change(ONE, 0, body=b"body 0.1")


def flip_a_member(past: Past) -> None:
    past.change(ONE, 0, members={"ann": True, "bob": False})


def file_in_another_log(past: Past) -> None:
    past.logs[TWO].append(replace(past.logs[ONE][0], segment=TWO))


def keep_twice(past: Past) -> None:
    past.store(past.history.payloads()[1], after_ms=600)


def swap(past: Past) -> None:
    first, second = past.logs[ONE][:2]
    past.change(ONE, 0, position=second.position)
    past.change(ONE, 1, position=first.position)


def land_late(past: Past) -> None:
    past.store(past.history.payloads()[2], 0, after_ms=1500)


def land_late_behind_the_next(past: Past) -> None:
    past.store(past.history.payloads()[2], 0, after_ms=60_000)


@pytest.mark.parametrize(
    ("break_it", "names"),
    [
        (drop, {"lost"}),
        (drop_from_one_of_two, {"lost"}),
        (leave_unsettled, {"lost"}),
        (kill, {"lost"}),
        (discard, {"lost"}),
        (keep_an_earlier_try_instead, {"lost"}),
        (keep_what_was_refused, {"unexpected"}),
        (keep_what_nobody_sent, {"unexpected"}),
        (keep_other_bytes, {"unexpected"}),
        (flip_a_member, {"unexpected"}),
        (file_in_another_log, {"unexpected"}),
        (keep_twice, {"doubled"}),
        (swap, {"disordered", "unexpected"}),
        (land_late, {"unexpected"}),
        (land_late_behind_the_next, {"disordered", "unexpected"}),
    ],
)
def test_each_way_in_which_logs_can_be_bad_is_found_out(
    past: Past, break_it: Callable[[Past], None], names: set[str]
) -> None:
    break_it(past)
    assert found(past.check()) == names


def test_what_was_refused_and_replayed_must_be_in_its_logs_at_its_own_place(past: Past) -> None:
    payload = past.history.payloads()[3]
    expected = Expected(replayed={payload.number})
    assert found(past.check(expected)) == {"lost"}
    past.store(payload)
    assert past.check(expected).problems() == []
    past.change(TWO, -1, position=(int(past.clock * 1000), 0))
    assert found(past.check(expected)) == {"disordered", "unexpected"}


def test_only_what_may_be_dead_or_discarded_may_be(past: Past) -> None:
    kill(past)
    assert past.check(Expected(dead={0})).problems() == []
    assert found(past.check(Expected(dead={1}))) == {"lost"}
    discard(past)
    assert past.check(Expected(discarded={0})).problems() == []
    assert found(past.check(Expected(dead={0}))) == {"lost"}
    assert membership(past.logs[ONE]) == {"cyd"}  # bob's addition is void, and nobody else's


def test_a_member_missing_from_a_store_and_one_too_many_are_found_out(past: Past) -> None:
    content = expected_store(past.logs)
    hashed = next(iter(content))
    assert len(check_store("a", {key: refs for key, refs in content.items() if key != hashed}, past.logs)) == 1
    assert len(check_store("a", content | {hashed: {*content[hashed], "gone-c1.g1"}}, past.logs)) == 1
    assert len(check_store("a", content | {"a hash of nobody": {f"{ONE}.g1"}}, past.logs)) == 1


def test_a_count_that_is_said_to_be_exact_and_is_not_is_found_out(past: Past) -> None:
    logs = Logs(entries={**past.logs}, exact_counts={ONE: 2, TWO: 2})
    assert check_counts(logs) == []
    logs.exact_counts[TWO] = 3
    assert len(check_counts(logs)) == 1


def test_senders_and_the_reference_parser_mean_the_same_by_every_kind_of_body(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path / "manifests")
    dice = Random(7)
    for number in range(300):
        body = make_body(dice, f"witness-{number}")
        text = (manifests.directory / f"{body.integration}.json").read_text()
        parser = json.dumps(json.loads(text)["capabilities"]["syncedSegment"]["requestParser"])
        sent = json.dumps({"environment": "e", "marker": "0.0", **body.document}).encode()
        for segment, members in body.changes.items():
            assert read_members(sent, parser, segment.removeprefix(f"{body.integration}-")) == members
        assert (body.witness is None) or sum(body.witness in members for members in body.changes.values()) == 1
    assert len(INTEGRATIONS) == 3


def test_a_seed_plans_the_same_faults_every_time_and_none_that_outlasts_its_storm_by_much() -> None:
    assert plan(3, 3, 65) == plan(3, 3, 65) != plan(4, 3, 65)
    for seed in range(20):
        rounds = plan(seed, 3, 65)
        kinds = {fault.kind for faults in rounds for fault in faults}
        assert kinds >= {"kill", "kill_child", "kill_main", "freeze", "stop", "refuse", "roll_back", "crash"}
        assert kinds & {"wipe", "replace"}
        for faults in rounds:
            assert max(fault.at + fault.seconds for fault in faults) <= 75
            assert (
                len({fault.target for fault in faults if fault.kind in {"wipe", "replace", "add_again", "rebuild"}})
                <= 1
            )
            for target in {fault.target for fault in faults}:
                own = [fault for fault in faults if fault.target == target]
                assert all(one.at + one.seconds <= other.at + 0.1 for one, other in pairwise(own))
