"""What people say of segments: name, description, tags. It lies beside the segment, and goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import redis

from worker.errors import Conflict, NotFound
from worker.log import keyspace
from worker.log.scripts import script
from worker.log.segments import Segment
from worker.model import SegmentId
from worker.state import state_errors


@dataclass(slots=True, frozen=True)
class SegmentTexts:
    """What is known of a segment beside ``Segment``.

    Attributes:
        described_ms: when people last said something; 0 for never.
        version: grows with every entry of its log, and with everything that is said of it.
        revisions: how often people have said something.
    """

    description: str = ""
    tags: tuple[str, ...] = ()
    described_ms: int = 0
    version: int = 1
    revisions: int = 0


def read_texts(client: redis.Redis, environment_id: str, segments: Sequence[Segment]) -> Mapping[str, SegmentTexts]:
    """The texts of these segments, by segment key; one round trip.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors(), client.pipeline(transaction=False) as pipe:
        for segment in segments:
            segment_id = SegmentId(environment_id, segment.segment_key, segment.generation)
            base = keyspace.base(environment_id, segment.segment_key)
            pipe.hmget(f"{base}:segment", "description", "tags", "described_ms", "revisions")
            pipe.hget(f"{keyspace.prefix(segment_id)}:head", "batches")
        replies = pipe.execute()
    found: dict[str, SegmentTexts] = {}
    for segment, texts, batches in zip(segments, replies[::2], replies[1::2], strict=True):
        description, tags, described_ms, revisions = cast("list[bytes | None]", texts)
        found[segment.segment_key] = SegmentTexts(
            description=(description or b"").decode(),
            tags=tuple((tags or b"").decode().split()),  # no tag has a blank in it
            described_ms=int(described_ms or 0),
            version=1 + int(revisions or 0) + int(batches or 0),
            revisions=int(revisions or 0),
        )
    return found


def describe_segment(
    client: redis.Redis,
    segment: SegmentId,
    *,
    revisions: int,
    name: str | None = None,
    description: str | None = None,
    tags: Sequence[str] | None = None,
) -> None:
    """Say something of a segment; None leaves it as it is. A partner's next payload brings the partner's own name.

    Args:
        client: the state server.
        segment: the generation that is meant.
        revisions: of the texts on which this is founded. Not their version: that grows with every payload, which says
            nothing about them, and a cohort that is synced all the time could never be described.
        name: what people see.
        description: for people.
        tags: all of them.

    Raises:
        Conflict: somebody has said something since; nothing was noted.
        NotFound: that generation of the segment is gone.
        Unavailable: the state server is away; it was noted or not.
    """
    said = {"name": name, "description": description, "tags": None if tags is None else " ".join(tags)}
    arguments = [text for field, value in said.items() if value is not None for text in (field, value)]
    base = keyspace.base(segment.environment_id, segment.segment_key)
    verdict = script("describe")(client, base, segment.generation, revisions, *arguments)
    if verdict == b"gone":
        raise NotFound(f"there is no segment {segment.segment_key!r}")
    if verdict == b"superseded":
        raise Conflict("the segment was changed meanwhile; read it again, and try again")
