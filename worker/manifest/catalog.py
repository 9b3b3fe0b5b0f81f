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
    catalog = _load(bundled_directory())
    return catalog if overlay is None else {**catalog, **_load(overlay)}


def _load(directory: Path) -> dict[str, Manifest | BrokenManifest]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise Misconfigured(f"manifests: cannot list {directory}: {error.strerror}") from None
    catalog: dict[str, Manifest | BrokenManifest] = {}
    for key, file in _files(entries):
        twice = BrokenManifest(key, (Fault("", f"is there twice: {key}.json and {key}/manifest.json"),))
        catalog[key] = twice if key in catalog else _read(key, file)
    return catalog


def _files(entries: list[Path]) -> Iterator[tuple[str, Path]]:
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (entry / "manifest.json").exists():
                yield entry.name, entry / "manifest.json"
        elif entry.suffix == ".json":
            yield entry.stem, entry


def _read(key: str, file: Path) -> Manifest | BrokenManifest:
    try:
        return read_manifest(key, file.read_bytes())
    except OSError as error:
        return BrokenManifest(key, (Fault("", f"cannot be read: {error.strerror}"),))
