"""Telling the state server which requestParser each integration has now: what a replay parses with."""

from __future__ import annotations

from collections.abc import Iterable

import redis

from worker.log.parsers import publish_parsers
from worker.manifest.catalog import CatalogWatch
from worker.manifest.manifest import Manifest


class CurrentParsers:
    """What of the catalog has changed since it was told. Noted by one thread, told by another."""

    def __init__(self, client: redis.Redis, manifests: CatalogWatch) -> None:
        self._client = client
        self._manifests = manifests
        self._untold = set(manifests.current)

    def changed(self, keys: Iterable[str]) -> None:
        """Note integrations whose manifests are others now, or gone."""
        self._untold.update(keys)

    def tell_all_again(self) -> None:
        """The state server may have lost what it was told."""
        self._untold.update(self._manifests.current)

    def tell(self) -> None:
        """Publish what has changed.

        Raises:
            Unavailable: the state server is away; the next call tells all of it.
        """
        # Taken out first: what changes while it is told must be told once more.
        keys, self._untold = self._untold, set()
        if not keys:
            return
        catalog = self._manifests.current
        found = {key: catalog.get(key) for key in keys}
        try:
            publish_parsers(
                self._client,
                {
                    key: (manifest.parser.digest, manifest.parser.text) if isinstance(manifest, Manifest) else None
                    for key, manifest in found.items()
                },
            )
        except BaseException:
            self._untold |= keys
            raise
