from __future__ import annotations

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from worker.model import SegmentPatch
from worker.stores import layout

KEYS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), unique=True)


def test_a_context_hash_is_the_one_that_launchdarkly_computes() -> None:
    assert layout.context_hash("user-1234") == "xhocUBLWxlJF+Q+iLGuXVCvgEZmEdPyYh+5imauT4+E="


@given(KEYS)
def test_hashes_are_padded_base64_of_sha256_of_utf8_in_order(keys: list[str]) -> None:
    assert layout.context_hashes(keys) == [base64.b64encode(hashlib.sha256(key.encode()).digest()) for key in keys]


@given(KEYS, KEYS, st.integers(1, 7))
def test_portions_hold_every_member_once_and_only_the_last_is_not_full(
    add: list[str], remove: list[str], size: int
) -> None:
    portions = list(layout.portions(SegmentPatch("a.g1", add, remove), size))
    assert [key for portion in portions for key in portion.add] == add
    assert [key for portion in portions for key in portion.remove] == remove
    assert all(portion.segment_ref == "a.g1" for portion in portions)
    sizes = [len(portion.add) + len(portion.remove) for portion in portions]
    assert all(full == size for full in sizes[:-1])
    assert all(0 < last <= size for last in sizes[-1:])


def test_an_empty_dynamodb_prefix_has_no_colon() -> None:
    assert layout.dynamodb_user_namespace("") == "big_segments_user"
    assert layout.dynamodb_metadata_key("") == "big_segments_metadata"
    assert layout.dynamodb_user_namespace("ours") == "ours:big_segments_user"
    assert layout.dynamodb_metadata_key("ours") == "ours:big_segments_metadata"
