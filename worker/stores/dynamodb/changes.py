"""One member's change, and the requests that make it. Raises what boto3 raises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from worker.model import DynamoDBStoreConfiguration, MemberList
from worker.stores.dynamodb.plan import Found, is_right
from worker.stores.dynamodb.units import ConsumedUnits, units_of
from worker.stores.dynamodb.wishes import Wish, wish_of, words_of
from worker.stores.layout import (
    DYNAMODB_EXCLUDED,
    DYNAMODB_INCLUDED,
    DYNAMODB_PARTITION_KEY,
    DYNAMODB_SORT_KEY,
    MEMBER_LISTS,
    context_hash,
    dynamodb_user_namespace,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# What DynamoDB charges for a request whose condition was not met; its answer does not tell.
_UNITS_OF_REFUSAL: Final = 1.0
_UNITS_IN_TRANSACTION: Final = 2.0

_IS_BLANK: Final = f"attribute_not_exists({DYNAMODB_INCLUDED}) AND attribute_not_exists({DYNAMODB_EXCLUDED})"
_IS_NEVER: Final = f"attribute_exists({DYNAMODB_PARTITION_KEY}) AND attribute_not_exists({DYNAMODB_PARTITION_KEY})"


class Step(Enum):
    """What is to be done next for a member."""

    ADD = auto()
    REMOVE = auto()
    REMOVE_ITEM = auto()  # with everything in it, which is the segment alone
    TIDY = auto()  # the item is there, with nothing in it


@dataclass(slots=True)
class Change:
    """What is to be done for one member, and how far it got.

    Attributes:
        wish: what shall become of it. With two lists in it, there is one request for both, and never in company.
        together: it may go in one transaction with others.
        changed: the lists that the member was really added to or removed from.
        conflicts: how often a transaction of somebody else's was in its way.
    """

    hashed: str
    step: Step
    wish: Wish
    together: bool = False
    changed: tuple[MemberList, ...] = ()
    conflicts: int = 0


_NOBODY: Final = Change(context_hash(""), Step.REMOVE, Wish())


def change_of(
    hashed: bytes,
    of: MemberList,
    *,
    wanted: bool,
    found: Found | None,
    removal: Step = Step.REMOVE,
    together: bool = False,
) -> Change | None:
    """What is to be done for a member in one list; None when it is as it shall be.

    Args:
        hashed: the context.
        of: the list.
        wanted: whether it shall be in it.
        found: what was read of it, if anything.
        removal: the first step for somebody to be removed of whom nothing was read.
        together: whether it may go together with others; not if nothing was read: its condition may fail.
    """
    wish = wish_of(wanted, None) if of == "included" else wish_of(None, wanted)
    if found is Found.BLANK and not wanted:
        return Change(hashed.decode(), Step.TIDY, wish)
    if is_right(found, wanted):
        return None
    if wanted:
        step = Step.ADD
    elif found is None:
        step = removal
    else:
        step = Step.REMOVE_ITEM if found is Found.ALONE else Step.REMOVE
    return Change(hashed.decode(), step, wish, together=together and found is not None)


def change_of_both(hashed: bytes, *, included: bool, excluded: bool) -> Change:
    """What is to be done for a member of whom a patch says something in both lists.

    There are few: nobody is read for it.
    """
    return Change(hashed.decode(), Step.ADD if included or excluded else Step.REMOVE, wish_of(included, excluded))


def likely_removal(found: Iterable[Found]) -> Step:
    """How to begin with the removal of somebody of whom nothing was read, by what was found of others.

    To try for the item costs a unit less where it holds nothing else, and a unit more where it holds more.
    """
    alone = others = 0
    for each in found:
        alone += each is Found.ALONE
        others += each is not Found.ALONE
    return Step.REMOVE_ITEM if alone > others else Step.REMOVE


class Changes:
    """The requests of one segment's changes. Safe between threads."""

    def __init__(
        self,
        client: DynamoDBClient,
        configuration: DynamoDBStoreConfiguration,
        segment_ref: str,
        consumed: ConsumedUnits,
    ) -> None:
        self._client = client
        self._table = configuration.tableName
        self._namespace = {"S": dynamodb_user_namespace(configuration.prefix)}
        self._refs = {":refs": {"SS": [segment_ref]}}
        self._ref = {":ref": {"S": segment_ref}}
        self._segment_ref = segment_ref
        self._consumed = consumed

    def send(self, change: Change) -> bool:
        """Send the one request that a change needs next; returns whether it is complete."""
        if change.step is Step.ADD:
            # Whatever is removed from the other list, the item does not become empty.
            self._note_changes(change, self._update(change, self._refs))
            return True
        try:
            if change.step is Step.REMOVE:
                return self._remove(change)
            # Under its condition a late copy of a DeleteItem does no more harm than one of an UpdateItem.
            removes_item = change.step is Step.REMOVE_ITEM
            condition = words_of(change.wish).is_alone if removes_item else _IS_BLANK
            self._delete(change, condition, self._refs if removes_item else None)
            change.changed = change.wish.remove if removes_item else change.changed
        except self._client.exceptions.ConditionalCheckFailedException as fault:
            self._consumed.count(write=_UNITS_OF_REFUSAL)
            if change.step is Step.REMOVE_ITEM:
                change.step = Step.REMOVE  # it is in other segments by now, or gone
                return False
            if change.step is Step.REMOVE and _is_blank(fault.response.get("Item")):
                change.step = Step.TIDY  # left by a drain that was stopped in between, or by an older version
                return False
        return True

    def send_together(self, changes: Sequence[Change]) -> None:
        """Make a hundred changes at most in one transaction, all or none of them; all are complete then."""
        items: Any = [self._in_transaction(change) for change in changes]
        answer = self._client.transact_write_items(TransactItems=items, ReturnConsumedCapacity="TOTAL")
        # At the least: emulators tell of one item alone, or of none.
        self._consumed.count(write=max(units_of(answer), _UNITS_IN_TRANSACTION * len(changes)))
        for change in changes:
            change.changed = change.wish.add or change.wish.remove  # which is what the conditions say

    def count_cancelled(self, changes: int) -> None:
        """A transaction of so many changes came to nothing, which DynamoDB charges for as well."""
        self._consumed.count(write=_UNITS_IN_TRANSACTION * changes)

    def try_to_delete(self) -> None:
        """Ask for a deletion whose condition nothing can meet: whether it would be permitted."""
        with suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.delete_item(TableName=self._table, Key=self._key(_NOBODY), ConditionExpression=_IS_NEVER)

    def try_transaction(self) -> None:
        """Ask for a transaction whose condition nothing can meet: whether it would be permitted."""
        nobody: Any = {"TableName": self._table, "Key": self._key(_NOBODY), "ConditionExpression": _IS_NEVER}
        with suppress(self._client.exceptions.TransactionCanceledException):
            self._client.transact_write_items(TransactItems=[{"Delete": nobody}])

    def _remove(self, change: Change) -> bool:
        # Without a condition, DELETE creates an empty item for a context that has none.
        before = self._update(
            change,
            self._refs | self._ref,
            ConditionExpression=words_of(change.wish).is_in,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        self._note_changes(change, before)
        change.step = Step.TIDY
        return sum(map(len, before.values())) > len(change.changed)  # something is left

    def _note_changes(self, change: Change, before: dict[MemberList, Sequence[str]]) -> None:
        wish = change.wish
        added = (of for of in wish.add if self._segment_ref not in before[of])
        change.changed = (*added, *(of for of in wish.remove if self._segment_ref in before[of]))

    def _update(self, change: Change, values: Any, **more: Any) -> dict[MemberList, Sequence[str]]:
        """Send an update, and return what stood in each set before it."""
        answer = self._client.update_item(
            TableName=self._table,
            Key=self._key(change),
            UpdateExpression=words_of(change.wish).update,
            ExpressionAttributeValues=values,
            # Not UPDATED_OLD: whether it tells of a set that ADD left as it was is not documented.
            ReturnValues="ALL_OLD",
            ReturnConsumedCapacity="TOTAL",
            **more,
        )
        self._counted(answer)
        before: Any = answer.get("Attributes", {})
        return {of: before.get(of, {}).get("SS", ()) for of in MEMBER_LISTS}

    def _delete(self, change: Change, condition: str, values: Any) -> None:
        self._counted(
            self._client.delete_item(
                TableName=self._table,
                Key=self._key(change),
                ConditionExpression=condition,
                ReturnConsumedCapacity="TOTAL",
                **({} if values is None else {"ExpressionAttributeValues": values}),
            )
        )

    def _in_transaction(self, change: Change) -> dict[str, Any]:
        request: dict[str, Any] = {"TableName": self._table, "Key": self._key(change)}
        words = words_of(change.wish)
        if change.step is Step.REMOVE_ITEM:
            alone = {"ConditionExpression": words.is_alone, "ExpressionAttributeValues": self._refs}
            return {"Delete": request | alone}
        values: dict[str, Any] = self._refs | self._ref
        if change.step is Step.ADD:
            condition = f"NOT {words.is_in}"
        else:
            condition, values = words.is_in_with_others, values | {":one": {"N": "1"}}
        return {
            "Update": request
            | {
                "UpdateExpression": words.update,
                "ConditionExpression": condition,
                "ExpressionAttributeValues": values,
            }
        }

    def _key(self, change: Change) -> Any:
        return {DYNAMODB_PARTITION_KEY: self._namespace, DYNAMODB_SORT_KEY: {"S": change.hashed}}

    def _counted(self, answer: Any) -> None:
        self._consumed.count(write=units_of(answer))


def _is_blank(item: Any) -> bool:
    """Whether there is an item, as it was when a condition failed, with nothing in it; emulators may not tell."""
    return bool(item) and DYNAMODB_INCLUDED not in item and DYNAMODB_EXCLUDED not in item
