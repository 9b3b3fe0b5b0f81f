"""Cohorts that are bound to a segment of one's choice, on fakeredis and on a real server."""

from __future__ import annotations

import pytest
import redis
from sync_builders import Installation

from worker.errors import Conflict, Misconfigured, Unavailable
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.creation import create_segment
from worker.log.segments import Segment, read_segments
from worker.model import Cohort, SegmentId
from worker.registry import segments_key
from worker.sync.deleting import delete_segment
from worker.sync.mapping import map_cohort


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def bind(installation: Installation, cohort: str = "beta", *, key: str = "chosen", generation: int = 3) -> str:
    where = installation.wiring, installation.environment_id, "rudderstack", cohort
    return map_cohort(*where, key=key, generation=generation)


def send(installation: Installation, cohort: str = "beta", key: str | None = None) -> object:
    """Append a payload as a receiver does; ``key`` is what one remembers that has not asked lately."""
    [allotted] = installation.wiring.segment_keys.allot(installation.environment_id, "rudderstack", [cohort])
    batch = Batch(
        batch_id=f"{cohort}-{key}-{installation.client.dbsize()}",
        environment_id=installation.environment_id,
        context_kind="user",
        integration_key="rudderstack",
        parser_digest=installation.manifest.parser.digest,
        body=installation.body(cohort, add=("ann",)),
        targets=[Target(key or allotted, Cohort(cohort, members={"ann": True}))],
        store_ids=[installation.store_id],
        not_after_ms=10**15,
    )
    [outcome] = Appends(installation.client).append([batch])
    return outcome


def segments(installation: Installation) -> dict[str, Segment]:
    keys = installation.wiring.segment_keys.registered(installation.environment_id)
    return {each.segment_key: each for each in read_segments(installation.client, installation.environment_id, keys)}


def delete(installation: Installation, key: str) -> None:
    delete_segment(installation.wiring, Appends(installation.client), installation.environment_id, key, by="test")


def everything(client: redis.Redis) -> dict[bytes, bytes | None]:
    return {name: client.dump(name) for name in client.scan_iter()}


def refusal(installation: Installation, cohort: str = "beta", *, key: str = "chosen", generation: int = 3) -> str:
    before = everything(installation.client)
    with pytest.raises(Conflict) as refused:
        bind(installation, cohort, key=key, generation=generation)
    assert everything(installation.client) == before
    return str(refused.value)


def test_the_first_payload_of_a_bound_cohort_makes_the_chosen_segment_in_the_chosen_generation(
    installation: Installation,
) -> None:
    assert bind(installation) == "mapped"
    assert segments(installation) == {}
    send(installation)
    found = segments(installation)
    assert {key: each.generation for key, each in found.items()} == {"chosen": 3}
    assert bind(installation) == "there"


def test_binding_again_before_the_first_payload_may_choose_a_lower_generation(installation: Installation) -> None:
    bind(installation, generation=20)
    bind(installation, generation=2)
    send(installation)
    assert segments(installation)["chosen"].generation == 2


def test_two_cohorts_on_one_segment_are_refused(installation: Installation) -> None:
    bind(installation)
    assert "chosen is taken" in refusal(installation, "gamma")
    assert "chosen is taken" in refusal(installation, "gamma", generation=4)
    send(installation)
    assert "chosen is taken" in refusal(installation, "gamma")


def test_the_key_of_another_cohort_or_of_a_segment_made_by_hand_is_refused(installation: Installation) -> None:
    send(installation, "gamma")
    assert "is taken" in refusal(installation, key="rudderstack-gamma")
    create_segment(
        installation.client,
        installation.environment_id,
        "by-hand",
        context_kind="user",
        name="By hand",
    )
    assert "by-hand is taken" in refusal(installation, key="by-hand")


def test_a_cohort_whose_segment_lives_keeps_it(installation: Installation) -> None:
    send(installation)
    assert "`segsync segments delete rudderstack-beta` first" in refusal(installation)
    assert "rudderstack-beta lives, in generation 1" in refusal(installation, key="rudderstack-beta", generation=2)


def test_a_cohort_whose_segment_was_deleted_feeds_another_and_who_remembers_the_first_is_told_to_ask(
    installation: Installation,
) -> None:
    send(installation)
    delete(installation, "rudderstack-beta")
    assert bind(installation) == "mapped"
    refused = send(installation, key="rudderstack-beta")
    assert isinstance(refused, Unavailable)
    send(installation)
    assert set(segments(installation)) == {"chosen"}


def test_a_cohort_may_come_back_to_the_key_that_it_had(installation: Installation) -> None:
    send(installation)
    delete(installation, "rudderstack-beta")
    bind(installation)
    send(installation)
    delete(installation, "chosen")
    bind(installation, key="rudderstack-beta", generation=2)
    send(installation)
    assert {key: each.generation for key, each in segments(installation).items()} == {"rudderstack-beta": 2}
    assert isinstance(send(installation, key="chosen"), Unavailable)


def test_a_generation_that_the_key_had_already_is_refused(installation: Installation) -> None:
    bind(installation)
    send(installation)
    delete(installation, "chosen")
    assert "there were 3 generations of chosen already" in refusal(installation)
    bind(installation, generation=7)
    send(installation)
    assert segments(installation)["chosen"].generation == 7


@pytest.mark.parametrize(
    ("key", "generation"), [("-a", 1), ("a b", 1), ("", 1), ("x" * 257, 1), ("a", 0), ("a", 2**31)]
)
def test_what_can_be_no_segment_is_refused(installation: Installation, key: str, generation: int) -> None:
    with pytest.raises(Misconfigured):
        bind(installation, key=key, generation=generation)


def test_the_chosen_segment_s_log_is_its_own(installation: Installation) -> None:
    bind(installation)
    send(installation)
    segment = SegmentId(installation.environment_id, "chosen", 3)
    [status] = installation.wiring.upkeep.statuses(installation.environment_id, ["chosen"], [installation.store_id])
    assert status.segment == segment


def test_a_key_that_its_cohort_has_left_is_not_made_by_hand_while_payloads_may_still_name_it(
    installation: Installation,
) -> None:
    send(installation, "beta")
    delete(installation, "rudderstack-beta")
    bind(installation, key="chosen")
    # As if its registration were gone.
    installation.client.hdel(segments_key(installation.environment_id), "rudderstack-beta")
    with pytest.raises(Conflict):
        create_segment(
            installation.client,
            installation.environment_id,
            "rudderstack-beta",
            context_kind="user",
            name="By hand",
        )
    assert set(segments(installation)) == set()
