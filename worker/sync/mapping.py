"""Feeding a segment of one's choice: a cohort is bound to a key and a generation that flags target already.

It is done before the cohort's first payload, or when its segment was deleted: members never move from one segment to
another. One step for all of it, in several slots: the state server is no cluster.
"""

from __future__ import annotations

import re
from typing import Literal

import structlog

from worker.errors import Conflict, Misconfigured
from worker.log import keyspace
from worker.log.scripts import script
from worker.records.segment_keys import SegmentKeys
from worker.registry import cohorts_key, registration
from worker.state import state_errors
from worker.wiring import Wiring

_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}")
_MOST_GENERATIONS = 2**31
# Somebody else's payload, or map, comes in between once; not again and again.
_MOST_TRIES = 5

_log = structlog.get_logger(__name__)


def map_cohort(
    wiring: Wiring, environment_id: str, integration_key: str, cohort_id: str, *, key: str, generation: int
) -> Literal["mapped", "there"]:
    """From its next payload on, a cohort is the segment ``key``, in this generation.

    Receivers that remember another key answer 503 once, and find out.

    Returns:
        "there" when it is so already.

    Raises:
        Misconfigured: the key or the generation cannot be one.
        Conflict: the key is another cohort's or was made by hand; or a segment must be deleted first; or the key had
            that generation already. Nothing was changed.
        Unavailable: the state server is away; it was mapped or not, and doing it again is right.
    """
    if not _KEY.fullmatch(key):
        raise Misconfigured(
            "a segment's key begins with a letter or a digit, and has letters, digits, dots, dashes and underscores"
        )
    if not 0 < generation < _MOST_GENERATIONS:
        raise Misconfigured("a generation is a whole number, 1 or more")
    for _ in range(_MOST_TRIES):
        [has] = SegmentKeys(wiring.client).find(environment_id, integration_key, [cohort_id])
        verdict, *rest = _map(wiring, environment_id, integration_key, cohort_id, key, has or "", generation)
        if verdict == b"changed":
            continue
        if verdict in {b"mapped", b"there"}:
            _log.info("cohort.mapped", environment_id=environment_id, integration=integration_key, segment=key)
            return "mapped" if verdict == b"mapped" else "there"
        raise Conflict(_refusal(verdict, [each.decode() for each in rest], key, generation))
    raise Conflict("the cohort's segment changes all the time; try again")


def _map(  # noqa: PLR0917 - one call's facts
    wiring: Wiring, environment_id: str, integration_key: str, cohort_id: str, key: str, has: str, generation: int
) -> list[bytes]:
    segments_key, _, cohort = registration(environment_id, integration_key, cohort_id, key)
    keys = (
        keyspace.base(environment_id, key),
        cohorts_key(environment_id),
        segments_key,
        keyspace.base(environment_id, has) if has else "",
    )
    with state_errors():
        reply: list[bytes] = wiring.client.eval(
            script("map").text, len(keys), *keys, cohort, integration_key, cohort_id, key, has, generation
        )
    return reply


def _refusal(verdict: bytes, rest: list[str], key: str, generation: int) -> str:
    if verdict == b"lives":
        return (
            f"segment {rest[0]} lives, in generation {rest[1]}, and members do not move to another segment: "
            f"`segsync segments delete {rest[0]}` first; then the partner's next full sync fills the one chosen"
        )
    if verdict == b"past":
        return f"there were {rest[0]} generations of {key} already, so {generation} cannot come any more"
    return f"the key {key} is taken, by another cohort or a segment that was made by hand: one segment has one cohort"
