"""The protocol holds under every interleaving of a small world, and no rule of it can be left out."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from cells import CellRules, goes_unnoticed
from claims import ClaimRules, claims_too_much
from crashes import CrashRules, judges_wrong
from explore import find_violation
from late_appends import LateRules, resurrects
from scenarios import HOLDS, NEEDED
from slot import RULES, Rules
from wake_ups import HintScenario, IndexScenario, forgets, index_forgets

# Rules of wake_ups.py, and what makes others unnecessary.
ELSEWHERE = {"release_checks_log"}


@pytest.mark.parametrize("name", HOLDS)
def test_every_store_ends_as_the_log_says_after(name: str) -> None:
    states, trace = find_violation(HOLDS[name])
    assert trace is None, "\n".join(trace)
    assert states > 40


@pytest.mark.parametrize("rule", NEEDED)
def test_a_store_can_end_wrong_without(rule: str) -> None:
    _, trace = find_violation(replace(NEEDED[rule], rules=replace(RULES, **{rule: False})))
    assert trace is not None


def test_what_a_rule_is_needed_for_holds_with_it() -> None:
    proven = set(HOLDS.values())
    for rule, scenario in NEEDED.items():
        if scenario not in proven:
            assert find_violation(scenario)[1] is None, rule


def test_each_rule_has_a_scenario_that_goes_wrong_without_it() -> None:
    assert {field.name for field in fields(Rules)} == NEEDED.keys() | ELSEWHERE


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


def test_no_store_says_that_it_is_current_while_it_is_not() -> None:
    assert not claims_too_much(ClaimRules())


@pytest.mark.parametrize("rule", [field.name for field in fields(ClaimRules)])
def test_a_store_can_say_that_it_is_current_though_it_is_empty_without(rule: str) -> None:
    assert claims_too_much(replace(ClaimRules(), **{rule: False}))


def test_batches_that_kill_are_found_and_no_others() -> None:
    assert not judges_wrong(CrashRules())


@pytest.mark.parametrize("rule", [field.name for field in fields(CrashRules)])
def test_an_innocent_batch_can_die_or_a_killer_go_on_without(rule: str) -> None:
    assert judges_wrong(replace(CrashRules(), **{rule: False}))


def test_no_primary_of_a_cluster_loses_what_it_had_unnoticed() -> None:
    assert not goes_unnoticed(CellRules())


@pytest.mark.parametrize("rule", [field.name for field in fields(CellRules)])
def test_a_primary_of_a_cluster_can_lose_what_it_had_unnoticed_without(rule: str) -> None:
    assert goes_unnoticed(replace(CellRules(), **{rule: False}))
