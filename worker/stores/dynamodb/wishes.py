"""What shall become of a member in the two sets of its item, and DynamoDB's expressions for it.

In them, ``:refs`` is a set of the segment's ref alone, ``:ref`` that ref, and ``:one`` the number.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from worker.model import MemberList
from worker.stores.layout import DYNAMODB_EXCLUDED, DYNAMODB_INCLUDED, MEMBER_LISTS


class Wish(NamedTuple):
    """What shall become of a member: which lists to add it to, and which to remove it from; one list at least."""

    add: tuple[MemberList, ...] = ()
    remove: tuple[MemberList, ...] = ()


@cache
def wish_of(included: bool | None, excluded: bool | None) -> Wish:
    """Whether a member shall be in each list; None for a list that nothing is said of."""
    said = tuple(zip(MEMBER_LISTS, (included, excluded), strict=True))
    return Wish(tuple(of for of, wanted in said if wanted), tuple(of for of, wanted in said if wanted is False))


class Words(NamedTuple):
    """Expressions of a wish; the last two only where it is about one list."""

    update: str
    is_in: str
    is_alone: str
    is_in_with_others: str


@cache
def words_of(wish: Wish) -> Words:
    """The expressions of a wish."""
    lists = wish.add + wish.remove
    of, other = lists[0], DYNAMODB_EXCLUDED if lists[0] == DYNAMODB_INCLUDED else DYNAMODB_INCLUDED
    clauses = (("ADD", wish.add), ("DELETE", wish.remove))
    update = " ".join(f"{verb} {', '.join(f'{each} :refs' for each in sets)}" for verb, sets in clauses if sets)
    return Words(
        update,
        is_in=" OR ".join(f"contains({each}, :ref)" for each in lists),
        is_alone=f"{of} = :refs AND attribute_not_exists({other})",
        # A transaction does not tell what it has left of an item: there, an item that it would empty is another's to
        # remove.
        is_in_with_others=f"contains({of}, :ref) AND (size({of}) > :one OR attribute_exists({other}))",
    )
