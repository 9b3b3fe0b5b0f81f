"""Flag data as LaunchDarkly's SDKs take it from files: segments that lie in a store, and flags on them. Pure.

Source: https://launchdarkly.com/docs/sdk/features/flags-from-files
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from worker.model import DEFAULT_CONTEXT_KIND


class SegmentReference(NamedTuple):
    """What an SDK has to know of a segment to look its members up: it asks the store for ``{key}.g{generation}``."""

    key: str
    generation: int = 1
    context_kind: str = DEFAULT_CONTEXT_KIND


def segment_data(segments: Iterable[SegmentReference]) -> dict[str, Any]:
    """The segments by key, as data that SDKs take: unbounded, so that they look into the store for members."""
    return {
        each.key: {
            "key": each.key,
            # SDKs take an item of a higher version only; a segment that came back is another one.
            "version": each.generation,
            "generation": each.generation,
            "unbounded": True,
            "unboundedContextKind": each.context_kind,
            "included": [],
            "excluded": [],
            "rules": [],
            "salt": "",
            "deleted": False,
        }
        for each in segments
    }


def flag_data(segments: Iterable[SegmentReference]) -> dict[str, Any]:
    """For each segment a flag with its key, by the same key: true for its members, false for everybody else."""
    return {
        each.key: {
            "key": each.key,
            "version": 1,
            "on": True,
            "variations": [False, True],
            "fallthrough": {"variation": 0},
            "offVariation": 0,
            "targets": [],
            "prerequisites": [],
            "rules": [{"id": "members", "variation": 1, "clauses": [_in_segment(each)]}],
            "salt": "",
            "deleted": False,
        }
        for each in segments
    }


def _in_segment(segment: SegmentReference) -> dict[str, Any]:
    return {
        "contextKind": segment.context_kind,
        "attribute": "",
        "op": "segmentMatch",
        "values": [segment.key],
        "negate": False,
    }
