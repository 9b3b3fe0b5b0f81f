"""A segment's two lists in one order: the names of members, in folds, snapshots and audits. Pure.

A name is the context key itself where the included list is meant, and the context key behind a mark where the excluded
one is: partners change the included list alone, so that the common case costs nothing. The mark begins with U+FDD0, a
noncharacter that no text should hold; an included key that begins with it all the same is spelled behind a mark of its
own. Marked names are neighbours when names are sorted, and names sort as their keys do.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from worker.model import MemberList

MARK: Final = "\ufdd0"
_INCLUDED: Final = MARK + "i"
_EXCLUDED: Final = MARK + "x"
# Beyond every marked name, and below every other name that sorts after those.
_BEYOND: Final = "\ufdd1"
_IN_UTF8: Final = MARK.encode()
_IN_JSON: Final = re.compile(rb"\\u[fF][dD][dD]0")


class Marked(dict[str, bool]):
    """Names, in or out, of which some may be marked; a plain mapping of names has none that is."""


def included_name(context_key: str) -> str:
    """The name of a context in the included list."""
    return context_key if not context_key.startswith(MARK) else _INCLUDED + context_key


def excluded_name(context_key: str) -> str:
    """The name of a context in the excluded list."""
    return _EXCLUDED + context_key


def name_of(of: MemberList, context_key: str) -> str:
    """The name of a context in one of the lists."""
    return included_name(context_key) if of == "included" else _EXCLUDED + context_key


def is_excluded(name: str) -> bool:
    """Whether the name is of the excluded list."""
    return name.startswith(_EXCLUDED)


def split_name(name: str) -> tuple[MemberList, str]:
    """The list and the context key that a name stands for."""
    if not name.startswith(MARK):
        return "included", name
    return "excluded" if name.startswith(_EXCLUDED) else "included", name[len(_EXCLUDED) :]


def may_be_marked(content: bytes) -> bool:
    """Whether text, JSON or not, may hold a key that begins with the mark.

    Looked up once per content, not per key; what most contents lack is looked for first, as it costs a hundredth.
    """
    if not content.isascii() and _IN_UTF8 in content:
        return True
    return b"\\" in content and _IN_JSON.search(content) is not None


def included_names(members: Mapping[str, bool]) -> Mapping[str, bool]:
    """Context keys, in the included list or not, by their names."""
    if not any(key.startswith(MARK) for key in members):
        return members
    return Marked((included_name(key), include) for key, include in members.items())


def split_names(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The context keys that names stand for: of the included list, and of the excluded one."""
    included: list[str] = []
    excluded: list[str] = []
    for name in names:
        of, key = split_name(name)
        (included if of == "included" else excluded).append(key)
    return included, excluded


def split_sorted(names: list[str]) -> tuple[list[str], list[str]]:
    """As ``split_names``, of sorted ones: two searches where none is marked."""
    first, beyond = marked_range(names)
    if first == beyond:
        return names, []
    included, excluded = split_names(names[first:beyond])
    return [*names[:first], *included, *names[beyond:]], excluded


def marked_range(names: Sequence[str]) -> tuple[int, int]:
    """Where the marked ones begin and end among sorted names."""
    first = bisect_left(names, MARK)
    return first, bisect_left(names, _BEYOND, first)


def excluded_range(names: Sequence[str]) -> tuple[int, int]:
    """Where those of the excluded list begin and end among sorted names."""
    first = bisect_left(names, _EXCLUDED)
    return first, bisect_left(names, _BEYOND, first)
