"""What LaunchDarkly's stand-in holds and does: big segments of one environment, as the reference describes them."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

_KEY: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_CLAUSE: Final = re.compile(r'(tags) anyOf (\[[^]]*\])|(unbounded) equals (true|false)|(query) equals "([^"]*)"')


@dataclass
class StoredSegment:
    """A segment, as LaunchDarkly keeps it."""

    key: str
    name: str
    description: str = ""
    tags: list[str] = field(default_factory=list)
    unbounded: bool = True
    context_kind: str = "user"
    included: set[str] = field(default_factory=set)
    excluded: set[str] = field(default_factory=set)
    version: int = 1
    generation: int = 1
    creation_ms: int = 0
    deleted: bool = False


class Refused(Exception):
    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class LaunchDarklyEnvironment:
    """Segments and their members; see ``launchdarkly_server`` for who asks."""

    project = "default"
    environment = "production"

    def __init__(self) -> None:
        self.segments: dict[str, StoredSegment] = {}
        self.refuses: Callable[[str], bool] = lambda _key: False
        self.failed_test_status = 409
        self._forbidden: set[str] = set()
        self._generations: dict[str, int] = {}
        self._milliseconds = itertools.count(int(time.time() * 1000))
        self._lock = threading.RLock()

    def members(self, key: str) -> set[str]:
        """Who is included in a segment; nobody, where there is none."""
        with self._lock:
            return set(self.segments[key].included) if key in self.segments else set()

    def excluded(self, key: str) -> set[str]:
        """Who is excluded from a segment; nobody, where there is none."""
        with self._lock:
            return set(self.segments[key].excluded) if key in self.segments else set()

    def put(self, key: str, **fields: Any) -> StoredSegment:
        """Make a segment as a person does, in place of any other."""
        with self._lock:
            self._generations[key] = self._generations.get(key, 0) + 1
            made = StoredSegment(key, fields.pop("name", key), **fields)
            made.generation, made.creation_ms = self._generations[key], next(self._milliseconds)
            self.segments[key] = made
            return made

    def delete(self, key: str) -> None:
        """Delete a segment as a person does."""
        with self._lock:
            del self.segments[key]

    def forbid(self, *actions: str) -> None:
        """Let the token not do these, by LaunchDarkly's names of actions, such as updateIncluded and viewProject."""
        self._forbidden.update(actions)

    def allow(self) -> None:
        """End ``forbid``."""
        self._forbidden.clear()

    def apply(self, method: str, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self._lock:
            if parts[:3] != ["api", "v2", "segments"] or len(parts) not in {5, 6, 7, 8}:
                raise Refused(404)
            if parts[3:5] != [self.project, self.environment]:
                raise Refused(404, "Environment or project not found")
            rest = parts[5:]
            if not rest:
                return self._list(query) if method == "GET" else self._create(method, body)
            segment = self.segments.get(rest[0])
            if segment is None:
                self._may({"GET": "viewProject", "POST": "updateIncluded"}.get(method, "viewProject"))
                raise Refused(404)
            if len(rest) == 1:
                return self._one(method, segment, query, body)
            if rest[1] not in {"contexts", "users"}:
                raise Refused(404)
            return self._membership(method, segment, rest[2] if len(rest) > 2 else None, body)

    def _may(self, action: str) -> None:
        if action in self._forbidden:
            raise Refused(403)

    def _list(self, query: dict[str, str]) -> tuple[int, Any]:
        self._may("viewProject")
        found = sorted(self.segments.values(), key=lambda segment: segment.creation_ms)
        told, rest = query.get("filter", ""), query.get("filter", "")
        for clause in _CLAUSE.finditer(told):
            rest = rest.replace(clause[0], "", 1)
            if clause[1]:
                found = [segment for segment in found if set(json.loads(clause[2])) & set(segment.tags)]
            elif clause[3]:
                found = [segment for segment in found if segment.unbounded == (clause[4] == "true")]
            else:
                found = [segment for segment in found if clause[6] in segment.key]
        if rest.strip(",() "):
            raise Refused(400, "invalid filter")
        offset, most = int(query.get("offset", 0)), min(int(query.get("limit", 20)), 20)
        root = {"self": {"href": f"/api/v2/segments/{self.project}/{self.environment}", "type": "application/json"}}
        page = [self._shown(segment) for segment in found[offset : offset + most]]
        return 200, {"_links": root, "items": page, "totalCount": len(found)}

    def _create(self, method: str, body: Any) -> tuple[int, Any]:
        if method != "POST":
            raise Refused(405)
        self._may("createSegment")
        if not isinstance(body, dict) or not _KEY.fullmatch(str(body.get("key", ""))) or not body.get("name"):
            raise Refused(400)
        if body["key"] in self.segments:
            raise Refused(409, f"Segment {body['key']} already exists")
        tags = body.get("tags", [])
        if not all(_TAG.fullmatch(tag) for tag in tags):
            raise Refused(400)
        made = self.put(
            body["key"],
            name=body["name"],
            description=body.get("description", ""),
            tags=tags,
            unbounded=bool(body.get("unbounded")),
            context_kind=body.get("unboundedContextKind", "user"),
        )
        return 201, self._shown(made)

    def _one(self, method: str, segment: StoredSegment, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if method == "GET":
            self._may("viewProject")
            return 200, self._shown(segment)
        if method == "DELETE":
            self._may("deleteSegment")
            del self.segments[segment.key]
            return 204, None
        if method != "PATCH":
            raise Refused(405)
        self._may("updateDescription")
        if not isinstance(body, dict) or not isinstance(body.get("patch"), list):
            raise Refused(400)
        changed = self._shown(segment)
        for operation in body["patch"]:
            name = operation["path"].removeprefix("/")
            if operation["op"] == "test":
                if changed.get(name) != operation["value"]:
                    raise Refused(self.failed_test_status)
            elif operation["op"] == "replace" and name in {"description", "name", "tags"}:
                changed[name] = operation["value"]
            else:
                raise Refused(400)
        if query.get("dryRun") != "true":
            segment.description, segment.name, segment.tags = changed["description"], changed["name"], changed["tags"]
            segment.version += 1
        return 200, changed

    def _membership(self, method: str, segment: StoredSegment, context_key: str | None, body: Any) -> tuple[int, Any]:
        if not segment.unbounded:
            raise Refused(400, "standard segments are not supported")
        if method == "GET" and context_key is not None:
            self._may("viewProject")
            included, excluded = context_key in segment.included, context_key in segment.excluded
            return 200, {"userKey": context_key, "included": included, "excluded": excluded}
        if method != "POST" or context_key is not None:
            raise Refused(405)
        for side in ("included", "excluded"):
            if side in body:
                self._may(f"update{side.capitalize()}")
        changes = {
            (side, verb): (body.get(side) or {}).get(verb) or []
            for side in ("included", "excluded")
            for verb in ("add", "remove")
        }
        if any(not isinstance(key, str) or not key or self.refuses(key) for keys in changes.values() for key in keys):
            raise Refused(400)
        segment.included |= set(changes["included", "add"])
        segment.included -= set(changes["included", "remove"])
        segment.excluded |= set(changes["excluded", "add"])
        segment.excluded -= set(changes["excluded", "remove"])
        segment.version += 1
        return 204, None

    def _shown(self, segment: StoredSegment) -> dict[str, Any]:
        href = f"/api/v2/segments/{self.project}/{self.environment}/{segment.key}"
        shown: dict[str, Any] = {
            "key": segment.key,
            "name": segment.name,
            "description": segment.description,
            "tags": list(segment.tags),
            "creationDate": segment.creation_ms,
            "lastModifiedDate": segment.creation_ms,
            "rules": [],
            "version": segment.version,
            "deleted": segment.deleted,
            "generation": segment.generation,
            "_links": {"self": {"href": href, "type": "application/json"}},
        }
        if segment.unbounded:
            shown |= {"unbounded": True, "unboundedContextKind": segment.context_kind}
        return shown
