"""A segment for a cohort whose batch comes to it by replay: the one there is, or a new one."""

from __future__ import annotations

import redis

from worker.log import keyspace
from worker.log.scripts import script
from worker.state import state_errors


def claim_segment(
    client: redis.Redis,
    environment_id: str,
    segment_key: str,
    *,
    context_kind: str,
    integration_key: str,
    cohort_id: str,
    name: str | None = None,
    url: str | None = None,
) -> int | str:
    """Create the segment unless it is there; name and url are its own where it has none of a later batch.

    Returns:
        Its generation; or why it cannot be this cohort's, in words.

    Raises:
        Unavailable: the state server is away.
    """
    base = keyspace.base(environment_id, segment_key)
    verdict, *rest = script("claim")(client, base, context_kind, "1", integration_key, cohort_id)
    if verdict == b"free":
        with state_errors():
            for field, value in (("name", name), ("url", url)):
                if value:
                    client.hsetnx(f"{base}:segment", field, value)
        return int(rest[0])
    if verdict == b"taken":
        return "the segment is another cohort's"
    return f"the segment holds contexts of kind {rest[0].decode()!r}, and the batch is of kind {context_kind!r}"
