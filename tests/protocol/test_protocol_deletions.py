"""Deleting a segment holds under every interleaving of a small world, and no rule of it can be left out."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from deletions import DeletionRules, goes_wrong


def test_everybody_leaves_a_deleted_segment_and_nothing_that_came_later_goes_with_it() -> None:
    assert not goes_wrong(DeletionRules())


@pytest.mark.parametrize("rule", [field.name for field in fields(DeletionRules)])
def test_a_deletion_can_be_forgotten_or_take_too_much_without(rule: str) -> None:
    assert goes_wrong(replace(DeletionRules(), **{rule: False}))
