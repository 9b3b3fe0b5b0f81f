"""All manifests of a service by integration key: the bundled ones, overlaid by a directory of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

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


class CatalogWatch:
    """The catalog, kept in step with the files.

    ``look`` reads the files' contents, not their dates: those of a file that is replaced by an older one, of a mounted
    ConfigMap, or of two writes in one tick of the clock tell nothing.

    Raises:
        Misconfigured: on construction; the overlay is no directory that can be listed.
    """

    def __init__(self, overlay: Path | None = None) -> None:
        self._overlay = overlay
        self._contents = _read_all(overlay)
        self._doubted: dict[str, bytes | Fault | None] = {}
        self.current: Catalog = {key: _manifest(key, content) for key, content in self._contents.items()}

    def look(self) -> list[str]:
        """Look at the files again; returns the keys whose manifest is another one, new or gone.

        What would take an endpoint away (a file that is gone, or broken) counts only once it was seen at two looks in a
        row: many editors write files in pieces, or move them away and back, and partners drop what is answered 404.

        Raises:
            Misconfigured: the overlay cannot be listed; the catalog stays as it was.
        """
        seen = _read_all(self._overlay)
        catalog = dict(self.current)
        doubted, self._doubted = self._doubted, {}
        changed = []
        for key in sorted({*self._contents, *seen}):
            content = seen.get(key)
            if key in self._contents and content == self._contents[key]:
                continue
            manifest = None if content is None else _manifest(key, content)
            if not isinstance(manifest, Manifest) and doubted.get(key, _NOTHING) != content:
                self._doubted[key] = content
                continue
            changed.append(key)
            if content is None or manifest is None:
                del self._contents[key], catalog[key]
            else:
                self._contents[key], catalog[key] = content, manifest
        self.current = catalog
        return changed


_NOTHING = Fault("", "was not doubted")


def _read_all(overlay: Path | None) -> dict[str, bytes | Fault]:
    """What each manifest's file holds, or why it cannot be known."""
    found = _read_directory(bundled_directory())
    return found if overlay is None else {**found, **_read_directory(overlay)}


def _read_directory(directory: Path) -> dict[str, bytes | Fault]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise Misconfigured(f"manifests: cannot list {directory}: {error.strerror}") from None
    contents: dict[str, bytes | Fault] = {}
    for key, file in _files(entries):
        twice = Fault("", f"is there twice: {key}.json and {key}/manifest.json")
        contents[key] = twice if key in contents else _read(file)
    return contents


def _files(entries: list[Path]) -> Iterator[tuple[str, Path]]:
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (entry / "manifest.json").exists():
                yield entry.name, entry / "manifest.json"
        elif entry.suffix == ".json":
            yield entry.stem, entry


def _read(file: Path) -> bytes | Fault:
    try:
        return file.read_bytes()
    except OSError as error:
        return Fault("", f"cannot be read: {error.strerror}")


def _manifest(key: str, content: bytes | Fault) -> Manifest | BrokenManifest:
    return BrokenManifest(key, (content,)) if isinstance(content, Fault) else read_manifest(key, content)
