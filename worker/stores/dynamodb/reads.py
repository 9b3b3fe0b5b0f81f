"""What lies under a prefix of a DynamoDB table, read in bulk. All reads are consistent. Raises what boto3 raises."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from worker.model import DynamoDBStoreConfiguration, MemberList
from worker.stores.layout import (
    DYNAMODB_EXCLUDED,
    DYNAMODB_INCLUDED,
    DYNAMODB_PARTITION_KEY,
    DYNAMODB_SORT_KEY,
    MEMBER_LISTS,
    context_hash,
    dynamodb_user_namespace,
    is_hash,
)
from worker.stores.segment_store import Scanned

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# What one BatchGetItem may ask for.
_AT_ONCE: Final = 100
# A throttled table answers a part of what it is asked for. How long to wait before each further try for the rest.
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4)
# ``key`` is a word of DynamoDB's own.
_NAMES: Final = {"#key": DYNAMODB_SORT_KEY, "#included": DYNAMODB_INCLUDED, "#excluded": DYNAMODB_EXCLUDED}
_PROJECTION: Final = "#key, #included, #excluded"


def read_pages(
    client: DynamoDBClient, configuration: DynamoDBStoreConfiguration, *, items: int | None = None
) -> Iterator[list[Scanned]]:
    """Everybody under the prefix; see ``SegmentStore.scan``. A page may be empty: there is more to come.

    Args:
        client: a client of the table's account.
        configuration: table and prefix.
        items: how many items to look at in one page, else a megabyte of them.
    """
    more: dict[str, Any] = {} if items is None else {"Limit": items}
    while True:
        answer = client.query(
            TableName=configuration.tableName,
            KeyConditionExpression="#namespace = :namespace",
            # What a context leaves behind that was removed from everything: an item with nothing in it.
            FilterExpression="attribute_exists(#included) OR attribute_exists(#excluded)",
            ProjectionExpression=_PROJECTION,
            ExpressionAttributeNames=_NAMES | {"#namespace": DYNAMODB_PARTITION_KEY},
            ExpressionAttributeValues={":namespace": {"S": dynamodb_user_namespace(configuration.prefix)}},
            ConsistentRead=True,
            **more,
        )
        entries = map(_entry, answer["Items"])
        yield [entry for entry in entries if is_hash(entry.context_hash) and (entry.included or entry.excluded)]
        if "LastEvaluatedKey" not in answer:
            return
        more["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def holds_members(client: DynamoDBClient, configuration: DynamoDBStoreConfiguration) -> bool:
    """Whether there is anybody; see ``SegmentStore``. Most often the first item tells."""
    first = read_pages(client, configuration, items=1)
    return bool(next(first, None)) or any(page for page in read_pages(client, configuration))


def read_refs(
    client: DynamoDBClient, configuration: DynamoDBStoreConfiguration, context_key: str, of: MemberList
) -> set[str]:
    """The segments that have a context in that list."""
    namespace = dynamodb_user_namespace(configuration.prefix)
    found = client.get_item(
        TableName=configuration.tableName,
        Key={DYNAMODB_PARTITION_KEY: {"S": namespace}, DYNAMODB_SORT_KEY: {"S": context_hash(context_key)}},
        ConsistentRead=True,
    )
    return set(found.get("Item", {}).get(of, {}).get("SS", ()))


def read_memberships(
    client: DynamoDBClient,
    configuration: DynamoDBStoreConfiguration,
    segment_ref: str,
    hashes: Sequence[bytes],
    of: MemberList,
) -> list[bool]:
    """Whether each of these contexts is in that list of the segment."""
    found: set[bytes] = set()
    distinct = list(dict.fromkeys(hashes))  # DynamoDB refuses to be asked for one thing twice
    for start in range(0, len(distinct), _AT_ONCE):
        items = _read_items(client, configuration, distinct[start : start + _AT_ONCE])
        entries = map(_entry, items)
        found.update(
            entry.context_hash
            for entry in entries
            if segment_ref in (entry.included if of == "included" else entry.excluded)
        )
    return [hashed in found for hashed in hashes]


def _read_items(
    client: DynamoDBClient, configuration: DynamoDBStoreConfiguration, hashes: Sequence[bytes]
) -> Iterator[dict[str, Any]]:
    """The items there are.

    Raises:
        ClientError: as throttled, when the table has not told of all of them in several tries.
    """
    namespace = {"S": dynamodb_user_namespace(configuration.prefix)}
    keys = [{DYNAMODB_PARTITION_KEY: namespace, DYNAMODB_SORT_KEY: {"S": hashed.decode()}} for hashed in hashes]
    table = configuration.tableName
    asked: Any = {
        table: {
            "Keys": keys,
            "ConsistentRead": True,
            "ProjectionExpression": _PROJECTION,
            "ExpressionAttributeNames": _NAMES,
        }
    }
    for pause_s in (*_PAUSES_S, None):
        answer = client.batch_get_item(RequestItems=asked)
        yield from answer["Responses"].get(table, ())
        asked = answer.get("UnprocessedKeys")
        if not asked:
            return
        if pause_s is not None:
            time.sleep(pause_s)
    raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "BatchGetItem")


def _entry(item: dict[str, Any]) -> Scanned:
    name: str = item[DYNAMODB_SORT_KEY]["S"]
    included, excluded = (set(item.get(attribute, {}).get("SS", ())) for attribute in MEMBER_LISTS)
    return Scanned(name.encode(), included, excluded)
