"""What is known of segments themselves: name, kind, member count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import redis

from worker.log import keyspace
from worker.state import state_errors


@dataclass(slots=True, frozen=True)
class Segment:
    """A live segment.

    Attributes:
        members: how many members it includes, from the replies of the environment's first store.
        members_exact: False after a drain that did not end cleanly: both counts are then approximate.
        accepted_ms: when the last of its log was accepted.
        created_ms: when this generation's first payload was, or when it was made by hand.
        excluded: how many contexts it excludes.
    """

    segment_key: str
    generation: int
    context_kind: str
    integration_key: str
    cohort_id: str
    name: str
    url: str
    members: int
    members_exact: bool
    accepted_ms: int | None
    created_ms: int = 0
    excluded: int = 0


def read_segments(client: redis.Redis, environment_id: str, segment_keys: Sequence[str]) -> list[Segment]:
    """Those of these segments that exist, in the order given.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors(), client.pipeline(transaction=False) as pipe:
        for key in segment_keys:
            pipe.hgetall(f"{keyspace.base(environment_id, key)}:segment")
        replies = cast("list[dict[bytes, bytes]]", pipe.execute())
        found = [
            (key, {name.decode(): value.decode() for name, value in reply.items()})
            for key, reply in zip(segment_keys, replies, strict=True)
            if b"context_kind" in reply
        ]
        for key, fields in found:
            pipe.hget(f"{keyspace.base(environment_id, key)}:g{fields['generation']}:head", "last")
        ends = cast("list[bytes | None]", pipe.execute())
    return [
        Segment(
            segment_key=key,
            generation=int(fields["generation"]),
            context_kind=fields["context_kind"],
            integration_key=fields["integration_key"],
            cohort_id=fields["cohort_id"],
            name=fields.get("name", ""),
            url=fields.get("url", ""),
            members=int(fields["members"]),
            members_exact=fields["members_exact"] == "1",
            accepted_ms=None if end is None else int(end.partition(b"-")[0]),
            created_ms=int(fields.get("created_ms", 0)),
            excluded=int(fields.get("excluded", 0)),
        )
        for (key, fields), end in zip(found, ends, strict=True)
    ]
