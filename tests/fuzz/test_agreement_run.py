"""A short run of `make fuzz`: it finds nothing, it would find something, and a seed means the same every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import agreement_run
from fuzz.agreement import Comparison, Disagreement
from fuzz.requests import Mutations
from worker.manifest.decoder import compile_parser
from worker.manifest.request_parser import RequestParser

TESTS = Path(__file__).parent.parent


def test_generated_manifests_and_bodies_are_read_alike_by_all_readers() -> None:
    tally = agreement_run.run(seed=2, manifests=60, bodies_each=40, processes=2)

    assert tally.problems == []
    assert (tally.read, tally.fast > 0, tally.skipped > 0) == (2400, True, True)
    assert {"malformed", "environment", "cohort", "members", "member", "member_id"} <= set(tally.refused)


def test_a_reader_that_reads_otherwise_is_found_out() -> None:
    parser = {
        "environmentIdPath": "/env",
        "cohortIdPath": "/cid",
        "cohortNamePath": "/cname",
        "addMemberArrayPath": "/add",
        "removeMemberArrayPath": "/remove",
        "memberArrayParser": {"memberIdPath": "/id"},
    }
    swapped = parser | {"addMemberArrayPath": "/remove", "removeMemberArrayPath": "/add"}
    comparison = Comparison(parser)
    comparison.decoder = compile_parser(RequestParser.model_validate(swapped))

    with pytest.raises(Disagreement, match="'u', True"):
        comparison.check(b'{"env":"e","cid":"c","cname":"n","add":[{"id":"u"}]}')


@pytest.mark.parametrize("accepted", [29, 91])
def test_a_run_that_accepts_hardly_any_or_nearly_all_bodies_fails(accepted: int) -> None:
    assert "the generator is off" in agreement_run.Tally(read=100, accepted=accepted).problems[0]


def test_a_seed_gives_the_same_manifests_bodies_and_requests_every_time() -> None:
    for number in range(20):
        parser = agreement_run.generated_parser(7, number)
        assert parser == agreement_run.generated_parser(7, number)
        body = agreement_run.generated_body(7, number, 3, parser)
        assert body == agreement_run.generated_body(7, number, 3, parser)
        assert Mutations(7).request(number) == Mutations(7).request(number)
        assert Mutations(7).request(number) != Mutations(8).request(number)


def test_one_body_can_be_looked_at_by_itself() -> None:
    command = [sys.executable, "-m", "fuzz", "--seed", "2", "--only", "5:7"]
    environment = {"PYTHONPATH": f"{TESTS}:{TESTS / 'integration'}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert repr(agreement_run.generated_parser(2, 5)) in done.stdout
    assert "skip: all agree" in done.stdout
