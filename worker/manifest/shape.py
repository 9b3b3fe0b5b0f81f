"""The part of a body that a requestParser looks at, drawn as nested msgspec structs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from jsonpointer import JsonPointer

from worker.manifest.document import array_index
from worker.manifest.request_parser import MemberArrayParser

# The way to a value in decoded structs: attributes and list indices.
Steps = tuple[str | int, ...]

# An empty id is no id.
ID = Annotated[str, msgspec.Meta(min_length=1)] | int
SCALAR = str | int | None
ACTION = str | int | bool | None

# A pointer of more tokens than this is no partner's.
_MAX_TOKENS = 16


class UnsupportedShape(Exception):
    """Raised when pointers cannot be drawn as one tree of structs: only the exact reader can follow them."""


@dataclass
class _Place:
    """A place that some pointer names or passes. Everything about an array's elements is told in one ``element``."""

    attribute: str = ""
    required: bool = False
    keys: dict[str, _Place] = field(default_factory=dict)
    element: _Place | None = None
    leaf: Any = None  # the type of a value; None for a place that is only passed

    def type(self) -> Any:
        if sum(map(bool, (self.keys, self.element, self.leaf))) > 1:
            raise UnsupportedShape
        if self.leaf is not None:
            return self.leaf
        # null here is as good as missing, except as an element or a required value: the exact reader takes those.
        inner = self.struct() if self.element is None else list[self.element.element_type()]  # type: ignore[misc]
        return inner | None

    def element_type(self) -> Any:
        return self.struct() if self.keys and self.element is None and self.leaf is None else self.type()

    def struct(self) -> Any:
        fields = [
            (place.attribute, place.type()) if place.required else (place.attribute, place.type(), None)
            for place in self.keys.values()
        ]
        names = {place.attribute: key for key, place in self.keys.items()}
        try:
            # gc=False: thousands of members at a time, none of which can be part of a cycle.
            return msgspec.defstruct("Part", fields, rename=names, kw_only=True, gc=False)
        except ValueError:  # a key that would have to be escaped in JSON
            raise UnsupportedShape from None


class Shape:
    """The tree of all pointers of one requestParser."""

    def __init__(self) -> None:
        self._root = _Place()
        self._arrays: dict[Steps, _Place] = {}

    def members(self, pointer: str, parser: MemberArrayParser) -> Steps:
        """Add a member array; its members get the attributes id, value, cohort_id and cohort_name.

        Members that are bare ids (``memberIdPath`` is "") become plain strings and integers.
        """
        place, steps = self._descend(pointer)
        if place.element is not None or any(array == steps[: len(array)] for array in self._arrays):
            raise UnsupportedShape  # an array in another's member
        self._arrays[steps] = place
        place.element = _Place(keys=_member_keys(parser)) if parser.member_id_path else _Place(leaf=ID)
        return steps

    def value(self, pointer: str, kind: Any = SCALAR) -> Steps:
        """Add a value of type ``kind``. Add member arrays first: values may lie in their members."""
        place, steps = self._descend(pointer)
        if place.leaf not in (None, kind):
            raise UnsupportedShape
        place.leaf = kind
        return steps

    def decoder(self) -> msgspec.json.Decoder[Any]:
        """A decoder of whole bodies."""
        if self._root.leaf is not None or self._root.element is not None:
            raise UnsupportedShape
        return msgspec.json.Decoder(self._root.struct())

    def members_decoder(self, steps: Steps) -> msgspec.json.Decoder[list[Any]]:
        """A decoder of some of the members of one array, in brackets. Make it when all pointers are known."""
        element = self._arrays[steps].element
        assert element is not None
        return msgspec.json.Decoder(list[element.element_type()])  # type: ignore[misc]

    def _descend(self, pointer: str) -> tuple[_Place, Steps]:
        place = self._root
        steps: list[str | int] = []
        tokens = JsonPointer(pointer).parts
        if len(tokens) > _MAX_TOKENS:
            raise UnsupportedShape
        for token in tokens:
            index = array_index(token)
            if index is None:
                place = place.keys.setdefault(token, _Place(f"k{len(place.keys)}"))
                steps.append(place.attribute)
            else:
                # Should the body have an object with such a key here, the type fails and the exact reader takes it.
                place.element = place = place.element or _Place()
                steps.append(index)
        return place, tuple(steps)


def _member_keys(parser: MemberArrayParser) -> dict[str, _Place]:
    wanted = (
        ("id", parser.member_id_path, ID),
        ("value", parser.boolean_membership_path, bool),
        ("cohort_id", parser.cohort_id_path, SCALAR),
        ("cohort_name", parser.cohort_name_path, SCALAR),
    )
    keys: dict[str, _Place] = {}
    for attribute, pointer, kind in wanted:
        if pointer is None:
            continue
        tokens = JsonPointer(pointer).parts
        if len(tokens) != 1 or tokens[0] in keys:
            raise UnsupportedShape
        keys[tokens[0]] = _Place(attribute, required=kind is not SCALAR, leaf=kind)
    return keys


def way(steps: Steps) -> Callable[[Any], Any]:
    """A function from decoded structs to what lies at ``steps``: None when it or something before it is missing."""
    names = [step for step in steps if isinstance(step, str)]
    if not steps or len(names) < len(steps):
        return partial(_walk, steps)
    follow = attrgetter(".".join(names))
    # What is decoded is a struct, which has all of its attributes.
    return follow if len(names) == 1 else partial(_follow, follow)


def _follow(follow: Callable[[Any], Any], value: Any) -> Any:
    try:
        return follow(value)
    except AttributeError:  # of None
        return None


def _walk(steps: Steps, value: Any) -> Any:
    for step in steps:
        if value is None:
            return None
        if isinstance(step, int):
            value = value[step] if step < len(value) else None
            continue
        value = getattr(value, step)
    return value
