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

from worker.manifest.spelling import name_meant, pointer_meant

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
        text.encode()
    except UnicodeEncodeError:  # no body has such a key, and the parser's text could not be stored
        raise PydanticCustomError("pointer", "has an unpaired surrogate") from None
    except JsonPointerException:
        meant = pointer_meant(text)
        why = (
            f"is no JSON pointer (RFC 6901){f'; perhaps {meant} is meant' if meant else ', such as /batch/0/cohortId'}"
        )
        raise PydanticCustomError("pointer", "{why}", {"why": why}) from None
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

    Pointers are relative to the requestParser; no two faults have the same one.
    """
    faults: dict[str, Fault] = {}
    try:
        RequestParser.model_validate(document)
    except ValidationError as error:
        translated = [_translated(fault, document) for fault in error.errors() if fault["type"] != "mode"]
        faults = {fault.pointer: fault for fault in translated}
    if isinstance(document, Mapping):
        # What must not be there need not be told to have the wrong type as well.
        faults |= {fault.pointer: fault for fault in _mode_faults(document)}
    return list(faults.values())


_SPLIT = {"addMemberArrayPath", "removeMemberArrayPath"}
_NAMES = {
    owner: [field.alias or name for name, field in model.model_fields.items()]
    for owner, model in (
        ("requestParser", RequestParser),
        ("arrayInclusion", ArrayInclusion),
        ("memberArrayParser", MemberArrayParser),
    )
}


def _translated(fault: Any, document: Any) -> Fault:
    """A fault that pydantic found, in our words."""
    where = fault["loc"]
    pointer = JsonPointer.from_parts(where).path
    owner, name = (["requestParser", *where])[-2:] if where else ("", "requestParser")
    match fault["type"]:
        case "missing":
            return Fault(pointer, "is required")
        case "string_type" if fault["input"] is None:
            return Fault(pointer, "is required, and must not be null")
        case "string_type":
            return Fault(pointer, f"must be a string: {'an RE2 pattern' if name == 'matcher' else 'a JSON pointer'}")
        case "model_type":
            return Fault(pointer, f"must be an object{' with path and matcher' if name == 'arrayInclusion' else ''}")
        case "extra_forbidden":
            given = JsonPointer.from_parts(where[:-1]).resolve(document)
            return Fault(pointer, f"is no property of {owner}{_perhaps(name, owner, given)}")
    return Fault(pointer, fault["msg"])


def _perhaps(name: str, owner: str, given: Mapping[str, Any]) -> str:
    elsewhere = [other for other, names in _NAMES.items() if other != owner and name in names]
    if elsewhere:
        return f"; it belongs into {elsewhere[0]}"
    meant = name_meant(name, [known for known in _NAMES[owner] if given.get(known) is None])
    return f"; perhaps {meant} is meant" if meant else ""


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
        split_or = "unless addMemberArrayPath and removeMemberArrayPath are given"
        yield Fault(
            "/memberArrayPath", f"is required {'beside arrayInclusion' if 'arrayInclusion' in given else split_or}"
        )
        return
    member = document.get("memberArrayParser")
    if "arrayInclusion" not in given and isinstance(member, Mapping) and member.get("booleanMembershipPath") is None:
        yield Fault("/memberArrayParser/booleanMembershipPath", "is required beside memberArrayPath, or arrayInclusion")
