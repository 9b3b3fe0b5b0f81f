"""The protocol holds under every interleaving of a small world, and no rule of it can be left out."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from drains import Scenario, find_violation
from late_appends import LateRules, resurrects
from slot import RULES
from wake_ups import HintScenario, IndexScenario, forgets, index_forgets

TWO_MEMBERS = ({0: 1, 1: 1}, {0: 0}, {1: 0})

HOLDS = {
    "a lost lease": Scenario(expiries=2),
    "a lost lease and a kill": Scenario(expiries=1, kills=1),
    "a lost lease, a kill and a time-out": Scenario(expiries=1, kills=1, timeouts=1),
    "two kills and a refusal": Scenario(kills=2, refusals=1),
    "three workers": Scenario(workers=3, expiries=1, kills=1),
    "three entries and two members": Scenario(entries=TWO_MEMBERS, expiries=1, kills=1),
    "a store that fences, a lost lease, a kill and a time-out": Scenario(expiries=1, kills=1, timeouts=1, fences=True),
    "a store that fences, two kills": Scenario(entries=TWO_MEMBERS, kills=2, fences=True),
}

NEEDED = {
    "rewind_bumps_epoch": Scenario(expiries=2),
    "advance_checks_epoch": Scenario(expiries=2),
    "open_marks": Scenario(expiries=1, kills=1),
    "settle_waits_for_late_bytes": Scenario(timeouts=1),
    "unclean_release_keeps_mark": Scenario(timeouts=1),
    "fence_before_settling_at_take": Scenario(kills=1, expiries=1, fences=True),
}


@pytest.mark.parametrize("name", HOLDS)
def test_the_store_ends_as_the_log_says_after(name: str) -> None:
    states, trace = find_violation(HOLDS[name])
    assert trace is None, "\n".join(trace)
    assert states > 100


@pytest.mark.parametrize("rule", NEEDED)
def test_the_store_can_end_wrong_without(rule: str) -> None:
    scenario = NEEDED[rule]
    _, trace = find_violation(replace(scenario, rules=replace(RULES, **{rule: False})))
    assert trace is not None
    assert find_violation(scenario)[1] is None


def test_no_batch_is_forgotten_when_no_message_is_lost() -> None:
    assert not forgets(HintScenario())


def test_a_sweeper_finds_what_lost_messages_left() -> None:
    assert forgets(HintScenario(losses=2))
    assert not forgets(HintScenario(losses=2, sweeper=True))


def test_a_sweeper_that_honoured_the_flag_would_find_nothing() -> None:
    assert forgets(HintScenario(losses=2, sweeper=True, sweeper_honours_flag=True))


def test_a_release_that_did_not_check_the_log_would_forget_a_batch() -> None:
    assert forgets(HintScenario(rules=replace(RULES, release_checks_log=False)))


def test_the_index_of_logs_ahead_forgets_none() -> None:
    assert not index_forgets(IndexScenario())


def test_removing_from_the_index_without_a_ticket_would_forget_a_log() -> None:
    assert index_forgets(IndexScenario(ticketed=False))


def test_entering_the_index_before_the_append_would_forget_a_log() -> None:
    assert index_forgets(IndexScenario(index_before_append=True))


def test_only_the_slow_walk_finds_what_a_killed_receiver_left_out_of_the_index() -> None:
    assert index_forgets(IndexScenario(kills=1))
    assert not index_forgets(IndexScenario(kills=1, slow_walk=True))


def test_an_append_whose_answer_was_lost_never_overtakes_what_was_accepted_since() -> None:
    assert not resurrects(LateRules())


@pytest.mark.parametrize("rule", [field.name for field in fields(LateRules)])
def test_a_late_append_can_bring_a_member_back_without(rule: str) -> None:
    assert resurrects(replace(LateRules(), **{rule: False}))
