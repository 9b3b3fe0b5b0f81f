"""A requestParser: LaunchDarkly's description of where things lie in a partner's body, validated, with its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

import re2
from jsonpointer import JsonPointer, JsonPointerException
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

Mode = Literal["boolean", "split arrays", "array inclusion"]


class Fault(NamedTuple):
    """What is wrong with a manifest, and where: a JSON pointer into the manifest, and a sentence."""

    pointer: str
    message: str


def compile_matcher(pattern: str) -> Any:
    """Compile an arrayInclusion pattern as RE2, whose time is linear whatever a partner sends.

    Raises:
        ValueError: the pattern is no RE2 pattern.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(error.args[0].decode("utf-8", "replace")) from None


def _pointer(text: str) -> str:
    try:
        JsonPointer(text)
    except JsonPointerException:
        raise PydanticCustomError("pointer", "is no JSON pointer (RFC 6901), such as /batch/0/cohortId") from None
    return text


def _matcher(pattern: str) -> str:
    try:
        compile_matcher(pattern)
    except ValueError as error:
        raise PydanticCustomError("matcher", "is no RE2 pattern: {why}", {"why": str(error)}) from None
    return pattern


Pointer = Annotated[str, AfterValidator(_pointer)]
Matcher = Annotated[str, AfterValidator(_matcher)]


class _Properties(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class ArrayInclusion(_Properties):
    """Adds all members of the array when the value at ``path`` matches, else removes them."""

    path: Pointer
    matcher: Matcher


class MemberArrayParser(_Properties):
    """Where things lie in one member; pointers are relative to the member."""

    member_id_path: Pointer
    boolean_membership_path: Pointer | None = None
    cohort_id_path: Pointer | None = None
    cohort_name_path: Pointer | None = None


class RequestParser(_Properties):
    """Where things lie in a partner's body. JSON names are LaunchDarkly's (``environmentIdPath`` ...).

    Equal parsers have equal ``text`` and ``digest``, whatever the order and the nulls of the JSON they came from.
    """

    environment_id_path: Pointer
    context_kind_path: Pointer | None = None
    cohort_id_path: Pointer
    cohort_name_path: Pointer
    cohort_url_path: Pointer | None = None
    member_array_path: Pointer | None = None
    add_member_array_path: Pointer | None = None
    remove_member_array_path: Pointer | None = None
    array_inclusion: ArrayInclusion | None = None
    member_array_parser: MemberArrayParser

    @model_validator(mode="after")
    def _one_mode(self) -> Self:
        for fault in _mode_faults(self.model_dump(by_alias=True)):
            raise PydanticCustomError("mode", "{message}", {"message": fault.message})
        return self

    @property
    def mode(self) -> Mode:
        """How the parser tells an add from a remove."""
        if self.array_inclusion is not None:  # wins over booleanMembershipPath, as in LaunchDarkly's own parser
            return "array inclusion"
        return "split arrays" if self.add_member_array_path is not None else "boolean"

    @cached_property
    def text(self) -> str:
        """The parser as canonical JSON: sorted keys, no spaces, no nulls. ``from_text`` reads it back."""
        document = self.model_dump(by_alias=True, exclude_none=True)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ``text``, in hex: what a log entry carries to say how its body is to be read."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Rebuild the parser that ``text`` was taken from.

        Raises:
            ValueError: the text is no requestParser (pydantic's ValidationError is one).
        """
        return cls.model_validate_json(text)


def faults_of(document: object) -> list[Fault]:
    """Everything that is wrong with a requestParser's JSON value; empty when ``RequestParser`` takes it.

    Pointers are relative to the requestParser.
    """
    faults: list[Fault] = []
    try:
        RequestParser.model_validate(document)
    except ValidationError as error:
        faults += [_translated(fault) for fault in error.errors() if fault["type"] != "mode"]
    if isinstance(document, Mapping):
        faults += _mode_faults(document)
    return faults


_SPLIT = {"addMemberArrayPath", "removeMemberArrayPath"}
_SENTENCES = {"missing": "is required", "extra_forbidden": "is no property of a requestParser"}


def _translated(fault: Any) -> Fault:
    pointer = JsonPointer.from_parts(fault["loc"]).path
    return Fault(pointer, _SENTENCES.get(fault["type"], fault["msg"]))


def _mode_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """The rules between properties. They ask only what is there, so that they can be told beside other faults."""
    given = {name for name, value in document.items() if value is not None}
    if split := given & _SPLIT:
        for lacking in sorted(_SPLIT - split):
            yield Fault(f"/{lacking}", "is required: the add and the remove array come only together")
        for beside in sorted(given & {"memberArrayPath", "arrayInclusion"}):
            yield Fault(f"/{beside}", "cannot stand beside addMemberArrayPath and removeMemberArrayPath")
        return
    if "memberArrayPath" not in given:
        why = "beside arrayInclusion" if "arrayInclusion" in given else "unless addMemberArrayPath is given"
        yield Fault("/memberArrayPath", f"is required {why}")
    member = document.get("memberArrayParser")
    if "arrayInclusion" not in given and isinstance(member, Mapping) and member.get("booleanMembershipPath") is None:
        yield Fault("/memberArrayParser/booleanMembershipPath", "is required beside memberArrayPath, or arrayInclusion")
