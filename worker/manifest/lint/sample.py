"""A small body that a requestParser takes, made from nothing but its own pointers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from jsonpointer import JsonPointer

from worker.manifest.document import array_index
from worker.manifest.json_text import MAX_NESTING
from worker.manifest.lint.words import action_word
from worker.manifest.request_parser import RequestParser

Body = dict[str, Any]
Scalar = str | int
Tokens = tuple[str, ...]

# A pointer to a later element than this is not followed: the array would have to be that long.
MOST_ELEMENTS = 1000


def sample_body(
    parser: RequestParser,
    *,
    environment_id: Scalar = "environment-1",
    context_kind: Scalar | None = "user",
    cohort_id: Scalar = "cohort-1",
    cohort_name: Scalar = "Cohort 1",
    cohort_url: Scalar | None = "https://partner.example/cohorts/cohort-1",
    add: Sequence[Scalar] = ("user-1",),
    remove: Sequence[Scalar] = ("user-2",),
    added: bool = True,
    action: Scalar | None = None,
) -> Body:
    """Build a body by putting values where a requestParser's pointers look.

    The decoder takes the body, unless the pointers contradict one another, so that no body can have all that they look
    for: then it has as much as there is room for, and the decoder's refusal tells which pointer is not satisfied.

    Args:
        parser: whose pointers to follow. What it has no pointer for is left out.
        environment_id: the environment id.
        context_kind: the context kind; None leaves it out.
        cohort_id: the cohort's id, the payload's and each member's.
        cohort_name: the cohort's name, likewise.
        cohort_url: the cohort's page; None leaves it out.
        add: ids of members to add.
        remove: ids of members to remove.
        added: where one action counts for all members, whether it is to be an add; then the members are ``add``,
            else ``remove``.
        action: the action; None finds a word that the matcher takes, or refuses, as ``added`` says.

    Returns:
        A JSON object. An array has more members than asked for (``member-2`` ...) when a pointer looks into a later
        one.
    """
    document: dict[Tokens, Any] = {
        _tokens(parser.environment_id_path): environment_id,
        _tokens(parser.cohort_id_path): cohort_id,
        _tokens(parser.cohort_name_path): cohort_name,
    }
    if parser.array_inclusion is not None:
        word = action_word(parser.array_inclusion.matcher, added=added) if action is None else action
        document[_tokens(parser.array_inclusion.path)] = word
    optional = _given({parser.context_kind_path: context_kind, parser.cohort_url_path: cohort_url})
    looked_at = [*document, *optional]
    overrides = {"cohort_id": cohort_id, "cohort_name": cohort_name}
    arrays = {
        array: list(_padded(members, _elements_needed(array, looked_at)))
        for array, members in _arrays(parser, add, remove, added=added).items()
    }
    for array, members in arrays.items():
        for index, (member_id, direction) in enumerate(members):
            at = (*array, str(index))
            document |= _member(parser, at, member_id, direction)
            optional |= _overrides(parser, at, **overrides)
    # A context kind that lies where something else does must suit both; anything else that does is one value for all.
    # Of two optional values, one inside the other, the inner may be missing; the outer may not be an object.
    outer_first = sorted(optional.items(), key=lambda item: len(item[0]))
    places = document | {at: value for at, value in outer_first if at not in document}
    if context_kind is not None and parser.context_kind_path is not None:
        places[_tokens(parser.context_kind_path)] = context_kind
    # A member is an object, even if only indices are looked for in it.
    elements = {(*array, str(index)) for array, members in arrays.items() for index in range(len(members))}
    lists = {*arrays, *(_lists(places) - elements)}
    body: Body = {}
    for at, value in places.items():
        place(body, at, value, lists)
    for array in arrays:  # those without members
        place(body, array, [], lists)
    return body


def place(body: Body, at: Tokens, value: Any, lists: Collection[Tokens] = ()) -> None:
    """Put a value into a body, and what lies on the way to it; ``lists`` says which places are arrays.

    Nothing is put where something is already, nor inside a scalar, nor at a token that no array has.
    """
    if len(at) > MAX_NESTING:
        return
    container: Any = body
    for depth, token in enumerate(at, start=1):
        fresh: Any = value if depth == len(at) else [] if at[:depth] in lists else {}
        if isinstance(container, dict):
            container = container.setdefault(token, fresh)
        elif isinstance(container, list):
            index = array_index(token)
            if index is None or index >= MOST_ELEMENTS:
                return
            container += [None] * (index + 1 - len(container))
            if container[index] is None:
                container[index] = fresh
            container = container[index]
        else:
            return


def found(body: Any, pointer: str) -> bool:
    """Whether a pointer finds something in a body."""
    value = body
    for token in _tokens(pointer):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and (index := array_index(token)) is not None and index < len(value):
            value = value[index]
        else:
            return False
    return True


def _tokens(pointer: str) -> Tokens:
    return tuple(JsonPointer(pointer).parts)


def _given(values: dict[str | None, Any]) -> dict[Tokens, Any]:
    return {_tokens(pointer): value for pointer, value in values.items() if pointer is not None and value is not None}


def _arrays(
    parser: RequestParser, add: Sequence[Scalar], remove: Sequence[Scalar], *, added: bool
) -> dict[Tokens, list[tuple[Scalar, bool]]]:
    """The member arrays, with each member's id and direction."""
    adds, removes = [(member, True) for member in add], [(member, False) for member in remove]
    if parser.member_array_path is None:
        return _given({parser.add_member_array_path: adds, parser.remove_member_array_path: removes})
    if parser.array_inclusion is None:
        return {_tokens(parser.member_array_path): adds + removes}
    return {_tokens(parser.member_array_path): adds if added else removes}


def _elements_needed(array: Tokens, pointers: Collection[Tokens]) -> int:
    """How many elements an array must have for pointers to find what they look for inside them."""
    inside = (array_index(at[len(array)]) for at in pointers if len(at) > len(array) and at[: len(array)] == array)
    return max((index + 1 for index in inside if index is not None and index < MOST_ELEMENTS), default=0)


def _padded(members: list[tuple[Scalar, bool]], length: int) -> Iterator[tuple[Scalar, bool]]:
    yield from members
    direction = members[-1][1] if members else True
    for number in range(len(members) + 1, length + 1):
        yield f"member-{number}", direction


def _member(parser: RequestParser, at: Tokens, member_id: Scalar, direction: bool) -> dict[Tokens, Any]:
    member = parser.member_array_parser
    values: dict[Tokens, Any] = {(*at, *_tokens(member.member_id_path)): member_id}
    if parser.mode == "boolean" and member.boolean_membership_path is not None:
        values[(*at, *_tokens(member.boolean_membership_path))] = direction
    return values


def _overrides(parser: RequestParser, at: Tokens, *, cohort_id: Scalar, cohort_name: Scalar) -> dict[Tokens, Any]:
    member = parser.member_array_parser
    own = {member.cohort_id_path: cohort_id, member.cohort_name_path: cohort_name}
    return {(*at, *path): value for path, value in _given(dict(own)).items()}


def _lists(places: Collection[Tokens]) -> set[Tokens]:
    """The places that only indices are looked for in: a partner has arrays there."""
    tokens: dict[Tokens, list[str]] = {}
    for at in places:
        for depth, token in enumerate(at[:MAX_NESTING]):
            tokens.setdefault(at[:depth], []).append(token)
    return {prefix for prefix, inside in tokens.items() if prefix and all(map(_is_element, inside))}


def _is_element(token: str) -> bool:
    index = array_index(token)
    return index is not None and index < MOST_ELEMENTS
