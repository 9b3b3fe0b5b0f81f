"""Which segment a request is about, and whether its sender may: what the routes of segments are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from worker.api.access import Asking, Caller
from worker.api.appending import append
from worker.api.errors import refused
from worker.api.segment_form import Listed
from worker.api.service import Service
from worker.api.wire import EnvironmentKey, ProjectKey
from worker.log.changes import ManualChange, append_change
from worker.log.segment_texts import read_texts
from worker.log.segments import read_segments
from worker.model import SegmentId
from worker.records.directory import Environment

# What one round trip reads.
_PORTION = 1_000


@dataclass(slots=True, frozen=True)
class EnvironmentAsked:
    """A request about the segments of an environment."""

    service: Service
    caller: Caller
    project_key: str
    environment_key: str

    def viewed(self) -> Environment:
        """The environment, for who may see its segments.

        Raises:
            Refused: 403, or 404.
        """
        return self.caller.environment(self.project_key, self.environment_key)

    def changed(self, segment_key: str, *actions: str) -> Environment:
        """The environment, for who may do all of this to that segment of it.

        Raises:
            Refused: 403, or 404.
        """
        for action in actions:
            if not self.caller.may(action, self.project_key, self.environment_key, segment_key):
                raise refused(403, f"Forbidden. The token has no right to {action} on this segment.")
        found = self.caller.directory.environment_by_key(self.project_key, self.environment_key)
        if found is None:
            raise refused(404, "Environment or project not found")
        return found

    def segments(self, environment: Environment) -> list[Listed]:
        """Every segment, in no order.

        Raises:
            Unavailable: the state server is away.
        """
        keys = self.service.wiring.segment_keys.registered(environment.environment_id)
        portions = (keys[start : start + _PORTION] for start in range(0, len(keys), _PORTION))
        return [listed for portion in portions for listed in self._read(environment, portion)]

    def segment(self, environment: Environment, segment_key: str) -> Listed:
        """One segment as it is.

        Raises:
            Refused: 404.
            Unavailable: the state server is away.
        """
        found = self._read(environment, [segment_key])
        if not found:
            raise refused(404, "Segment not found")
        return found[0]

    def importing(self, environment: Environment) -> set[str]:
        """Keys of the segments that an import is at work on.

        Raises:
            Unavailable: the state server is away.
        """
        jobs = self.service.wiring.imports
        records = (jobs.read(import_id) for import_id in jobs.open())
        return {
            record["segment_key"]
            for record in records
            if record is not None and record["environment_id"] == environment.environment_id
        }

    def store_ids(self, environment: Environment) -> list[str]:
        """The environment's stores that are on.

        Raises:
            Unavailable: the state server is away.
        """
        return [store.store_id for store in self.service.wiring.stores_of(environment.environment_id)]

    def _read(self, environment: Environment, keys: list[str]) -> list[Listed]:
        client, environment_id = self.service.wiring.client, environment.environment_id
        segments = read_segments(client, environment_id, keys)
        texts = read_texts(client, environment_id, segments)
        return [Listed(segment, texts[segment.segment_key]) for segment in segments]


@dataclass(slots=True, frozen=True)
class SegmentAsked:
    """A request about one segment."""

    of: EnvironmentAsked
    key: str

    @property
    def service(self) -> Service:
        """The API's."""
        return self.of.service

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.of.caller

    def viewed(self) -> tuple[Environment, Listed]:
        """The segment and its environment, for who may see them.

        Raises:
            Refused: 403, or 404.
            Unavailable: the state server is away.
        """
        environment = self.of.viewed()
        return environment, self.of.segment(environment, self.key)

    def changed(self, *actions: str) -> tuple[Environment, Listed]:
        """The segment and its environment, for who may do all of this to it; as ``viewed``."""
        environment = self.of.changed(self.key, *actions)
        return environment, self.of.segment(environment, self.key)

    def change_members(self, environment: Environment, listed: Listed, change: ManualChange) -> None:
        """Append a change of who is in the generation that was read, for who may.

        Raises:
            NotFound: it is gone.
            Unavailable: the state server is away; it may be appended.
        """
        append(
            self.service,
            lambda appends, not_after_ms: append_change(
                appends,
                environment.environment_id,
                listed.segment,
                change,
                store_ids=self.of.store_ids(environment),
                not_after_ms=not_after_ms,
            ),
        )


def actions_of(change: ManualChange) -> list[str]:
    """What somebody must have the right to who makes this change of a segment's members."""
    included = ["updateIncluded"] if change.add or change.remove else []
    return included + (["updateExcluded"] if change.add_excluded or change.remove_excluded else [])


def segment_id(environment: Environment, listed: Listed) -> SegmentId:
    """The generation of the segment that was read."""
    return SegmentId(environment.environment_id, listed.key, listed.segment.generation)


def _of_environment(
    request: Request, caller: Asking, project_key: ProjectKey, environment_key: EnvironmentKey
) -> EnvironmentAsked:
    return EnvironmentAsked(request.app.state.service, caller, project_key, environment_key)


AboutEnvironment = Annotated[EnvironmentAsked, Depends(_of_environment)]


def _of_segment(
    of: AboutEnvironment, key: Annotated[str, Path(alias="segmentKey", description="The segment's key")]
) -> SegmentAsked:
    return SegmentAsked(of, key)


AboutSegment = Annotated[SegmentAsked, Depends(_of_segment)]
