"""The Redis store, in all its forms: one server, Redis Sentinel's primary, a cluster."""

from worker.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
