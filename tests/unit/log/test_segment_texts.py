"""What people say of a segment: in one step with its creation, and founded on what was said before."""

from __future__ import annotations

import pytest
import redis

from worker.errors import Conflict, NotFound
from worker.log.creation import create_segment
from worker.log.segment_texts import SegmentTexts, describe_segment, read_texts
from worker.log.segments import read_segments
from worker.model import SegmentId

ENVIRONMENT = "env"


def make(client: redis.Redis) -> SegmentId:
    return create_segment(
        client,
        ENVIRONMENT,
        "s",
        context_kind="user",
        name="S",
        description="what it is",
        tags=["a", "b"],
    )


def texts(client: redis.Redis) -> SegmentTexts:
    return read_texts(client, ENVIRONMENT, read_segments(client, ENVIRONMENT, ["s"]))["s"]


def test_a_segment_is_made_with_what_is_said_of_it_in_its_first_version(redis_client: redis.Redis) -> None:
    make(redis_client)
    assert texts(redis_client) == SegmentTexts(description="what it is", tags=("a", "b"), version=1)


def test_of_two_who_have_read_the_same_only_one_is_heard(redis_client: redis.Redis) -> None:
    segment, read = make(redis_client), texts(redis_client).revisions
    describe_segment(redis_client, segment, revisions=read, tags=["a", "b", "c"])
    with pytest.raises(Conflict):
        describe_segment(redis_client, segment, revisions=read, tags=["a", "b", "d"], name="Another")
    [found] = read_segments(redis_client, ENVIRONMENT, ["s"])
    assert (found.name, texts(redis_client).tags) == ("S", ("a", "b", "c"))
    describe_segment(redis_client, segment, revisions=texts(redis_client).revisions, tags=[])
    assert texts(redis_client).tags == ()


def test_of_a_generation_that_is_gone_nothing_is_said(redis_client: redis.Redis) -> None:
    segment = SegmentId(ENVIRONMENT, "s", make(redis_client).generation + 1)
    with pytest.raises(NotFound):
        describe_segment(redis_client, segment, revisions=0, name="Another")
