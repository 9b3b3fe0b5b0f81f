from __future__ import annotations

import pytest
import redis

from worker.stores.layout import context_hash, context_hashes
from worker.stores.redis.bulk import pack_commands


@pytest.mark.parametrize("prefix", ["launchdarkly", "prä:fix"])
@pytest.mark.parametrize("members", [["ann"], ["ann", "zoë 🎉", ""]])
def test_bulk_packed_commands_are_byte_for_byte_those_of_redis_py(prefix: str, members: list[str]) -> None:
    keys = [f"{prefix}:big_segment_include:{context_hash(member)}" for member in members]
    commands = [("SADD", key, "beta-users.g1") for key in keys]
    packed = redis.Connection().pack_commands(commands)
    assert pack_commands(b"SADD", prefix, context_hashes(members), "beta-users.g1") == b"".join(packed)
    packed = redis.Connection().pack_commands([("SMEMBERS", key) for key in keys])
    assert pack_commands(b"SMEMBERS", prefix, context_hashes(members), None) == b"".join(packed)


def test_nobody_to_write_is_nothing_to_send() -> None:
    assert pack_commands(b"SREM", "launchdarkly", [], "beta-users.g1") == b""


def test_asking_stands_in_front_of_each_command() -> None:
    hashes = context_hashes(["ann", "bob"])
    one_by_one = [redis.Connection().pack_command("ASKING")[0] + pack_commands(b"SADD", "p", [h], "r") for h in hashes]
    assert pack_commands(b"SADD", "p", hashes, "r", asking=True) == b"".join(one_by_one)
