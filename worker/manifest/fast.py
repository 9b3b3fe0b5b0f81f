"""The fast way to read a body: typed structs made once per requestParser; it answers only when it is certain."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from operator import attrgetter
from typing import Any

from worker.errors import InvalidBatch
from worker.manifest.cohorts import LONGEST_COHORT_TEXT, Cohorts, is_context_kind
from worker.manifest.json_text import MAX_NESTING, is_utf8
from worker.manifest.request_parser import RequestParser, compile_matcher
from worker.manifest.shape import ACTION, Shape, Steps, UnsupportedShape, walk
from worker.model import DEFAULT_CONTEXT_KIND, Cohort, Payload

_ONLY_TEXT = frozenset({str})
# What a decoded member takes, and what a body's members may take beside three times its size.
_MEMBER_BYTES = 110
_FREE_BYTES = 32 * 1024 * 1024
_VALUE = attrgetter("value")


class FastReader:
    """Reads bodies by one requestParser, decoding them into structs.

    Whatever is out of the ordinary is left to the exact reader, which alone knows how to refuse. So a doubt costs
    time and nothing else.
    """

    def __init__(self, parser: RequestParser) -> None:
        """Compile a requestParser.

        Raises:
            UnsupportedShape: only the exact reader can follow this parser's pointers.
        """
        member = parser.member_array_parser
        self._bare = member.member_id_path == ""
        self._mode = parser.mode
        self._overrides_id = member.cohort_id_path is not None
        self._overrides_name = member.cohort_name_path is not None
        if self._bare and (self._mode == "boolean" or self._overrides_id or self._overrides_name):
            raise UnsupportedShape  # a bare id has no place for anything else
        if parser.array_inclusion is not None:
            # The value would be decoded for nothing, and might even be wrong: arrayInclusion wins over it.
            member = member.model_copy(update={"boolean_membership_path": None})
            self._matcher = compile_matcher(parser.array_inclusion.matcher)
        shape = Shape()
        arrays = (parser.member_array_path, parser.add_member_array_path, parser.remove_member_array_path)
        self._arrays = [shape.members(pointer, member) for pointer in arrays if pointer is not None]
        self._action = () if parser.array_inclusion is None else shape.value(parser.array_inclusion.path, ACTION)
        self._environment_id = shape.value(parser.environment_id_path)
        self._cohort_id = shape.value(parser.cohort_id_path)
        self._cohort_name = shape.value(parser.cohort_name_path)
        self._context_kind = _optional(shape, parser.context_kind_path)
        self._cohort_url = _optional(shape, parser.cohort_url_path)
        self._decoder = shape.decoder()

    def read(self, body: bytes, *, members: bool = True) -> Payload | None:
        """What a body means, or None when the exact reader must say. ``members``: see ``Decoder.decode``."""
        try:
            # Places that no pointer names are skipped without a look at their encoding.
            if self._takes_too_much(body) or not is_utf8(body):
                return None
            root = self._decoder.decode(body)
        except (ValueError, RecursionError):  # no JSON, or a value of another type than expected
            return None
        arrays = [walk(root, steps) for steps in self._arrays]
        if self._mode == "split arrays":
            arrays = [array or [] for array in arrays]
        elif arrays[0] is None:
            return None
        if not self._is_shallow(body, arrays):
            return None
        return self._payload(root, arrays, members)

    def _takes_too_much(self, body: bytes) -> bool:
        """Whether decoded members could take far more memory than the body: then they are better read one by one."""
        members = body.count(b"," if self._bare else b"{")
        return members * _MEMBER_BYTES > 3 * len(body) + _FREE_BYTES

    def _is_shallow(self, body: bytes, arrays: list[list[Any]]) -> bool:
        # Each member is one object and none lies in another. Braces in strings count too: a doubt, no more.
        objects_aside = 0 if self._bare else sum(map(len, arrays))
        return body.count(b"{") - objects_aside + body.count(b"[") < MAX_NESTING

    def _payload(self, root: Any, arrays: list[list[Any]], members: bool) -> Payload | None:
        environment_id = _text(walk(root, self._environment_id))
        own_id, own_name = walk(root, self._cohort_id), walk(root, self._cohort_name)
        cohort_id, cohort_name = _text(own_id), _text(own_name)
        context_kind = DEFAULT_CONTEXT_KIND
        if self._context_kind is not None:
            context_kind = _text(walk(root, self._context_kind)) or DEFAULT_CONTEXT_KIND
        if not (environment_id and cohort_id and cohort_name and is_context_kind(context_kind)):
            return None
        url = None if self._cohort_url is None else _text(walk(root, self._cohort_url))
        if max(len(cohort_id), len(cohort_name), len(url or "")) > LONGEST_COHORT_TEXT:
            return None
        own = Cohort(cohort_id, cohort_name, url)
        added = self._memberships(root, arrays)
        if added is None:
            return None
        if any(self._strays(array, own_id, own_name) for array in arrays):
            cohorts = self._sorted_out(own, arrays, added)
        else:
            cohorts = [own]
            if members:
                own.members = self._gathered(arrays, added)
            elif any("" in self._ids(array) for array in arrays):
                return None
        if cohorts is None or any("" in cohort.members for cohort in cohorts):
            return None
        return Payload(environment_id, context_kind, cohorts)

    def _memberships(self, root: Any, arrays: list[list[Any]]) -> list[Iterable[bool]] | None:
        """What each array's members are, in their order; for as many members as one asks, where all are alike."""
        if self._mode == "boolean":
            return [map(_VALUE, array) for array in arrays]
        if self._mode == "split arrays":
            return [repeat(added) for added in (True, False)]
        value = walk(root, self._action)
        action = str(value).lower() if isinstance(value, bool) else _text(value)
        if not action:
            return None
        return [repeat(self._matcher.search(action) is not None)]

    def _strays(self, array: list[Any], own_id: str | int, own_name: str | int) -> bool:
        """Whether some member names another cohort, or another name, than the payload does."""
        return (self._overrides_id and not {m.cohort_id for m in array} <= {own_id, None, ""}) or (
            self._overrides_name and not {m.cohort_name for m in array} <= {own_name, None, ""}
        )

    def _gathered(self, arrays: list[list[Any]], added: list[Iterable[bool]]) -> dict[str, bool]:
        members: dict[str, bool] = {}
        for array, values in zip(arrays, added, strict=True):
            members.update(zip(self._ids(array), values, strict=False))
        return members

    def _sorted_out(self, own: Cohort, arrays: list[list[Any]], added: list[Iterable[bool]]) -> list[Cohort] | None:
        cohorts = Cohorts(own)
        try:
            for array, values in zip(arrays, added, strict=True):
                for member_id, value, member in zip(self._ids(array), values, array, strict=False):
                    cohort_id = _text(member.cohort_id) if self._overrides_id else None
                    cohort_name = _text(member.cohort_name) if self._overrides_name else None
                    if max(len(cohort_id or ""), len(cohort_name or "")) > LONGEST_COHORT_TEXT:
                        return None
                    cohorts.state(member_id, added=value, cohort_id=cohort_id, cohort_name=cohort_name)
        except InvalidBatch:
            return None
        return cohorts.gathered()

    def _ids(self, array: list[Any]) -> Iterable[str]:
        ids = array if self._bare else [member.id for member in array]
        # Texts of integers are made one by one: many of them may be of the same member.
        return ids if _ONLY_TEXT.issuperset(map(type, ids)) else map(str, ids)


def _optional(shape: Shape, pointer: str | None) -> Steps | None:
    return None if pointer is None else shape.value(pointer)


def _text(value: str | int | None) -> str | None:
    """A scalar's text; None when it is missing, null or empty."""
    return str(value) if isinstance(value, int) else value or None
