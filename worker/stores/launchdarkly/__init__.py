"""LaunchDarkly itself as a store."""

from worker.stores.launchdarkly.store import LaunchDarklyStore

__all__ = ["LaunchDarklyStore"]
