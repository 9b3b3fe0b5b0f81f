"""The DynamoDB store."""

from worker.stores.dynamodb.store import DynamoDBStore

__all__ = ["DynamoDBStore"]
