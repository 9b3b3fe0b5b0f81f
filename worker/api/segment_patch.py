"""What a PATCH of a segment wants: JSON Patch of its texts, or LaunchDarkly's semantic instructions. Pure.

Source: https://launchdarkly.com/docs/api/segments/patch-segment
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from worker.api.errors import refused
from worker.api.json_patch import PatchRefused, apply_patch
from worker.api.segment_access import actions_of
from worker.api.segment_form import Listed
from worker.errors import Misconfigured
from worker.log.changes import ManualChange
from worker.receiver.refusals import Refused
from worker.records.keys import check_tags
from worker.sync.csv_keys import MOST_KEY_CHARACTERS

MOST_INSTRUCTIONS: Final = 1_000
_LONGEST_NAME: Final = 256
_LONGEST_DESCRIPTION: Final = 4096
_EDITABLE: Final = ("name", "description", "tags")


class Operation(BaseModel):
    """One operation of a JSON Patch (RFC 6902)."""

    model_config = ConfigDict(extra="allow")

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: str
    value: Any = None


class CommentedPatch(BaseModel):
    """A JSON Patch with a comment, which is not kept."""

    patch: list[Operation]
    comment: str | None = None


class SemanticPatch(BaseModel):
    """Instructions, each with a kind and what that needs."""

    instructions: list[dict[str, Any]] = Field(max_length=MOST_INSTRUCTIONS)
    comment: str | None = None


def _shape(body: object) -> str:
    """Which of the forms a body is meant for, so that what is wrong with it is said of that one alone."""
    if isinstance(body, list):
        return "(operations)"
    return "(instructions)" if isinstance(body, dict) and "instructions" in body else "(patch)"


# ``fault_message`` leaves names in parentheses out of pointers.
PatchForm = Annotated[
    Annotated[list[Operation], Tag("(operations)")]
    | Annotated[CommentedPatch, Tag("(patch)")]
    | Annotated[SemanticPatch, Tag("(instructions)")],
    Discriminator(_shape),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to become of a segment.

    Attributes:
        texts: what ``describe_segment`` takes; without what stays as it is.
        members: whom to add and remove; None for nobody.
        actions: what the sender must have the right to.
    """

    texts: Mapping[str, Any]
    members: ManualChange | None
    actions: Sequence[str]

    def applied_to(self, listed: Listed) -> Listed:
        """The segment as it would be described; who is in it is not looked at."""
        described = {name: value for name, value in self.texts.items() if name != "name"}
        if "tags" in described:
            described["tags"] = tuple(described["tags"])
        named = replace(listed.segment, name=self.texts.get("name", listed.segment.name))
        return Listed(named, replace(listed.described, **described))


_ACTIONS: Final = {"name": "updateName", "description": "updateDescription", "tags": "updateTags"}


def plan_patch(body: PatchForm, listed: Listed, *, semantic: bool) -> Wanted:
    """What a body wants.

    Args:
        body: of the request.
        listed: the segment as it is.
        semantic: whether the Content-Type says so.

    Raises:
        Refused: 400, it is not understood, or changes what cannot be; 409, a test failed; 422, it cannot be applied.
    """
    if isinstance(body, SemanticPatch):
        if not semantic:
            raise refused(
                400, "a semantic patch needs Content-Type: application/json; domain-model=launchdarkly.semanticpatch"
            )
        return _Instructions(listed).read(body.instructions)
    if semantic:
        raise refused(400, "a semantic patch has instructions", pointer="/instructions")
    operations = body.patch if isinstance(body, CommentedPatch) else body
    document = {
        "key": listed.key,
        "name": listed.name,
        "description": listed.described.description,
        "tags": list(listed.tags),
        "version": listed.described.version,
        "unbounded": True,
        "unboundedContextKind": listed.segment.context_kind,
        "generation": listed.segment.generation,
    }
    try:
        patched = apply_patch(document, [each.model_dump(exclude_unset=True) for each in operations], _EDITABLE)
    except PatchRefused as error:
        raise Refused(error.status, error.message, reason="patch") from None
    texts = {name: patched.get(name) for name in _EDITABLE if patched.get(name) != document[name]}
    if "description" in texts and texts["description"] is None:
        texts["description"] = ""
    if "tags" in texts and texts["tags"] is None:
        texts["tags"] = []
    return _checked(texts, None)


class _Instructions:
    """Semantic instructions, one after the other."""

    def __init__(self, listed: Listed) -> None:
        self._texts: dict[str, Any] = {}
        self._tags = list(listed.tags)
        self._members: dict[str, dict[str, None]] = {
            name: {} for name in ("add", "remove", "add_excluded", "remove_excluded")
        }
        self._kinds: Mapping[str, Callable[[Mapping[str, Any], str], None]] = {
            "updateName": lambda each, at: self._text("name", each, at),
            "updateDescription": lambda each, at: self._text("description", each, at),
            "addTags": self._add_tags,
            "removeTags": self._remove_tags,
            "addBigSegmentIncludedTargets": lambda each, at: self._change("add", "remove", each, at),
            "removeBigSegmentIncludedTargets": lambda each, at: self._change("remove", "add", each, at),
            "addBigSegmentExcludedTargets": lambda each, at: self._change("add_excluded", "remove_excluded", each, at),
            "removeBigSegmentExcludedTargets": lambda each, at: self._change(
                "remove_excluded", "add_excluded", each, at
            ),
        }

    def read(self, instructions: Sequence[Mapping[str, Any]]) -> Wanted:
        for place, each in enumerate(instructions):
            kind = each.get("kind")
            read = self._kinds.get(kind) if isinstance(kind, str) else None
            if read is None:
                raise refused(400, f"is none of {', '.join(self._kinds)}", pointer=f"/instructions/{place}/kind")
            read(each, f"/instructions/{place}")
        lists = {name: list(keys) for name, keys in self._members.items()}
        members = ManualChange(uuid.uuid4().hex, **lists) if any(lists.values()) else None
        return _checked(self._texts, members)

    def _text(self, name: str, instruction: Mapping[str, Any], at: str) -> None:
        value = instruction.get("value")
        if not isinstance(value, str):
            raise refused(400, "is text", pointer=f"{at}/value")
        self._texts[name] = value

    def _add_tags(self, instruction: Mapping[str, Any], at: str) -> None:
        self._tags = list(dict.fromkeys([*self._tags, *_values(instruction, at)]))
        self._texts["tags"] = self._tags

    def _remove_tags(self, instruction: Mapping[str, Any], at: str) -> None:
        gone = set(_values(instruction, at))
        self._tags = [tag for tag in self._tags if tag not in gone]
        self._texts["tags"] = self._tags

    def _change(self, into: str, out_of: str, instruction: Mapping[str, Any], at: str) -> None:
        for place, key in enumerate(_values(instruction, at)):
            if into.startswith("add") and len(key) > MOST_KEY_CHARACTERS:
                raise refused(400, f"is longer than {MOST_KEY_CHARACTERS} characters", pointer=f"{at}/values/{place}")
            self._members[into][key] = None
            self._members[out_of].pop(key, None)  # of two instructions about one context, the last counts


def _values(instruction: Mapping[str, Any], at: str) -> list[str]:
    values = instruction.get("values")
    if not isinstance(values, list) or not all(isinstance(each, str) and each for each in values):
        raise refused(400, "is a list of texts, none of them empty", pointer=f"{at}/values")
    return values


def _checked(texts: Mapping[str, Any], members: ManualChange | None) -> Wanted:
    name, description, tags = (texts.get(field) for field in _EDITABLE)
    if "name" in texts and (not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME):
        raise refused(400, f"is text of 1 to {_LONGEST_NAME} characters", pointer="/name")
    if "description" in texts and (not isinstance(description, str) or len(description) > _LONGEST_DESCRIPTION):
        raise refused(400, f"is text of {_LONGEST_DESCRIPTION} characters at the most", pointer="/description")
    if "tags" in texts:
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise refused(400, "is a list of texts", pointer="/tags")
        try:
            check_tags(tags)
        except Misconfigured as error:
            raise refused(400, str(error), pointer="/tags") from None
        texts = {**texts, "tags": list(dict.fromkeys(tags))}
    actions = [_ACTIONS[field] for field in texts]
    if members is not None:
        actions += actions_of(members)
    return Wanted(texts, members, actions)
