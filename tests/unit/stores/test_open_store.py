from __future__ import annotations

import subprocess
import sys

from pydantic import SecretStr

from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration, StoreConfiguration, StoreRecord
from worker.stores import open_store
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.redis import RedisStore


def record(configuration: StoreConfiguration) -> StoreRecord:
    return StoreRecord(store_id="store-1", environment_id="env-1", name="ours", configuration=configuration)


def test_a_record_opens_the_store_of_its_kind_without_connecting() -> None:
    assert isinstance(open_store(record(RedisStoreConfiguration(host="nowhere.invalid"))), RedisStore)
    dynamodb = DynamoDBStoreConfiguration(tableName="table", region="eu-west-1")
    assert isinstance(open_store(record(dynamodb)), DynamoDBStore)


def test_a_store_shows_no_secret() -> None:
    store = open_store(record(RedisStoreConfiguration(host="store.example", password=SecretStr("open-sesame"))))
    assert repr(store) == "RedisStore(store.example:6379, prefix='launchdarkly')"


def test_tls_is_a_matter_of_configuration() -> None:
    store = open_store(record(RedisStoreConfiguration(host="store.example", tlsEnabled=True)))
    assert isinstance(store, RedisStore)
    assert store._pools._connection_class.__name__ == "TlsConnection"
    assert store._pools._options["ssl_check_hostname"]


def test_who_has_no_dynamodb_store_does_not_load_boto3() -> None:
    loaded = "import sys, worker.stores; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
