"""The figures of what waits, as the scheduler writes and receivers read them."""

from __future__ import annotations

import redis

from worker.log.pending import PENDING, Pending, read_pending, write_pending

SOME = {"env-1": Pending(12_345, 1_700_000_000_000, 1_700_000_010_000), "env-2": Pending(0, None, 1_700_000_010_000)}


def test_figures_are_read_back_as_they_were_written(redis_client: redis.Redis) -> None:
    write_pending(redis_client, SOME)

    assert read_pending(redis_client) == SOME


def test_new_figures_take_the_place_of_all_former_ones(redis_client: redis.Redis) -> None:
    write_pending(redis_client, SOME)
    write_pending(redis_client, {"env-2": Pending(7, 5, 6)})

    assert read_pending(redis_client) == {"env-2": Pending(7, 5, 6)}

    write_pending(redis_client, {})

    assert read_pending(redis_client) == {}


def test_where_no_scheduler_has_written_there_are_none(redis_client: redis.Redis) -> None:
    assert read_pending(redis_client) == {}


def test_what_a_newer_scheduler_tells_besides_is_left_aside(redis_client: redis.Redis) -> None:
    redis_client.hset(PENDING, "env-1", "7 - 9 more of it")

    assert read_pending(redis_client) == {"env-1": Pending(7, None, 9)}
