"""How a DynamoDB client is made: no retries, bounded waiting, and another account's role when there is one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import NoCredentialsError

from worker.model import DynamoDBStoreConfiguration

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# Requests in flight per session. A request is mostly our own CPU, a millisecond of it: sixteen keep a core busy while a
# table takes up to some fifteen milliseconds to answer; with more the threads only wait for each other.
IN_FLIGHT: Final = 16


def open_client(
    configuration: DynamoDBStoreConfiguration, connect_timeout_s: float, answer_timeout_s: float
) -> DynamoDBClient:
    """Make a client that never retries: a request that timed out may still land, and a second one hides that."""
    config = Config(
        connect_timeout=connect_timeout_s,
        read_timeout=answer_timeout_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=4 * IN_FLIGHT,
        # Our requests are few and fixed; to look over each of them before it is sent is 7 % of its cost.
        parameter_validation=False,
        tcp_keepalive=True,
    )
    session = botocore.session.get_session()
    if configuration.roleArn:
        session.register_component("credential_provider", CredentialResolver([_Role(configuration, config)]))
    client: DynamoDBClient = boto3.Session(botocore_session=session).client(
        "dynamodb", region_name=configuration.region, endpoint_url=configuration.endpoint, config=config
    )
    return client


class _Role(CredentialProvider):
    """Credentials of an assumed role; botocore asks STS for new ones before they expire."""

    METHOD = "assume-role"

    def __init__(self, configuration: DynamoDBStoreConfiguration, config: Config) -> None:
        self._base = botocore.session.get_session()
        self._role_arn = configuration.roleArn
        self._arguments = {"RoleSessionName": "segsync"}
        if configuration.externalId:
            self._arguments["ExternalId"] = configuration.externalId
        self._create_client = partial(self._base.create_client, region_name=configuration.region, config=config)

    def load(self) -> DeferredRefreshableCredentials:
        source = self._base.get_credentials()
        if source is None:
            raise NoCredentialsError  # botocore would fall over the None later
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=self._create_client,
            source_credentials=source,
            role_arn=self._role_arn,
            extra_args=self._arguments,
        )
        return DeferredRefreshableCredentials(method=self.METHOD, refresh_using=fetcher.fetch_credentials)
