"""What is wrong with a DynamoDB store, for the person who set it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from worker.model import DynamoDBStoreConfiguration
from worker.stores.dynamodb import reads
from worker.stores.dynamodb.changes import Changes
from worker.stores.dynamodb.faults import reason_of
from worker.stores.dynamodb.metadata import DynamoDBMetadata
from worker.stores.dynamodb.units import ConsumedUnits
from worker.stores.layout import DYNAMODB_PARTITION_KEY, DYNAMODB_SORT_KEY, context_hashes

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# A table whose capacity or indexes are being changed is read and written meanwhile.
_IN_SERVICE: Final = {"ACTIVE", "UPDATING"}
_KEYS: Final = {(DYNAMODB_PARTITION_KEY, "HASH", "S"), (DYNAMODB_SORT_KEY, "RANGE", "S")}


def find_faults(client: DynamoDBClient, configuration: DynamoDBStoreConfiguration) -> list[str]:
    """What is wrong, a sentence each.

    Raises:
        BotoCoreError, ClientError: the table cannot be asked: it is missing, or the credentials are wrong.
    """
    try:
        table: Any = client.describe_table(TableName=configuration.tableName)["Table"]
    except ClientError as fault:
        # Permission to describe is for this check alone; what segsync itself needs shows below.
        if fault.response.get("Error", {}).get("Code") != "AccessDeniedException":
            raise
    else:
        if faults := faults_of(table):
            return faults
    return _refusals(client, configuration)


def faults_of(table: Any) -> list[str]:
    """What is wrong with a table as DescribeTable tells of it, a sentence each."""
    status = table["TableStatus"]
    if status not in _IN_SERVICE:
        return [f"it is {status}; wait until it is ACTIVE, or see its page in the AWS console"]
    types = {definition["AttributeName"]: definition["AttributeType"] for definition in table["AttributeDefinitions"]}
    keys = {(key["AttributeName"], key["KeyType"], types.get(key["AttributeName"])) for key in table["KeySchema"]}
    if keys != _KEYS:
        return ["SDKs look for the partition key namespace and the sort key key, both strings; make a table with those"]
    return []


def _refusals(client: DynamoDBClient, configuration: DynamoDBStoreConfiguration) -> list[str]:
    """Try every operation that segsync needs; nothing is written."""
    metadata = DynamoDBMetadata(client, configuration)
    nobody = context_hashes([""])
    changes = Changes(client, configuration, "", ConsumedUnits())
    tried: dict[str, Callable[[], object]] = {
        "GetItem": metadata.read_sentinel,
        "UpdateItem": metadata.try_to_write,
        "BatchGetItem": lambda: reads.read_memberships(client, configuration, "", nobody, "included"),
        "DeleteItem": changes.try_to_delete,
        "Query": lambda: next(reads.read_pages(client, configuration, items=1)),
    }
    if configuration.writeMode == "transact":
        tried["TransactWriteItems"] = changes.try_transaction
    operations: dict[str, list[str]] = {}
    for operation, run in tried.items():
        try:
            run()
        except (BotoCoreError, ClientError) as fault:
            operations.setdefault(reason_of(fault), []).append(operation)
    return [f"{', '.join(refused)}: {reason}" for reason, refused in operations.items()]
