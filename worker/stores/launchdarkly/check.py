"""What is wrong with LaunchDarkly as a store, for the person who set it up."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from worker.errors import Unavailable
from worker.model import SegmentPatch
from worker.stores.launchdarkly.segments import LaunchDarklySegments, description_patch
from worker.stores.launchdarkly.sentinel import SENTINEL_KEY, LaunchDarklySentinel

# No segment can have this key: what asks for it is refused, with 403 by who may not create segments at all.
_NO_KEY: Final = "segsync probe"


def find_faults(segments: LaunchDarklySegments, sentinel: LaunchDarklySentinel) -> list[str]:
    """What is wrong, a sentence each. It changes nothing; what cannot be found out so shows with the first drain.

    Raises:
        Unavailable: the environment cannot be read: nothing else is worth trying.
    """
    segments.prove_environment()
    description = sentinel.description()
    tried: list[Callable[[], object]] = [lambda: _try_to_create(segments)]
    if description is not None:
        tried.append(lambda: _try_to_describe(segments, description))
        tried.append(lambda: _try_to_include(segments))
    faults: dict[str, None] = {}
    for attempt in tried:
        try:
            attempt()
        except Unavailable as fault:
            faults[str(fault)] = None
    return list(faults)


def _try_to_create(segments: LaunchDarklySegments) -> None:
    answer = segments.post({"key": _NO_KEY, "name": _NO_KEY, "tags": [SENTINEL_KEY]})
    if answer.status_code == HTTPStatus.CREATED:
        segments.delete(segments.read(answer).key)


def _try_to_describe(segments: LaunchDarklySegments, description: str) -> None:
    """A dry run, of a change that would change nothing."""
    operations = description_patch(description, description)
    segments.patch(SENTINEL_KEY, operations, hoped=(200, 400, 404, 409, 422), dry=True)


def _try_to_include(segments: LaunchDarklySegments) -> None:
    segments.change_members(SENTINEL_KEY, SegmentPatch("", [], []), lambda: None)
