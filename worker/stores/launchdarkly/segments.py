"""Big segments of one LaunchDarkly environment: found, created, deleted, and who is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

import httpx2
import msgspec

from worker.errors import Unavailable
from worker.model import DEFAULT_CONTEXT_KIND, LaunchDarklyStoreConfiguration, MemberList, SegmentPatch, SegmentProfile
from worker.stores.launchdarkly.faults import OF_ONE_SEGMENT
from worker.stores.launchdarkly.link import LaunchDarklyLink, Method, path_part
from worker.stores.segment_store import BeforeWindow

# On every segment that segsync has created, beside the tag of its generation.
OUR_TAG: Final = "segsync"
_GENERATION_TAG: Final = re.compile(r"segsync-g(\d+)")
_PAGE: Final = 50
_LONGEST_NAME: Final = 256

_READ: Final = "viewProject (the Reader role has it)"
_CREATE: Final = "createSegment"
_DELETE: Final = "deleteSegment"
_DESCRIBE: Final = "updateDescription"
_INCLUDE: Final = "updateIncluded"
_EXCLUDE: Final = "updateExcluded"


class BigSegment(msgspec.Struct, rename="camel"):
    """What LaunchDarkly says of a segment, as far as it matters here.

    Attributes:
        creation_date: epoch ms; of two segments that had one key, one after the other, each has its own.
    """

    key: str
    tags: list[str] = []
    description: str = ""
    unbounded: bool = False
    unbounded_context_kind: str = ""
    creation_date: int = 0
    deleted: bool = False

    @property
    def generation(self) -> int | None:
        """Of which generation of ours it is; None when it does not say so: somebody else has made it."""
        found = [int(match[1]) for tag in self.tags if (match := _GENERATION_TAG.fullmatch(tag))]
        return max(found) if found and OUR_TAG in self.tags else None

    @property
    def context_kind(self) -> str:
        """Of all its members."""
        return self.unbounded_context_kind or DEFAULT_CONTEXT_KIND


class _Page(msgspec.Struct, rename="camel"):
    items: list[BigSegment]
    total_count: int | None = None


class _Membership(msgspec.Struct):
    included: bool
    excluded: bool


class LaunchDarklySegments:
    """The segments API of one environment. Every method raises ``Unavailable`` as ``LaunchDarklyLink.ask``."""

    def __init__(self, link: LaunchDarklyLink, configuration: LaunchDarklyStoreConfiguration) -> None:
        self._link = link
        self._root = f"/api/v2/segments/{path_part(configuration.projectKey)}/{path_part(configuration.environmentKey)}"
        self.faults = link.faults

    def prove_environment(self) -> None:
        """Tell a segment that is missing from an environment that is.

        Raises:
            Unavailable: project or environment are not there.
        """
        self._page(0, {"limit": 1})

    def get(self, key: str) -> BigSegment | None:
        """The segment, or None when the environment is there and has none of that key."""
        answer = self._ask("GET", self._path(key), "segment", _READ, hoped=(200, 404))
        if answer.status_code == HTTPStatus.NOT_FOUND:
            self.prove_environment()
            return None
        found = self.read(answer)
        return None if found.deleted else found

    def ours(self) -> Iterator[BigSegment]:
        """All that segsync has created, in the order created, a page with each request."""
        seen = 0
        while True:
            page = self._page(
                seen,
                {
                    "limit": _PAGE,
                    "sort": "creationDate",
                    "filter": f'tags anyOf ["{OUR_TAG}"],unbounded equals true',
                },
            )
            yield from (found for found in page.items if found.generation is not None)
            # How many a page may hold is the server's to say; without a count, an empty one is the last.
            seen += len(page.items)
            if not page.items or (page.total_count is not None and seen >= page.total_count):
                return

    def create(self, profile: SegmentProfile) -> BigSegment | None:
        """Create a segment without members; None when there is one of that key already."""
        segment = profile.segment
        return self.create_as(
            {
                "key": segment.segment_key,
                "name": (profile.name or segment.segment_key)[:_LONGEST_NAME],
                "description": "Its members are kept by segsync, as a partner's cohort has them; what is changed here "
                "by hand is not seen there. Delete it there, not here.",
                "tags": [OUR_TAG, f"{OUR_TAG}-g{segment.generation}"],
                "unboundedContextKind": profile.context_kind,
            }
        )

    def create_as(self, fields: dict[str, Any]) -> BigSegment | None:
        """Create a big segment with these fields; None when there is one of that key already."""
        answer = self.post(fields)
        if answer.status_code == HTTPStatus.CREATED:
            return self.read(answer)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise self.faults.no_environment()
        # That a key is taken is said by 409, or, as the documentation has none there, by 400.
        if answer.status_code == HTTPStatus.BAD_REQUEST and self.get(fields["key"]) is None:
            raise self.refused(answer, _CREATE)
        return None

    def post(self, fields: dict[str, Any]) -> httpx2.Response:
        """Ask for a big segment with these fields; the answer is 201, 400, 404 or 409."""
        return self._ask(
            "POST", self._root, "segments", _CREATE, hoped=(201, 400, 404, 409), body={**fields, "unbounded": True}
        )

    def read(self, answer: httpx2.Response) -> BigSegment:
        """The segment that an answer tells of."""
        return self._link.read(answer, BigSegment)

    def refused(self, answer: httpx2.Response, permission: str) -> Unavailable:
        """What to raise for an answer that was hoped for and is no good all the same."""
        return self.faults.of_answer(answer, permission, writes=True)

    def delete(self, key: str) -> None:
        """Delete a segment, if it is there."""
        answer = self._ask("DELETE", self._path(key), "segment", _DELETE, hoped=(204, 404, 409))
        if answer.status_code == HTTPStatus.CONFLICT:
            raise self.faults.unavailable(
                f"segment {key} is in the way, and cannot be deleted; see which flags use it, and delete it by hand",
                fault=OF_ONE_SEGMENT,
            )

    def patch_description(self, key: str, text: str, *, was: str | None = None) -> httpx2.Response:
        """Replace a segment's description, if it ``was`` that; the answer is 200, 404, or the test's (400, 409, 422).

        A test in the same request is the condition: LaunchDarkly applies all of a patch, or nothing.
        """
        return self.patch(key, description_patch(text, was), hoped=(200, 400, 404, 409, 422))

    def patch(
        self, key: str, operations: Sequence[dict[str, str]], *, hoped: tuple[int, ...], dry: bool = False
    ) -> httpx2.Response:
        """Send a JSON patch, or only try it."""
        body = {"patch": operations, "comment": "segsync"}
        query: dict[str, str | int] | None = {"dryRun": "true"} if dry else None
        return self._ask("PATCH", self._path(key), "segment", _DESCRIBE, hoped=hoped, body=body, query=query)

    def change_members(self, key: str, patch: SegmentPatch, before_window: BeforeWindow) -> httpx2.Response:
        """Change both lists of a segment; the answer is 204, 400 (none was taken), 404 or 413.

        A list that nothing is said of is left out: each takes a permission of its own.
        """
        body = {"included": {"add": patch.add, "remove": patch.remove}}
        permissions = [_INCLUDE]
        if patch.add_excluded or patch.remove_excluded:
            if not (patch.add or patch.remove):
                del body["included"], permissions[0]
            body["excluded"] = {"add": patch.add_excluded, "remove": patch.remove_excluded}
            permissions.append(_EXCLUDE)
        return self._ask(
            "POST",
            f"{self._path(key)}/contexts",
            "contexts",
            " and ".join(permissions),
            hoped=(204, 400, 404, 413),
            body=body,
            before_window=before_window,
        )

    def has_member(self, key: str, context_key: str, of: MemberList) -> bool:
        """Whether a context is in a list; not, when the segment is not there any more. Whoever asks has seen it."""
        path = f"{self._path(key)}/contexts/{path_part(context_key)}"
        answer = self._ask("GET", path, "context", _READ, hoped=(200, 404))
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return False
        found = self._link.read(answer, _Membership)
        return found.included if of == "included" else found.excluded

    def _page(self, offset: int, query: dict[str, str | int]) -> _Page:
        answer = self._ask("GET", self._root, "segments", _READ, hoped=(200, 404), query={**query, "offset": offset})
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise self.faults.no_environment()
        return self._link.read(answer, _Page)

    def _path(self, key: str) -> str:
        return f"{self._root}/{path_part(key)}"

    def _ask(
        self,
        method: Method,
        path: str,
        form: str,
        permission: str,
        *,
        hoped: tuple[int, ...],
        **more: Any,
    ) -> httpx2.Response:
        route = f"{method} {form}"
        return self._link.ask(method, path, route=route, permission=permission, hoped=hoped, **more)


def description_patch(text: str, was: str | None) -> list[dict[str, str]]:
    """The operations that replace a description; with ``was``, only if it is that."""
    test = [] if was is None else [{"op": "test", "path": "/description", "value": was}]
    return [*test, {"op": "replace", "path": "/description", "value": text}]
