"""How the ``segsync manifest`` commands find the manifests that they are about: by integration key, or by file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.manifest.manifest import BrokenManifest, Manifest

OneManifest = Annotated[
    str, typer.Argument(metavar="KEY|FILE", help="An integration key, or a manifest's file or directory.")
]
SomeManifests = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY|FILE", help="Integration keys, or manifests' files or directories. Default: every manifest."
    ),
]


def choose(wanted: str) -> Manifest | BrokenManifest:
    """The manifest named by an integration key (of SEGSYNC_MANIFESTS, else bundled), or by the path of a file.

    A file's integration key is its name without ``.json``; for ``{key}/manifest.json`` it is the directory's, which may
    stand for the file.

    Raises:
        Misconfigured: there is neither such an integration nor such a file, or the file cannot be read.
    """
    from worker.manifest.catalog import load_catalog
    from worker.manifest.manifest import read_manifest
    from worker.settings import load_settings

    path = Path(wanted)
    if os.sep not in wanted and path.suffix != ".json":
        catalog = load_catalog(load_settings().manifests)
        if wanted in catalog:
            return catalog[wanted]
        if not path.exists():
            known = ", ".join(sorted(catalog))
            raise Misconfigured(f"no integration {wanted!r}, and no such file; the integrations are {known}")
    if path.is_dir():
        path /= "manifest.json"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from None
    # Without symbolic links being followed: the name that was given is the name that counts.
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow them
    return read_manifest(path.parent.name if path.name == "manifest.json" else path.stem, content)
