"""Accepting into the segment log, on fakeredis and on the real server."""

from __future__ import annotations

import dataclasses

import pytest
import redis
from log_builders import ENVIRONMENT, SEGMENT, STORE, append, batch, bodies, drain_all, take
from msgspec.structs import replace

from worker.errors import InvalidBatch, NotFound, Unavailable
from worker.log import keyspace
from worker.log.append import Appends
from worker.log.batch import Made, WakeUp
from worker.log.entry import pack_made, unpack_slice
from worker.log.scripts import script
from worker.log.upkeep import Upkeep
from worker.model import SegmentId
from worker.registry import segments_key

REGISTERED = {SEGMENT.segment_key.encode(): b"rudderstack\x1fbeta"}


def segment_fields(client: redis.Redis, key: str = SEGMENT.segment_key) -> dict[bytes, bytes]:
    return client.hgetall(keyspace.base(ENVIRONMENT, key) + ":segment")  # type: ignore[return-value]


def deletion() -> Made:
    return Made(
        segment=SEGMENT,
        context_kind="user",
        integration_key="rudderstack",
        cohort_id="beta",
        batch_id="deletion",
        fields=pack_made("rudderstack", "import", b"", import_id="deletion"),
        store_ids=(STORE,),
        not_after_ms=10**15,
        import_id="deletion",
        final=True,
    )


def test_the_first_payload_creates_the_segment_with_generation_one(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    fields = segment_fields(redis_client)
    assert (fields[b"generation"], fields[b"context_kind"], fields[b"cohort_id"]) == (b"1", b"user", b"beta")


def test_entries_are_read_back_in_the_order_appended_with_their_bytes_unchanged(redis_client: redis.Redis) -> None:
    sent = [b'{"n":1}', bytes(range(256)), b"x" * 100_000]
    append(redis_client, *(batch(body) for body in sent))
    assert bodies(take(redis_client)) == sent


def test_only_the_first_append_makes_a_wake_up_due(redis_client: redis.Redis) -> None:
    assert append(redis_client, batch(), batch(), batch()) == [[WakeUp(SEGMENT, STORE)], [], []]


def test_each_store_gets_a_wake_up_of_its_own(redis_client: redis.Redis) -> None:
    [due] = append(redis_client, batch(stores=("a", "b")))
    assert [wake_up.store_id for wake_up in due] == ["a", "b"]


def test_an_append_while_a_drain_holds_the_lease_makes_no_wake_up_due(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    take(redis_client)
    assert append(redis_client, batch()) == [[]]


def test_a_repeated_append_of_the_same_batch_changes_nothing(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"once", batch_id="b1"))
    append(redis_client, batch(b"once", batch_id="b1"))
    assert bodies(take(redis_client)) == [b"once"]


def test_another_context_kind_is_refused_and_nothing_is_stored(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    [outcome] = Appends(redis_client).append([batch(b"2", kind="device")])
    assert isinstance(outcome, InvalidBatch)
    assert outcome.reason == "context_kind"
    assert bodies(take(redis_client)) == [b"1"]


def test_a_refused_batch_does_not_disturb_those_in_the_same_round_trip(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    outcomes = Appends(redis_client).append([batch(b"2"), batch(b"no", kind="device"), batch(b"3")])
    assert [isinstance(outcome, InvalidBatch) for outcome in outcomes] == [False, True, False]
    assert bodies(take(redis_client)) == [b"1", b"2", b"3"]


def test_the_latest_name_and_url_win_and_absent_ones_change_nothing(redis_client: redis.Redis) -> None:
    first, second, third = batch(), batch(), batch()
    first.targets[0].cohort.name, first.targets[0].cohort.url = "Beta", "https://partner.example/1"
    second.targets[0].cohort.name = "Beta testers"
    append(redis_client, first, second, third)
    fields = segment_fields(redis_client)
    assert (fields[b"name"], fields[b"url"]) == (b"Beta testers", b"https://partner.example/1")


def test_an_append_that_comes_after_its_sender_was_told_of_a_failure_is_refused(redis_client: redis.Redis) -> None:
    late = batch(not_after_ms=Upkeep(redis_client).server_ms() - 1)
    [outcome] = Appends(redis_client).append([late])
    assert isinstance(outcome, Unavailable)
    assert redis_client.keys("*:log") == []


def test_a_repeated_append_says_again_which_wake_ups_are_due(redis_client: redis.Redis) -> None:
    first = append(redis_client, batch(batch_id="b1"))
    assert append(redis_client, batch(batch_id="b1")) == first


def test_a_repeated_append_that_is_applied_already_makes_no_wake_up_due(redis_client: redis.Redis) -> None:
    append(redis_client, batch(batch_id="b1"))
    drain_all(redis_client)
    assert append(redis_client, batch(batch_id="b1")) == [[]]


def test_what_an_append_presupposes_is_written_with_it_if_it_is_absent(redis_client: redis.Redis) -> None:
    redis_client.hset("registry", "a", "kept")
    needy = replace(batch(), prerequisites=[("registry", "a", "new"), ("registry", "b", "new")])
    append(redis_client, needy)
    assert redis_client.hgetall("registry") == {b"a": b"kept", b"b": b"new"}


def test_a_segment_key_that_is_another_cohorts_by_now_is_not_appended_to(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    other = batch(b"2")
    other.targets[0].cohort.cohort_id = "another"
    [outcome] = Appends(redis_client).append([other])
    assert isinstance(outcome, Unavailable)
    assert bodies(take(redis_client)) == [b"1"]


def test_a_segment_is_registered_when_it_is_created_and_then_no_more(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    assert redis_client.hgetall(segments_key(ENVIRONMENT)) == REGISTERED
    redis_client.delete(segments_key(ENVIRONMENT))
    append(redis_client, batch())
    assert not redis_client.exists(segments_key(ENVIRONMENT))


def test_a_payload_whose_segment_cannot_be_registered_is_not_accepted(redis_client: redis.Redis) -> None:
    redis_client.set(segments_key(ENVIRONMENT), "no hash")
    [outcome] = Appends(redis_client).append([batch()])
    assert isinstance(outcome, Unavailable)


def test_batches_of_segments_that_are_there_and_that_are_not_may_come_together(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1", keys=("rudderstack-known",)))
    sent = [batch(b"2", keys=(f"rudderstack-{key}",)) for key in ("new", "known", "new", "newer", "known")]
    dues = append(redis_client, *sent)
    new, newer, known = (SegmentId(ENVIRONMENT, f"rudderstack-{key}", 1) for key in ("new", "newer", "known"))
    assert dues == [[WakeUp(new, STORE)], [], [], [WakeUp(newer, STORE)], []]
    assert [len(bodies(take(redis_client, segment=each))) for each in (new, newer, known)] == [2, 1, 3]


def test_a_payload_after_a_deletion_begins_the_next_generation_which_is_registered(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    Appends(redis_client).append_made(deletion())
    redis_client.delete(segments_key(ENVIRONMENT))
    append(redis_client, batch())
    assert segment_fields(redis_client)[b"generation"] == b"2"
    assert redis_client.hgetall(segments_key(ENVIRONMENT)) == REGISTERED


def test_what_people_made_for_a_generation_is_not_appended_to_the_next(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    Appends(redis_client).append_made(deletion())
    append(redis_client, batch(b"2"))
    with pytest.raises(NotFound):
        Appends(redis_client).append_made(dataclasses.replace(deletion(), batch_id="change", import_id="", final=False))
    assert bodies(take(redis_client, segment=SEGMENT._replace(generation=2))) == [b"2"]


def test_an_append_that_failed_halfway_makes_the_next_one_no_duplicate(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    log = _key(":log")
    redis_client.rename(log, "aside")
    redis_client.set(log, "no stream")
    [outcome] = Appends(redis_client).append([batch(b"2", batch_id="again")])
    assert isinstance(outcome, Unavailable)
    redis_client.rename("aside", log)
    append(redis_client, batch(b"2", batch_id="again"))
    assert bodies(take(redis_client)) == [b"1", b"2"]


def test_an_unusable_key_fails_its_own_batch_and_no_other(redis_client: redis.Redis) -> None:
    redis_client.set(keyspace.base(ENVIRONMENT, "rudderstack-broken") + ":segment", "no hash")
    broken = batch(b"secret payload", keys=("rudderstack-broken",))
    outcomes = Appends(redis_client).append([batch(b"1"), broken, batch(b"2")])
    assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [False, True, False]
    assert "secret" not in str(outcomes[1])
    assert bodies(take(redis_client)) == [b"1", b"2"]


def test_a_large_body_is_compressed_when_that_pays(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"segsync " * 10_000))
    [entry] = take(redis_client).read(most_bytes=1 << 20, most_entries=1)
    assert entry.codec == b"z"
    assert len(entry.data) < 1000


def test_a_payload_of_several_segments_puts_a_slice_into_each_log(redis_client: redis.Redis) -> None:
    several = batch(b"whole body", keys=("rudderstack-a", "rudderstack-b"))
    several.targets[0].cohort.members.update({"ann": True, "bob": False})
    several.targets[1].cohort.members.update({"cyd": True})
    append(redis_client, several)
    for key, members in (("rudderstack-a", {"ann": True, "bob": False}), ("rudderstack-b", {"cyd": True})):
        [entry] = take(redis_client, segment=SegmentId(ENVIRONMENT, key, 1)).read(most_bytes=1000, most_entries=9)
        assert entry.kind == "slice"
        assert unpack_slice(entry.content()) == members


def test_a_shared_payload_is_stored_once_with_the_names_of_its_logs(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"whole body", batch_id="b9", keys=("rudderstack-a", "rudderstack-b")))
    assert redis_client.hget(keyspace.payload("b9"), "body") == b"whole body"
    assert redis_client.scard(f"{keyspace.payload('b9')}:logs") == 2
    assert redis_client.zcard(keyspace.PAYLOADS) == 0


def test_a_payload_that_one_of_its_logs_cannot_take_is_left_to_the_sweeper(redis_client: redis.Redis) -> None:
    redis_client.set(keyspace.base(ENVIRONMENT, "rudderstack-b") + ":g1:log", "no stream")
    shared = batch(batch_id="b9", keys=("rudderstack-a", "rudderstack-b"), not_after_ms=10**15)
    outcomes = Appends(redis_client).append([shared, batch(b"another")])
    assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [True, False]
    assert redis_client.zscore(keyspace.PAYLOADS, "b9") == 10**15
    assert redis_client.exists(keyspace.payload("b9")) == 1


def test_scripts_that_the_server_forgot_within_a_transaction_are_loaded_again(redis_client: redis.Redis) -> None:
    keys = ("rudderstack-a", "rudderstack-b")
    append(redis_client, batch(keys=keys))
    redis_client.script_flush()
    for key in keys:  # the check beforehand is known again, the append is not
        script("claim")(redis_client, keyspace.base(ENVIRONMENT, key), "user", "0", "rudderstack", key[-1])
    append(redis_client, batch(keys=keys))
    assert len(bodies(take(redis_client, segment=SegmentId(ENVIRONMENT, keys[0], 1)))) == 2


def test_several_segments_of_which_one_has_another_kind_are_refused_whole(redis_client: redis.Redis) -> None:
    append(redis_client, batch(keys=("rudderstack-b",), kind="device"))
    [outcome] = Appends(redis_client).append([batch(keys=("rudderstack-a", "rudderstack-b"))])
    assert isinstance(outcome, InvalidBatch)
    assert segment_fields(redis_client, "rudderstack-a") == {}


def test_repeating_a_batch_of_several_segments_appends_only_what_is_missing(redis_client: redis.Redis) -> None:
    keys = ("rudderstack-a", "rudderstack-b")
    append(redis_client, batch(batch_id="b1", keys=keys))
    append(redis_client, batch(batch_id="b1", keys=keys))
    for key in keys:
        assert len(bodies(take(redis_client, segment=SegmentId(ENVIRONMENT, key, 1)))) == 1


def test_a_log_with_a_wake_up_due_is_in_the_index_of_those_ahead(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    assert list(redis_client.hgetall(keyspace.AHEAD)) == [keyspace.log_name(SEGMENT).encode()]


def test_an_entry_without_what_it_presupposes_does_not_count_as_accepted(redis_client: redis.Redis) -> None:
    redis_client.set("registry", "no hash")
    needy = replace(batch(), prerequisites=[("registry", "a", "new")])
    outcomes = Appends(redis_client).append([needy, batch()])
    assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [True, False]


def test_what_one_entry_presupposes_in_vain_fails_its_own_batch_and_no_other(redis_client: redis.Redis) -> None:
    redis_client.set("broken", "no hash")
    needs = [[("registry", "a", "new")], [("registry", "a", "new"), ("broken", "b", "new")], [("registry", "c", "new")]]
    outcomes = Appends(redis_client).append([replace(batch(), prerequisites=each) for each in needs])
    assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [False, True, False]


def test_outcomes_come_in_the_order_of_the_batches_also_where_some_have_several_segments(
    redis_client: redis.Redis,
) -> None:
    several = ("rudderstack-a", "rudderstack-b")
    append(redis_client, batch(), batch(keys=several))
    outcomes = Appends(redis_client).append(
        [batch(keys=several), batch(kind="device"), batch(kind="device", keys=several), batch(), batch(keys=several)]
    )
    assert [isinstance(outcome, InvalidBatch) for outcome in outcomes] == [False, True, True, False, False]


def recent_ids(client: redis.Redis) -> set[bytes]:
    return set(client.zrange(_key(":recent"), 0, -1))  # type: ignore[arg-type]


def _key(suffix: str) -> str:
    return keyspace.base(ENVIRONMENT, SEGMENT.segment_key) + ":g1" + suffix


def test_batch_ids_that_are_older_than_a_minute_go_once_a_minute(redis_client: redis.Redis) -> None:
    append(redis_client, batch(batch_id="first"))
    now_ms = Upkeep(redis_client).server_ms()
    redis_client.zadd(_key(":recent"), {"old": now_ms - 61_000, "young": now_ms - 40_000})
    append(redis_client, batch(batch_id="second"))
    assert recent_ids(redis_client) == {b"old", b"young", b"first", b"second"}  # it was done with the first one
    redis_client.hset(_key(":head"), "tidied", now_ms - 60_000)
    append(redis_client, batch(batch_id="third"))
    assert recent_ids(redis_client) == {b"young", b"first", b"second", b"third"}


def test_all_batch_ids_together_outlive_the_minute_of_the_last_one(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    # The next to renew that comes a minute later; an id that comes just before it must be known for a minute as well.
    assert 120_000 < int(redis_client.pttl(_key(":recent"))) <= 180_000


def test_an_index_that_cannot_be_written_does_not_make_an_accepted_batch_fail(redis_client: redis.Redis) -> None:
    redis_client.set(keyspace.AHEAD, "no hash")
    append(redis_client, batch(b"1"))
    assert bodies(take(redis_client)) == [b"1"]


def test_scripts_are_loaded_again_after_the_server_forgot_them(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    redis_client.script_flush()
    append(redis_client, batch())
    assert len(bodies(take(redis_client))) == 2
