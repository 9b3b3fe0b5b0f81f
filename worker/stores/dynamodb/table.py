"""Making the table that LaunchDarkly's SDKs read, for the person who sets a store up."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration
from worker.stores.dynamodb.check import faults_of
from worker.stores.dynamodb.client import open_client
from worker.stores.dynamodb.faults import unavailable
from worker.stores.layout import DYNAMODB_PARTITION_KEY, DYNAMODB_SORT_KEY

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# A table takes some ten seconds to be made; a person waits, and is told.
WAIT_S: Final = 120.0
_POLL_S: Final = 1.0
_CONNECT_TIMEOUT_S: Final = 3.0
_ANSWER_TIMEOUT_S: Final = 15.0


def create_table(
    configuration: DynamoDBStoreConfiguration,
    *,
    wait_s: float = WAIT_S,
    on_wait: Callable[[str], None] = lambda _: None,
) -> bool:
    """Make the table, paid for by request, and wait until it can be used.

    A table that is there is left as it is; then its keys are looked at, and it is waited for as well.

    Args:
        configuration: names the table, its region, and the role to make it in.
        wait_s: how long to wait for it, in seconds.
        on_wait: told the table's status about once a second while it is waited for.

    Returns:
        Whether it was made; False when it was there already, as it should be.

    Raises:
        Unavailable: it could not be made, or its keys are others; or it is not ready yet: then it is being made, and
            the next call goes on waiting.
    """
    where = f"{configuration.tableName} in {configuration.region}"
    try:
        client = open_client(configuration, _CONNECT_TIMEOUT_S, _ANSWER_TIMEOUT_S)
        try:
            made = _make(client, configuration.tableName)
            fault = _wait(client, configuration.tableName, time.monotonic() + wait_s, on_wait)
        finally:
            client.close()
    except (BotoCoreError, ClientError) as error:
        raise unavailable(error, where, writes=False) from error
    if fault is not None:
        raise Unavailable(f"DynamoDB table {where}: {fault}", dependency="store", fault="configuration")
    return made


def _make(client: DynamoDBClient, name: str) -> bool:
    try:
        client.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": DYNAMODB_PARTITION_KEY, "KeyType": "HASH"},
                {"AttributeName": DYNAMODB_SORT_KEY, "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": DYNAMODB_PARTITION_KEY, "AttributeType": "S"},
                {"AttributeName": DYNAMODB_SORT_KEY, "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
    except client.exceptions.ResourceInUseException:
        return False  # which also says that it is being made, or deleted
    return True


def _wait(client: DynamoDBClient, name: str, until: float, on_wait: Callable[[str], None]) -> str | None:
    """What is wrong with the table once it is in service, or at the end of the time."""
    while True:
        table: Any = None
        with suppress(client.exceptions.ResourceNotFoundException):  # not known everywhere yet, for a moment
            table = client.describe_table(TableName=name)["Table"]
        status = "CREATING" if table is None else str(table["TableStatus"])
        if status not in {"CREATING", "DELETING"}:
            faults = faults_of(table)
            return faults[0] if faults else None
        if status == "DELETING" or time.monotonic() >= until:
            advice = "it is being deleted; make it when it is gone" if status == "DELETING" else "it is not ready yet"
            return f"{advice}; try again in a minute"
        on_wait(status)
        time.sleep(_POLL_S)
