"""Segments that people make, before any batch: they have no cohort, and come through no integration."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from worker.errors import Conflict
from worker.log import keyspace
from worker.log.scripts import script
from worker.model import SegmentId
from worker.registry import registration
from worker.state import state_errors

# Stands where a segment of a cohort has its integration; no manifest's folder is called so.
HAND_MADE = "-"


def create_segment(
    client: redis.Redis,
    environment_id: str,
    segment_key: str,
    *,
    context_kind: str,
    name: str,
    description: str = "",
    tags: Sequence[str] = (),
) -> SegmentId:
    """Create a segment of its own: empty, and the next generation where one of that key was deleted.

    Registered first, as segments of cohorts are: what was cut short after it can be done again.

    Args:
        client: the state server.
        environment_id: where.
        segment_key: valid, as LaunchDarkly has it.
        context_kind: of all its members.
        name: for people.
        description: for people; as ``tags``, what ``segment_texts`` reads.
        tags: for people.

    Raises:
        Conflict: there is a segment of that key, or it is kept for a cohort.
        Unavailable: the state server is away; it may be created.
    """
    key, field, value = registration(environment_id, HAND_MADE, "", segment_key)
    with state_errors():
        client.hsetnx(key, field, value)
        holder = client.hget(key, field)
    if holder != value.encode():
        raise Conflict(f"the key {segment_key!r} is a cohort's")
    base = keyspace.base(environment_id, segment_key)
    said = ("name", name, "description", description, "tags", " ".join(tags))
    verdict, *generation = script("create")(client, base, context_kind, HAND_MADE, "", *said)
    if verdict == b"taken":
        raise Conflict(f"the key {segment_key!r} was a cohort's, and what it left is not gone")
    if verdict == b"there":
        raise Conflict(f"there is a segment {segment_key!r} already")
    return SegmentId(environment_id, segment_key, int(generation[0]))
