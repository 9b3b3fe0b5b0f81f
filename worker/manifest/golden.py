"""Golden payloads: bodies as a partner sends them, each with what it must come to written beside it.

One is a file ``{integrationKey}/{any name}.json``::

    {"description": "…", "body": {…}, "policy": "reject", "expected": {…}}

``description`` and ``policy`` may be left out. ``expected`` has the form that `segsync manifest explain --json` prints.
Of an object in it only the members that are given are compared; an array must agree in length and order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
from jsonpointer import JsonPointer
from msgspec import Raw

import worker
from worker.errors import Misconfigured
from worker.manifest.request_parser import Fault
from worker.manifest.spelling import name_meant
from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy


@dataclass(frozen=True)
class Golden:
    """One golden payload.

    Attributes:
        body: the bytes that stand in the file, unchanged: digits, duplicate keys and spaces too.
        policy: what is to become of members that cannot be read.
        expected: the JSON that the outcome is compared with.
    """

    body: bytes
    policy: MemberPolicy
    expected: Raw

    @property
    def expects_refusal(self) -> bool:
        """Whether the payload is expected to be refused, in so many words."""
        return bytes(_object.decode(self.expected).get("ok", b"")) == b"false"


class GoldenFiles(NamedTuple):
    """The golden payloads of one integration, and those bundled ones that one's own files of their name hide."""

    files: list[Path]
    hidden: list[Path]


class Difference(NamedTuple):
    """A place where an outcome is not as expected: JSON pointer, and both values as JSON; None for no value."""

    pointer: str
    expected: str | None
    actual: str | None


class Directions(NamedTuple):
    """Whether an expected outcome has members that are added, and members that are removed."""

    add: bool
    remove: bool


class _Segment(msgspec.Struct):
    add: list[Raw] = []
    remove: list[Raw] = []


class _Outcome(msgspec.Struct):
    segments: list[_Segment] = []


_policy: msgspec.json.Decoder[MemberPolicy] = msgspec.json.Decoder(MemberPolicy)
_REQUIRED = ("body", "expected")
_OPTIONAL = ("description", "policy")

_object = msgspec.json.Decoder(dict[str, Raw])
_array = msgspec.json.Decoder(list[Raw])


def bundled_golden_directory() -> Path:
    """Where the golden payloads that ship with segsync are: inside the package, or among the tests of a checkout.

    Raises:
        Misconfigured: neither is there.
    """
    package = Path(worker.__file__).parent
    for directory in (package / "golden", package.parent / "tests" / "golden"):
        if directory.is_dir():
            return directory
    raise Misconfigured("the bundled golden payloads are missing: segsync is not installed completely")


def golden_files(key: str, own: Sequence[Path] = ()) -> GoldenFiles:
    """The golden payloads of the integration ``key``: the bundled ones, and those in directories of one's own.

    The bundled ones say what the partner sends, so they hold for a manifest of one's own as well. Where it is meant
    to differ, a file of one's own hides the bundled one of its name.

    Args:
        key: the integration key.
        own: directories laid out as ``{key}/*.json``; those that do not know the key are passed over.

    Raises:
        Misconfigured: the bundled ones are missing.
    """
    mine = [file for directory in own for file in _listed(directory / key)]
    names = {file.name for file in mine}
    bundled = _listed(bundled_golden_directory() / key)
    return GoldenFiles(
        [file for file in bundled if file.name not in names] + mine, [file for file in bundled if file.name in names]
    )


def read_golden(content: bytes) -> Golden | Fault:
    """Read a golden file's content, or say where it has not the form of one."""
    try:
        members = _object.decode(content.decode("utf-8-sig"))
    except msgspec.ValidationError:
        return Fault("", f"must be an object with {' and '.join(_REQUIRED)}")
    except RecursionError:
        return Fault("", "is nested too deep")
    except ValueError as error:
        return Fault("", f"is no JSON in UTF-8: {str(error).removeprefix('JSON is malformed: ')}")
    fault = next(_faults(members), None)
    if fault is not None:
        return fault
    policy = members.get("policy")
    chosen = DEFAULT_MEMBER_POLICY if policy is None else _policy.decode(policy)
    return Golden(bytes(members["body"]), chosen, members["expected"])


def own_directories(overlay: Path | None, named: Sequence[Path] = ()) -> list[Path]:
    """The directories of golden payloads of one's own: ``golden`` among one's own manifests, and those that are named.

    Raises:
        Misconfigured: one that is named is no directory, or has no golden payloads.
    """
    for directory in named:
        if not directory.is_dir():
            raise Misconfigured(f"golden payloads: {directory} is no directory")
        if not any(directory.glob("*/*.json")):
            raise Misconfigured(f"golden payloads: {directory} holds none; they lie in {directory}/KEY/*.json")
    return [*([] if overlay is None else [overlay / "golden"]), *named]


def stray_keys(own: Iterable[Path], keys: Iterable[str]) -> list[Path]:
    """The directories of golden payloads of one's own that are of no integration: most likely their name is misspelt.

    Args:
        own: directories laid out as ``{key}/*.json``.
        keys: the integration keys that there are.
    """
    known = set(keys)
    return [
        stray
        for directory in own
        for stray in sorted({file.parent for file in directory.glob("*/*.json")})
        if stray.name not in known
    ]


def directions(golden: Golden) -> Directions:
    """What a golden payload shows of a manifest, once it holds."""
    try:
        segments = msgspec.json.decode(golden.expected, type=_Outcome).segments
    except msgspec.ValidationError:  # no outcome at all; comparing will say so
        segments = []
    return Directions(any(segment.add for segment in segments), any(segment.remove for segment in segments))


def differences(expected: Raw, actual: Raw, pointer: str = "") -> Iterator[Difference]:
    """Where ``actual`` is not as ``expected``, in the order of ``expected``."""
    kind = bytes(expected)[:1]
    if kind != bytes(actual)[:1] or kind not in {b"{", b"["}:
        if not _same(expected, actual):
            yield Difference(pointer, _text(expected), _text(actual))
        return
    pairs = _members(expected, actual) if kind == b"{" else _elements(expected, actual)
    for token, wanted, found in pairs:
        at = pointer + JsonPointer.from_parts([token]).path
        if wanted is None or found is None:
            yield Difference(at, _text(wanted), _text(found))
        else:
            yield from differences(wanted, found, at)


def _faults(members: Mapping[str, Raw]) -> Iterator[Fault]:
    """What is wrong with the members of a golden file."""
    for name in members:
        if name not in {*_REQUIRED, *_OPTIONAL}:
            meant = name_meant(name, [known for known in (*_REQUIRED, *_OPTIONAL) if known not in members])
            perhaps = f"perhaps {meant} is meant" if meant else f"there are {', '.join((*_REQUIRED, *_OPTIONAL))}"
            yield Fault(JsonPointer.from_parts([name]).path, f"is no member of a golden payload; {perhaps}")
    for name in _REQUIRED:
        if name not in members:
            yield Fault(f"/{name}", "is required")
    if bytes(members.get("description", b'""'))[:1] != b'"':
        yield Fault("/description", "must be a string")
    try:
        _policy.decode(members.get("policy", b'"reject"'))
    except ValueError:
        yield Fault("/policy", f"must be {' or '.join(map(repr, get_args(MemberPolicy)))}")
    if bytes(members["expected"])[:1] != b"{":
        yield Fault("/expected", "must be an object, as explain --json prints it")
    else:
        try:
            # Its values too: whatever is compared later can be read.
            if not msgspec.json.decode(members["expected"], type=dict[str, Any]):
                yield Fault("/expected", "is empty: nothing would be compared")
        except ValueError as error:
            yield Fault("/expected", f"cannot be read: {error}")


def _listed(directory: Path) -> list[Path]:
    return sorted(file for file in directory.glob("*.json") if not file.name.startswith("."))


def _members(expected: Raw, actual: Raw) -> Iterator[tuple[str, Raw | None, Raw | None]]:
    found = _object.decode(actual)
    for name, wanted in _object.decode(expected).items():
        yield name, wanted, found.get(name)


def _elements(expected: Raw, actual: Raw) -> Iterator[tuple[str, Raw | None, Raw | None]]:
    for index, (wanted, found) in enumerate(zip_longest(_array.decode(expected), _array.decode(actual))):
        yield str(index), wanted, found


def _same(expected: Raw, actual: Raw) -> bool:
    """Whether two values that are not both containers are the same; numbers are, when their digits are."""
    if bytes(expected)[:1] == bytes(actual)[:1] == b'"':
        return bool(msgspec.json.decode(expected) == msgspec.json.decode(actual))
    return bytes(expected) == bytes(actual)


def _text(value: Raw | None) -> str | None:
    return None if value is None else msgspec.json.format(value, indent=-1).decode()
