"""JSON Patch (RFC 6902) on a document of which a part may be changed: bounded, and with each refusal's own status.

The ``jsonpatch`` library applies the operations; its messages quote documents and values, and are never repeated. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from typing import Any, Final, Literal

import jsonpatch
from jsonpointer import JsonPointer, JsonPointerException

Document = dict[str, Any]

MOST_OPERATIONS: Final = 100
# Of the document at every moment: an operation that copies may double it, and a hundred of them would double it so
# often.
_MOST_VALUES: Final = 2_000
_MOST_CHARACTERS: Final = 64 * 1024
_DEEPEST: Final = 16
_KINDS: Final = frozenset({"add", "remove", "replace", "move", "copy", "test"})
_LONGEST_QUOTED: Final = 100


class PatchRefused(Exception):
    """Raised when a patch is not applied, and nothing of it is.

    Attributes:
        status: 400, it is no patch, or changes what cannot be changed; 409, a test failed; 422, it cannot be applied.
        message: one sentence; no values.
    """

    def __init__(self, status: Literal[400, 409, 422], message: str) -> None:
        super().__init__(message)
        self.status: Literal[400, 409, 422] = status
        self.message = message


def apply_patch(document: Document, patch: object, editable: Collection[str]) -> Document:
    """The document with the patch applied; the one given stays as it is.

    Args:
        document: an object.
        patch: the array of operations, as it came.
        editable: the members of the document that may be changed; the others may be tested, and copied from.

    Raises:
        PatchRefused: see there.
    """
    if not isinstance(patch, list):
        raise PatchRefused(400, "The body must be a JSON Patch: an array of operations")
    if len(patch) > MOST_OPERATIONS:
        raise PatchRefused(400, f"A patch has {MOST_OPERATIONS} operations at the most")
    operations = [_read(at, operation, document, editable) for at, operation in enumerate(patch)]
    patched = deepcopy(document)
    for at, (operation, where) in enumerate(operations):
        patched = _apply(operation, patched, f"Operation {at} ({where})")
    for member in patched.keys() - document.keys() - set(editable):
        raise PatchRefused(400, f"/{_quoted(member)}: there is no such field; what can be changed: {_listed(editable)}")
    return patched


def _read(at: int, operation: object, document: Document, editable: Collection[str]) -> tuple[jsonpatch.JsonPatch, str]:
    """One operation as a patch of its own, and what to call it.

    Raises:
        PatchRefused: 400.
    """
    if not isinstance(operation, dict):
        raise PatchRefused(400, f"/{at}: an operation is an object")
    kind, path = operation.get("op"), operation.get("path")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise PatchRefused(400, f"/{at}/op: must be one of {', '.join(sorted(_KINDS))}")
    changed = [_pointer(f"/{at}/path", path)] if kind != "test" else []
    _pointer(f"/{at}/path", path)
    if kind in {"move", "copy"}:
        source = _pointer(f"/{at}/from", operation.get("from"))
        changed += [source] if kind == "move" else []
    elif kind != "remove":
        if "value" not in operation:
            raise PatchRefused(400, f"/{at}/value: {kind} needs a value")
        _check_size(operation["value"], 400, f"/{at}/value")
    for pointer in changed:
        member = pointer.parts[0] if pointer.parts else ""
        if not pointer.parts or (member in document and member not in editable):
            raise PatchRefused(
                400, f"/{at}: {_quoted(pointer.path)} is read-only; what can be changed: {_listed(editable)}"
            )
    try:
        return jsonpatch.JsonPatch([operation]), f"{kind} {_quoted(str(path))}"
    except (jsonpatch.JsonPatchException, JsonPointerException):
        raise PatchRefused(400, f"/{at}: this is no operation of JSON Patch") from None


def _pointer(place: str, text: object) -> JsonPointer:
    try:
        if isinstance(text, str):
            return JsonPointer(text)
    except JsonPointerException:
        pass
    raise PatchRefused(400, f"{place}: must be a JSON pointer, which is empty or begins with a slash") from None


def _apply(operation: jsonpatch.JsonPatch, document: Document, name: str) -> Document:
    try:
        patched: Document = operation.apply(document, in_place=True)
    except jsonpatch.JsonPatchTestFailed:
        raise PatchRefused(409, f"{name} failed: that is not its value") from None
    # The others are what the library lets through of operations on what is no array and no object.
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError, IndexError):
        raise PatchRefused(422, f"{name} cannot be applied: there is no such place to do it at") from None
    _check_size(patched, 400, name)
    return patched


def _check_size(value: Any, status: Literal[400], name: str) -> None:
    """Refuse a value that is too large, too deep, or has too many parts; looks at no more of it than is allowed."""
    values, characters = 0, 0
    level: list[Any] = [value]
    for _ in range(_DEEPEST + 1):
        below: list[Any] = []
        for each in level:
            values += 1
            if isinstance(each, str):
                characters += len(each)
            elif isinstance(each, dict):
                characters += sum(map(len, each))
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
            if values + len(below) > _MOST_VALUES or characters > _MOST_CHARACTERS:
                raise PatchRefused(status, f"{name}: makes the document too large")
        if not below:
            return
        level = below
    raise PatchRefused(status, f"{name}: makes the document too deep")


def _listed(members: Collection[str]) -> str:
    return ", ".join(sorted(members))


def _quoted(path: str) -> str:
    shown = path if len(path) <= _LONGEST_QUOTED else f"{path[:_LONGEST_QUOTED]}…"
    return ascii(shown)[1:-1] or "the whole document"
