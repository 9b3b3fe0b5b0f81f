"""One member's change, and the requests that make it. Raises what boto3 raises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from worker.model import DynamoDBStoreConfiguration
from worker.stores.dynamodb.plan import Found, is_right
from worker.stores.dynamodb.units import ConsumedUnits, units_of
from worker.stores.layout import (
    DYNAMODB_EXCLUDED,
    DYNAMODB_INCLUDED,
    DYNAMODB_PARTITION_KEY,
    DYNAMODB_SORT_KEY,
    context_hash,
    dynamodb_user_namespace,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# What DynamoDB charges for a request whose condition was not met; its answer does not tell.
_UNITS_OF_REFUSAL: Final = 1.0
_UNITS_IN_TRANSACTION: Final = 2.0

_ADD: Final = f"ADD {DYNAMODB_INCLUDED} :refs"
_REMOVE: Final = f"DELETE {DYNAMODB_INCLUDED} :refs"
_IS_IN: Final = f"contains({DYNAMODB_INCLUDED}, :ref)"
_IS_ALONE: Final = f"{DYNAMODB_INCLUDED} = :refs AND attribute_not_exists({DYNAMODB_EXCLUDED})"
_IS_BLANK: Final = f"attribute_not_exists({DYNAMODB_INCLUDED}) AND attribute_not_exists({DYNAMODB_EXCLUDED})"
# A transaction does not tell what it has left of an item: there, an item that it would empty is another's to remove.
_IS_IN_WITH_OTHERS: Final = f"{_IS_IN} AND (size({DYNAMODB_INCLUDED}) > :one OR attribute_exists({DYNAMODB_EXCLUDED}))"


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
        together: it may go in one transaction with others.
        changed: the member was really added or removed.
        conflicts: how often a transaction of somebody else's was in its way.
    """

    hashed: str
    step: Step
    together: bool = False
    changed: bool = False
    conflicts: int = 0


_NOBODY: Final = Change(context_hash(""), Step.REMOVE)


def change_of(
    hashed: bytes, *, included: bool, found: Found | None, removal: Step = Step.REMOVE, together: bool = False
) -> Change | None:
    """What is to be done for a member; None when it is as it shall be.

    Args:
        hashed: the context.
        included: whether it shall be included.
        found: what was read of it, if anything.
        removal: the first step for somebody to be removed of whom nothing was read.
        together: whether it may go together with others; not if nothing was read: its condition may fail.
    """
    if found is Found.BLANK and not included:
        return Change(hashed.decode(), Step.TIDY)
    if is_right(found, included):
        return None
    if included:
        step = Step.ADD
    elif found is None:
        step = removal
    else:
        step = Step.REMOVE_ITEM if found is Found.ALONE else Step.REMOVE
    return Change(hashed.decode(), step, together=together and found is not None)


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
            # Not UPDATED_OLD: whether it tells of a set that ADD left as it was is not documented.
            before = self._update(change, _ADD, self._refs, ReturnValues="ALL_OLD")
            change.changed = self._segment_ref not in before.get(DYNAMODB_INCLUDED, {}).get("SS", ())
            return True
        try:
            if change.step is Step.REMOVE:
                return self._remove(change)
            # Under its condition a late copy of a DeleteItem does no more harm than one of an UpdateItem.
            removes_item = change.step is Step.REMOVE_ITEM
            self._delete(change, _IS_ALONE if removes_item else _IS_BLANK, self._refs if removes_item else None)
            change.changed = change.changed or removes_item
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
            change.changed = True  # which is what the conditions say

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
        after = self._update(
            change,
            _REMOVE,
            self._refs | self._ref,
            ConditionExpression=_IS_IN,
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        change.changed = True
        change.step = Step.TIDY
        return DYNAMODB_INCLUDED in after or DYNAMODB_EXCLUDED in after

    def _update(self, change: Change, expression: str, values: Any, **more: Any) -> dict[str, Any]:
        answer = self._client.update_item(
            TableName=self._table,
            Key=self._key(change),
            UpdateExpression=expression,
            ExpressionAttributeValues=values,
            ReturnConsumedCapacity="TOTAL",
            **more,
        )
        self._counted(answer)
        return dict(answer.get("Attributes", {}))

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
        if change.step is Step.REMOVE_ITEM:
            return {"Delete": request | {"ConditionExpression": _IS_ALONE, "ExpressionAttributeValues": self._refs}}
        values: dict[str, Any] = self._refs | self._ref
        if change.step is Step.ADD:
            expression, condition = _ADD, f"NOT {_IS_IN}"
        else:
            expression, condition, values = _REMOVE, _IS_IN_WITH_OTHERS, values | {":one": {"N": "1"}}
        return {
            "Update": request
            | {
                "UpdateExpression": expression,
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
