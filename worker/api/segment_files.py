"""``/api/v2/segments/…/imports`` and ``…/exports``: a segment's members as a file of keys, in and out.

Source: https://launchdarkly.com/docs/api/segments/create-big-segment-import
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Path, Response, UploadFile
from pydantic import Field
from starlette.responses import StreamingResponse

from worker.api.admission import create_router
from worker.api.errors import documented, refused
from worker.api.segment_access import AboutSegment, SegmentAsked, segment_id
from worker.api.segment_form import path_of
from worker.api.segments import OF_A_SEGMENT
from worker.api.wire import Link, Links, Told, links
from worker.errors import Conflict
from worker.log.import_records import ImportRecord
from worker.log.uploads import FileGone
from worker.model import SegmentId
from worker.records.directory import Environment
from worker.sync.exports import EXPORT_TASK, ExportRecord, export_file, read_export, start_export
from worker.sync.imports import IMPORT_TASK, FileTooLarge, read_import, start_import

CSV = "text/csv"
_PORTION = 256 * 1024

router: APIRouter = create_router("Segments")

ImportId = Annotated[str, Path(alias="importID", description="The import's ID")]
ExportId = Annotated[str, Path(alias="exportID", description="The export's ID")]
_LOCATION = {"headers": {"Location": {"description": "Where to ask how it goes", "schema": {"type": "string"}}}}


class FileForm(Told):
    """A file of an import."""

    filename: str
    status: str


class ProgressForm(Told):
    """How far an import is; segsync's own."""

    lines: int = Field(ge=0, description="Lines of the file that have been read")
    keys: int = Field(ge=0, description="Keys found in them; once it is in progress, without doubles")
    stores: dict[str, float] = Field(description="Of each store that is on, which share it has written")
    message: str | None = Field(default=None, description="Why it was stopped")


class ImportForm(Told):
    """An import."""

    id: str
    segment_key: str
    creation_time: int = Field(description="Epoch milliseconds")
    mode: Literal["merge", "replace"]
    status: Literal["preparing", "in_progress", "complete", "stopped"]
    files: list[FileForm]
    links: Links = Field(alias="_links")
    progress: ProgressForm = Field(alias="_progress")


class InitiatorForm(Told):
    """Who asked for an export: a token's name."""

    name: str


class ExportForm(Told):
    """An export; once it is complete, ``_links.file`` is where its file is."""

    id: str
    segment_key: str
    creation_time: int = Field(description="Epoch milliseconds")
    status: Literal["in_progress", "complete", "failed"]
    size_bytes: int = Field(ge=0)
    size: str
    initiator: InitiatorForm
    links: Links = Field(alias="_links")
    members: int = Field(alias="_members", ge=0, description="How many keys it has so far")
    message: str | None = Field(default=None, alias="_message", description="Why it failed")


@router.post(
    f"{OF_A_SEGMENT}/imports",
    operation_id="createBigSegmentImport",
    status_code=204,
    response_class=Response,
    responses={**documented(400, 404, 409, 413), 204: {"description": "Accepted", **_LOCATION}},
)
def begin_import(
    asked: AboutSegment,
    mode: Annotated[Literal["merge", "replace"], Form(description="Add who is in the file, or also remove all others")],
    file: Annotated[UploadFile, File(description="CSV without a header row: the key in the first column")],
    *,
    wait_on_approvals: Annotated[
        str | None, Form(alias="waitOnApprovals", description="There are no approvals here: false, or left out")
    ] = None,
) -> Response:
    """Take a file of context keys in; how it goes is told at the answer's Location."""
    environment, listed = asked.changed("updateIncluded")
    if wait_on_approvals is not None and wait_on_approvals.lower() not in {"false", ""}:
        raise refused(400, "waitOnApprovals: there are no approvals here, so nobody would ever give one")
    try:
        record = start_import(
            asked.service.wiring,
            segment_id(environment, listed),
            _portions(file),
            mode=mode,
            file_name=(file.filename or "file")[:256],
            by=asked.caller.name,
        )
    except FileTooLarge as error:
        raise refused(413, f"The body is too large: {error}") from None
    asked.service.wake_ups.hint(IMPORT_TASK, record.import_id)
    return _located(204, path_of(environment, asked.key, "imports", record.import_id))


@router.get(
    f"{OF_A_SEGMENT}/imports/{{importID}}",
    operation_id="getBigSegmentImport",
    response_model_exclude_none=True,
    responses=documented(400, 404),
)
def show_import(asked: AboutSegment, import_id: ImportId) -> ImportForm:
    """How an import goes."""
    environment = asked.of.viewed()
    found = read_import(asked.service.wiring, import_id)
    if found is None or not _is_of(found.segment, environment, asked.key):
        raise refused(404, "Import not found")
    return _import_form(environment, found)


@router.post(
    f"{OF_A_SEGMENT}/exports",
    operation_id="createBigSegmentExport",
    response_class=Response,
    responses={**documented(400, 404), 200: {"description": "Accepted", **_LOCATION}},
)
def begin_export(asked: AboutSegment) -> Response:
    """Write a file of the context keys that a segment includes; how it goes is told at the answer's Location.

    While another one of the segment is being written: 429.
    """
    environment, listed = asked.viewed()
    try:
        record = start_export(asked.service.wiring, segment_id(environment, listed), by=asked.caller.name)
    except Conflict as error:  # LaunchDarkly documents no 409 here
        raise refused(429, f"Too many requests: {error}") from None
    asked.service.wake_ups.hint(EXPORT_TASK, record.export_id)
    return _located(200, path_of(environment, asked.key, "exports", record.export_id))


@router.get(
    f"{OF_A_SEGMENT}/exports/{{exportID}}",
    operation_id="getBigSegmentExport",
    response_model_exclude_none=True,
    responses=documented(400, 404),
)
def show_export(asked: AboutSegment, export_id: ExportId) -> ExportForm:
    """How an export goes."""
    environment = asked.of.viewed()
    return _export_form(environment, _find_export(asked, environment, export_id))


@router.get(
    f"{OF_A_SEGMENT}/exports/{{exportID}}/file",
    operation_id="getBigSegmentExportFile",
    response_class=Response,
    responses={
        **documented(400, 404, 409),
        200: {"description": "One key in each line", "content": {CSV: {"schema": {"type": "string"}}}},
    },
)
def download(asked: AboutSegment, export_id: ExportId) -> Response:
    """The file of an export that is complete, as an import takes it."""
    found = _find_export(asked, asked.of.viewed(), export_id)
    if found.status != "complete":
        raise refused(409, "Conflict. The export is not complete.")
    pieces = export_file(asked.service.wiring, found)
    try:
        first = next(pieces, b"")  # what is gone is answered 404, and not a file that breaks off
    except FileGone:
        raise refused(404, "Export not found: its time is over") from None
    name = f"{found.segment.segment_key}.csv"  # a key: letters, digits, dots, dashes and underscores

    def content() -> Iterator[bytes]:
        yield first
        yield from pieces

    return StreamingResponse(
        content(),
        media_type=CSV,
        headers={"Content-Length": str(found.size_bytes), "Content-Disposition": f'attachment; filename="{name}"'},
    )


def _located(status: int, path: str) -> Response:
    return Response(status_code=status, headers={"Location": path})


def _portions(file: UploadFile) -> Iterator[bytes]:
    while portion := file.file.read(_PORTION):
        yield portion


def _is_of(segment: SegmentId, environment: Environment, segment_key: str) -> bool:
    return (segment.environment_id, segment.segment_key) == (environment.environment_id, segment_key)


def _find_export(asked: SegmentAsked, environment: Environment, export_id: str) -> ExportRecord:
    found = read_export(asked.service.wiring, export_id)
    if found is None or not _is_of(found.segment, environment, asked.key):
        raise refused(404, "Export not found")
    return found


def _import_form(environment: Environment, found: ImportRecord) -> ImportForm:
    segment_key = found.segment.segment_key
    return ImportForm(
        id=found.import_id,
        segment_key=segment_key,
        creation_time=found.created_ms,
        mode=found.mode,
        status=found.status,
        files=[FileForm(filename=found.file_name, status=found.status)],
        links=links(
            self=path_of(environment, segment_key, "imports", found.import_id),
            parent=path_of(environment, segment_key),
        ),
        progress=ProgressForm(lines=found.lines, keys=found.keys, stores=found.stores, message=found.message or None),
    )


def _export_form(environment: Environment, found: ExportRecord) -> ExportForm:
    segment_key = found.segment.segment_key
    here = path_of(environment, segment_key, "exports", found.export_id)
    told = links(self=here, parent=path_of(environment, segment_key))
    if found.status == "complete":
        told["file"] = Link(href=f"{here}/file", type=CSV)
    return ExportForm(
        id=found.export_id,
        segment_key=segment_key,
        creation_time=found.created_ms,
        status=found.status,
        size_bytes=found.size_bytes,
        size=_size(found.size_bytes),
        initiator=InitiatorForm(name=found.by),
        links=told,
        members=found.members,
        message=found.message or None,
    )


def _size(size_bytes: int) -> str:
    """As LaunchDarkly writes it: 18 B, 1.2 kB, 40 MB."""
    size, units = float(size_bytes), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:  # noqa: PLR2004 - kilo
        size /= 1000
        units.pop(0)
    return f"{size:.3g} {units[0]}"
