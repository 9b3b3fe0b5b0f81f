"""All manifests of a service by integration key: the bundled ones, overlaid by a directory of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import worker
from worker.errors import Misconfigured
from worker.manifest.manifest import BrokenManifest, Manifest, read_manifest
from worker.manifest.request_parser import Fault

# Integration key -> its manifest, or what is wrong with it: broken ones answer 503, keys that are absent 404.
Catalog = Mapping[str, Manifest | BrokenManifest]


def bundled_directory() -> Path:
    """Where the manifests that ship with segsync are: inside the package when installed, beside it in a checkout.

    Raises:
        Misconfigured: neither is there.
    """
    package = Path(worker.__file__).parent
    for directory in (package / "manifests", package.parent / "manifests"):
        if directory.is_dir():
            return directory
    raise Misconfigured("the bundled manifests are missing: segsync is not installed completely")


def load_catalog(overlay: Path | None = None) -> Catalog:
    """Read every manifest: ``{key}.json`` or ``{key}/manifest.json``; the overlay's hides the bundled one of its key.

    A manifest that cannot be read or used is in the catalog as a ``BrokenManifest``; the others are not affected.

    Raises:
        Misconfigured: the overlay is no directory that can be listed.
    """
    return CatalogWatch(overlay).current


class _Source(NamedTuple):
    """What a manifest's file holds, or why it cannot be known; and whether the file is the overlay's."""

    content: bytes | Fault
    is_own: bool


class CatalogWatch:
    """The catalog, kept in step with the files.

    ``look`` reads the files' contents, not their dates: those of a file that is replaced by an older one, of a mounted
    ConfigMap, or of two writes in one tick of the clock tell nothing.

    Raises:
        Misconfigured: on construction; the overlay is no directory that can be listed.
    """

    def __init__(self, overlay: Path | None = None) -> None:
        self._overlay = overlay
        self._sources = _read_all(overlay)
        # What was seen at the last look, and waits to be seen again; None stands for a file that is gone.
        self._doubted: dict[str, _Source | None] = {}
        self.current: Catalog = {key: _manifest(key, source) for key, source in self._sources.items()}

    def look(self) -> list[str]:
        """Look at the files again; returns the keys whose manifest is another one, new or gone.

        What would take an endpoint away, or give it back to the bundled manifest, counts only once it was seen at two
        looks in a row: many editors write files in pieces, or move them away and back, and partners drop what is
        answered 404 or 400.

        Raises:
            Misconfigured: the overlay cannot be listed, or has no manifest left in it, as when a volume is not mounted;
                the catalog stays as it was.
        """
        doubted, self._doubted = self._doubted, {}
        seen = _read_all(self._overlay)
        if _has_own(self._sources) and not _has_own(seen):
            raise Misconfigured(f"manifests: none is left in {self._overlay}; if that is meant, restart")
        catalog = dict(self.current)
        changed = []
        for key in sorted({*self._sources, *seen}):
            old, new = self._sources.get(key), seen.get(key)
            if old == new:
                continue
            manifest = None if new is None else _manifest(key, new)
            uncovers = old is not None and new is not None and old.is_own and not new.is_own
            is_worse = uncovers or not isinstance(manifest, Manifest)
            if is_worse and (key not in doubted or doubted[key] != new):
                self._doubted[key] = new
                continue
            changed.append(key)
            if new is None or manifest is None:
                del self._sources[key], catalog[key]
            else:
                self._sources[key], catalog[key] = new, manifest
        self.current = catalog
        return changed


def _read_all(overlay: Path | None) -> dict[str, _Source]:
    found = {key: _Source(content, is_own=False) for key, content in _read_directory(bundled_directory())}
    if overlay is not None:
        found |= {key: _Source(content, is_own=True) for key, content in _read_directory(overlay)}
    return found


def _has_own(sources: Mapping[str, _Source]) -> bool:
    return any(source.is_own for source in sources.values())


def _read_directory(directory: Path) -> Iterator[tuple[str, bytes | Fault]]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise Misconfigured(f"manifests: cannot list {directory}: {error.strerror}") from None
    files: dict[str, list[Path]] = {}
    for key, file in _files(entries):
        files.setdefault(key, []).append(file)
    for key, found in files.items():
        twice = Fault("", f"is there twice: {key}.json and {key}/manifest.json")
        yield key, _read(found[0]) if len(found) == 1 else twice


def _files(entries: list[Path]) -> Iterator[tuple[str, Path]]:
    for entry in entries:
        # A volume's own lost+found can be entered by nobody, and holds nothing for us.
        if not entry.name.startswith(".") and entry.name != "lost+found":
            yield from _file_of(entry)


def _file_of(entry: Path) -> Iterator[tuple[str, Path]]:
    flat, nested = (entry.stem, entry), (entry.name, entry / "manifest.json")
    try:
        if entry.is_dir():
            if nested[1].exists():
                yield nested
        elif entry.suffix == ".json":
            yield flat
    except OSError:
        # It cannot be looked at: reading it will say why, and its endpoint answer 503 in place of 404.
        yield flat if entry.suffix == ".json" else nested


def _read(file: Path) -> bytes | Fault:
    try:
        return file.read_bytes()
    except OSError as error:
        return Fault("", f"cannot be read: {error.strerror}")


def _manifest(key: str, source: _Source) -> Manifest | BrokenManifest:
    if isinstance(source.content, Fault):
        return BrokenManifest(key, (source.content,))
    return read_manifest(key, source.content)
