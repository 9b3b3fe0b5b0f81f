"""What cohorts cost in a DynamoDB table: the benchmark's promises, with fewer members."""

from __future__ import annotations

import pytest
from benchmarks.dynamodb_units import FEWEST_MEMBERS, measure_transactions, measure_updates
from dynamodb_local import Dynalite, DynamoDBLocal


def test_a_first_sync_writes_a_unit_each_and_what_is_sent_again_unchanged_writes_nothing(dynalite: Dynalite) -> None:
    steps = list(measure_updates(dynalite, FEWEST_MEMBERS))  # raises for whatever is dearer than promised
    assert [round(step.writes, 4) for step in steps] == [1, 0, 0, 0, 0.05, 1, 0]


def test_transactions_write_two_units_each_and_nothing_for_what_is_unchanged(
    strict_dynamodb: DynamoDBLocal | Dynalite,
) -> None:
    if not isinstance(strict_dynamodb, DynamoDBLocal):
        pytest.skip("dynalite, which serves where DynamoDB Local cannot be had, has no transactions")
    steps = list(measure_transactions(strict_dynamodb, FEWEST_MEMBERS))
    assert [round(step.writes, 4) for step in steps] == [2, 0]
