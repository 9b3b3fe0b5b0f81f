"""``segsync export-flags``: our segments as flag data, for SDKs that read files: local ones, and those of tests."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.connection import DataDir, EnvironmentName, find_environment, open_wiring
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.cli.flag_data import SegmentReference
    from worker.wiring import Wiring


def command(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write, in one step, so that an SDK that follows it reads no half."),
    ] = None,
    with_flags: Annotated[
        bool,
        typer.Option("--with-flags", help="Also a flag for each segment, of its key, that is true for its members."),
    ] = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Write the environment's segments as LaunchDarkly's SDKs take them from a file, with key, generation and kind.

    Give it to an SDK beside a file of your own with flags that target these segments: the SDK then looks for members in
    the store. A segment that is deleted and comes back has another generation: write the file anew.
    """
    import json

    from worker.cli.flag_data import flag_data, segment_data

    with open_wiring(data_dir) as wiring:
        found = _segments(wiring, find_environment(wiring, environment).environment_id)
    document: dict[str, Any] = {"flags": flag_data(found) if with_flags else {}, "segments": segment_data(found)}
    text = json.dumps(document, indent=2) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        _replace(out, text)
        print(f"{out}: {len(document['segments']):,} segments, {len(document['flags']):,} flags")


def _segments(wiring: Wiring, environment_id: str) -> list[SegmentReference]:
    from worker.cli.flag_data import SegmentReference
    from worker.log.segments import read_segments

    keys = sorted(wiring.segment_keys.registered(environment_id))
    return [
        SegmentReference(segment.segment_key, segment.generation, segment.context_kind)
        for segment in read_segments(wiring.client, environment_id, keys)
    ]


def _replace(path: Path, text: str) -> None:
    """Write the file beside its place and move it there.

    Raises:
        Misconfigured: it cannot be written; what was there stays.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Misconfigured(f"cannot write {path}: {error.strerror}") from None
