"""Stores of memberships, behind one seam: ``SegmentStore``. ``open_store`` picks one by its record."""

from __future__ import annotations

from worker.model import LaunchDarklyStoreConfiguration, RedisStoreConfiguration, StoreRecord
from worker.stores.redis import RedisStore
from worker.stores.segment_store import BeforeWindow, Scanned, SegmentStore, Sentinel, WriteSession

__all__ = ["BeforeWindow", "Scanned", "SegmentStore", "Sentinel", "WriteSession", "open_store"]


def open_store(record: StoreRecord) -> SegmentStore:
    """Make the store that a record describes. It connects when it is first used, so this cannot fail for I/O."""
    configuration = record.configuration
    if isinstance(configuration, RedisStoreConfiguration):
        return RedisStore(configuration)
    if isinstance(configuration, LaunchDarklyStoreConfiguration):
        # httpx2 costs 0.07 s to import.
        from worker.stores.launchdarkly import LaunchDarklyStore  # noqa: PLC0415

        return LaunchDarklyStore(configuration)
    # boto3 costs 0.3 s and 6 MB to import: only deployments with a DynamoDB store pay for it.
    from worker.stores.dynamodb import DynamoDBStore  # noqa: PLC0415

    return DynamoDBStore(configuration)
