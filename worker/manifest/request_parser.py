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

from worker.manifest.spelling import name_meant, pointer_meant, quoted, sought_by

Mode = Literal["boolean", "split arrays", "array inclusion"]


class Fault(NamedTuple):
    """What is wrong with a manifest, and where: a JSON pointer into it, a sentence, and what to do, if known."""

    pointer: str
    message: str
    remedy: str = ""


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
        raise PydanticCustomError("surrogate", "has an unpaired surrogate") from None
    except JsonPointerException:
        raise PydanticCustomError("pointer", "is no JSON pointer (RFC 6901)") from None
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


_SPLIT = ("addMemberArrayPath", "removeMemberArrayPath")
# What a property holds, where an example is not to be made of its name.
_FORMS = {
    "requestParser": "an object with environmentIdPath, cohortIdPath, cohortNamePath and where the members lie",
    "arrayInclusion": 'an object such as {"path": "/action", "matcher": "^add$"}',
    "memberArrayParser": 'an object such as {"memberIdPath": "/userId"}',
    "memberIdPath": 'a JSON pointer that begins at a member, such as /userId; "" if members are bare ids',
    "path": "a JSON pointer, such as /action",
    "memberArrayPath": "a JSON pointer, such as /members",
    "matcher": "an RE2 pattern, such as ^add$",
}
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
    form = _FORMS.get(name, f"a JSON pointer, such as /{name.removesuffix('Path')}")
    message, remedy = fault["msg"], f"write {form}"
    match fault["type"]:
        case "missing":
            message, remedy = "is required", f"add it: {form}"
        case "string_type" if fault["input"] is None:
            message = "is required, and must not be null"
        case "string_type":
            message = f"must be a string: {'an RE2 pattern' if name == 'matcher' else 'a JSON pointer'}"
        case "model_type":
            message = f"must be an object{' with path and matcher' if name == 'arrayInclusion' else ''}"
        case "pointer":
            meant = pointer_meant(fault["input"], sought_by(pointer), member_arrays(document))
            if meant is not None:
                message, remedy = f"{message}; perhaps {quoted(meant)} is meant", f"write {quoted(meant)}"
        case "matcher" if "(?" in message:
            remedy = "RE2 looks neither ahead nor back: name the words that add, such as ^(add|add_members)$"
        case "extra_forbidden":
            return _unknown(pointer, name, owner, JsonPointer.from_parts(where[:-1]).resolve(document))
    return Fault(pointer, message, remedy)


def member_arrays(document: Any) -> list[str]:
    """The pointers of the member arrays in a requestParser's JSON value, as they were probably meant."""
    given = (document.get(name) for name in ("memberArrayPath", *_SPLIT)) if isinstance(document, Mapping) else ()
    return [meant for text in given if isinstance(text, str) and (meant := pointer_meant(text, "array"))]


def _unknown(pointer: str, name: str, owner: str, given: Mapping[str, Any]) -> Fault:
    no_property = f"is no property of {owner}"
    elsewhere = [other for other, names in _NAMES.items() if other != owner and name in names]
    if elsewhere:
        return Fault(pointer, f"{no_property}; it belongs into {elsewhere[0]}", f"move it into {elsewhere[0]}")
    meant = name_meant(name, [known for known in _NAMES[owner] if given.get(known) is None])
    if meant:
        return Fault(pointer, f"{no_property}; perhaps {meant} is meant", f"rename it to {meant}")
    return Fault(pointer, no_property, f"drop it; {owner} has {', '.join(_NAMES[owner])}")


def _mode_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """The rules between properties. They ask only what is there, so that they can be told beside other faults."""
    given = {name for name, value in document.items() if value is not None}
    if split := given & {*_SPLIT}:
        for lacking in sorted({*_SPLIT} - split):
            remedy = "add it; or, if the partner has one array for both, name that one in memberArrayPath alone"
            yield Fault(f"/{lacking}", "is required: the add and the remove array come only together", remedy)
        for beside in sorted(given & {"memberArrayPath", "arrayInclusion"}):
            both = "addMemberArrayPath and removeMemberArrayPath"
            yield Fault(f"/{beside}", f"cannot stand beside {both}", f"drop it, or drop {both}")
        return
    if "memberArrayPath" not in given:
        split_or = "unless addMemberArrayPath and removeMemberArrayPath are given"
        yield Fault(
            "/memberArrayPath",
            f"is required {'beside arrayInclusion' if 'arrayInclusion' in given else split_or}",
            "add it: a JSON pointer to the array of members, such as /members",
        )
        return
    member = document.get("memberArrayParser")
    if "arrayInclusion" not in given and isinstance(member, Mapping) and member.get("booleanMembershipPath") is None:
        yield Fault(
            "/memberArrayParser/booleanMembershipPath",
            "is required beside memberArrayPath, or arrayInclusion",
            "add it: a JSON pointer to what is true for a member that is added; or add arrayInclusion",
        )
