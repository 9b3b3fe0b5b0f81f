"""Members that were left out of a batch: what workers read of it, and what can be listed, as long as it is there."""

from __future__ import annotations

from typing import Any

import redis
from log_builders import SEGMENT, append, batch, commit_snapshot, drain_all, last, take
from msgspec.structs import replace

from worker.log.batch import Batch
from worker.log.entry import unpack_slice
from worker.log.rejected import read_rejected
from worker.model import RejectedMember, Rejections


def lacking(*pointers: str, count: int | None = None, keys: tuple[str, ...] = (SEGMENT.segment_key,)) -> Batch:
    listed = [RejectedMember(pointer, "member_id") for pointer in pointers]
    made = batch(b'{"the": "body"}', keys=keys, members={"ann": True, "bob": False})
    return replace(made, policy="skip", rejected=Rejections(count or len(listed), listed))


def test_a_drain_gets_what_is_left_without_parsing_anything(redis_client: redis.Redis) -> None:
    append(redis_client, lacking("/batch/1/userId"))

    [entry] = take(redis_client).read(most_bytes=1 << 20, most_entries=9)

    assert (entry.kind, entry.policy) == ("slice", "skip")
    assert unpack_slice(entry.content()) == {"ann": True, "bob": False}
    assert entry.rejected == b""


def test_a_batch_whose_every_member_could_be_read_is_stored_as_its_body_alone(redis_client: redis.Redis) -> None:
    append(redis_client, replace(batch(b"{}"), policy="skip"))

    [entry] = take(redis_client).read(most_bytes=1 << 20, most_entries=9)

    assert (entry.kind, entry.policy, entry.content()) == ("body", "skip", b"{}")
    assert read_rejected(redis_client, [SEGMENT], 10) == []


def test_the_body_stays_beside_what_is_left_of_it(redis_client: redis.Redis) -> None:
    append(redis_client, lacking("/batch/1/userId"))

    entries: Any = redis_client.xrange(f"segsync:{{{SEGMENT.environment_id}/{SEGMENT.segment_key}}}:g1:log")

    assert [fields[b"o"] for _, fields in entries] == [b'{"the": "body"}']


def test_rejected_members_are_listed_latest_batch_first(redis_client: redis.Redis) -> None:
    first, second = lacking("/batch/1/userId"), lacking("/batch/0", "/batch/7/value", count=250)
    append(redis_client, first, batch(), second)

    found = read_rejected(redis_client, [SEGMENT], 10)

    assert [item.batch_id for item in found] == [second.batch_id, first.batch_id]
    assert found[0].rejected == Rejections(
        250, [RejectedMember("/batch/0", "member_id"), RejectedMember("/batch/7/value", "member_id")]
    )
    assert [item.batch_id for item in read_rejected(redis_client, [SEGMENT], 1)] == [second.batch_id]


def test_of_a_payload_of_several_segments_its_own_cohort_s_log_lists_them(redis_client: redis.Redis) -> None:
    append(redis_client, lacking("/batch/1/userId", keys=(SEGMENT.segment_key, "rudderstack-other")))

    assert [item.rejected.count for item in read_rejected(redis_client, [SEGMENT], 10)] == [1]
    assert read_rejected(redis_client, [SEGMENT._replace(segment_key="rudderstack-other")], 10) == []


def test_what_is_compacted_is_listed_no_more(redis_client: redis.Redis) -> None:
    append(redis_client, lacking("/batch/1/userId"))
    drain_all(redis_client)
    compacted = last(redis_client)
    append(redis_client, kept := lacking("/batch/2/userId"))

    commit_snapshot(redis_client, upto=compacted)

    assert [item.batch_id for item in read_rejected(redis_client, [SEGMENT], 10)] == [kept.batch_id]
    name = f"segsync:{{{SEGMENT.environment_id}/{SEGMENT.segment_key}}}:g1:rejected"
    assert redis_client.zcard(name) == 1
