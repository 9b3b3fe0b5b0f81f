"""What the benchmarks send, as two partners send it, and its way into a log."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from itertools import islice

from worker.cli.bench.installation import Installation
from worker.errors import Misconfigured
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.parsers import parser_entry
from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import Manifest
from worker.model import Cohort, SegmentId

INTEGRATION = "rudderstack"
SEGMENT = "segment-audiences"
# How many are appended at once.
_GROUP = 64
_TO_THE_LOG_MS = 60_000


def people(count: int, seed: str = "") -> list[str]:
    """So many ids, UUIDs as partners send them: the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - the same people in every run
    return [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(count)]


def body(environment_id: str, cohort_id: str, add: Sequence[str], remove: Sequence[str] = ()) -> bytes:
    """One request as RudderStack sends it: two lists of ids, 46 bytes a member."""
    added, removed = (",".join(f'{{"id":"{person}"}}' for person in members) for members in (add, remove))
    return (
        f'{{"environmentId":"{environment_id}","cohortId":"{cohort_id}","cohortName":"Cohort {cohort_id}",'
        f'"contextKind":"user","listData":{{"add":[{added}],"remove":[{removed}]}}}}'
    ).encode()


def segment_body(environment_id: str, cohort_id: str, members: Sequence[str]) -> bytes:
    """One request as Segment sends it, whose batches have a thousand: a boolean and the cohort with each member."""
    batch = ",".join(
        f'{{"userId":"{member}","cohortName":"Cohort {cohort_id}","cohortId":"{cohort_id}","value":true}}'
        for member in members
    )
    return f'{{"environmentId":"{environment_id}","contextKind":"user","batch":[{batch}]}}'.encode()


def append(
    installation: Installation, cohort_id: str, bodies: Sequence[bytes], integration: str = INTEGRATION
) -> SegmentId:
    """Put bodies of one cohort into its log as the receiver does, without waking anybody; returns the segment.

    Raises:
        Misconfigured: the log does not take one.
    """
    wiring, environment_id, manifest = installation.wiring, installation.environment_id, _manifest(integration)
    [segment_key] = wiring.segment_keys.allot(environment_id, integration, [cohort_id])
    target = Target(segment_key, Cohort(cohort_id, f"Cohort {cohort_id}", None))
    appends, waiting = Appends(wiring.client), iter(bodies)
    while group := list(islice(waiting, _GROUP)):
        batches = [
            Batch(
                batch_id=uuid.uuid4().hex,
                environment_id=environment_id,
                context_kind="user",
                integration_key=integration,
                parser_digest=manifest.parser.digest,
                body=each,
                targets=[target],
                store_ids=[installation.store_id],
                not_after_ms=time.time_ns() // 1_000_000 + _TO_THE_LOG_MS,
                prerequisites=[parser_entry(manifest.parser.digest, manifest.parser.text)],
            )
            for each in group
        ]
        for outcome in appends.append(batches):
            if isinstance(outcome, Exception):
                raise Misconfigured(f"the log does not take a payload: {outcome}")
    return SegmentId(environment_id, segment_key, 1)


def _manifest(integration: str) -> Manifest:
    found = load_catalog()[integration]
    assert isinstance(found, Manifest), "it ships with segsync"
    return found
