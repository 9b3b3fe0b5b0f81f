"""Where an environment's segments are registered: by cohort, and by key."""

from __future__ import annotations

_SEPARATOR = "\x1f"


def registration(environment_id: str, integration_key: str, cohort_id: str, segment_key: str) -> tuple[str, str, str]:
    """The hash entry (key, field, value) by which a segment is found; its value is the cohort, as both hashes name it.

    It is written before the segment is.
    """
    return segments_key(environment_id), segment_key, f"{integration_key}{_SEPARATOR}{cohort_id}"


def cohorts_key(environment_id: str) -> str:
    """The hash of cohorts: cohort -> segment key."""
    return f"segsync:{{{environment_id}}}:cohorts"


def segments_key(environment_id: str) -> str:
    """The hash of segments: segment key -> cohort."""
    return f"segsync:{{{environment_id}}}:segments"
