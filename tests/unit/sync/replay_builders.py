"""Batches that die or are refused in an installation in one process, and what parses them for a replay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sync_builders import Installation

from worker.log.entry import compress
from worker.log.parsers import publish_parsers
from worker.log.rejected_batch import Refusal
from worker.manifest.request_parser import RequestParser
from worker.sync.drain import drain
from worker.sync.isolation import IsolatedParser


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedParser]:
    with IsolatedParser() as parser:
        yield parser


def publish(installation: Installation, parser: RequestParser) -> None:
    publish_parsers(installation.client, {"rudderstack": (parser.digest, parser.text)})


def apply(installation: Installation, cohort: str = "beta") -> None:
    drain(installation.wiring, installation.segment(cohort), installation.store_id)


def reject(installation: Installation, body: bytes, batch_id: str = "refused-1", reason: str = "members") -> str:
    """Keep a body as the receiver does that answers it 400; returns its position."""
    codec, data = compress(body)
    refusal = Refusal(
        batch_id=batch_id,
        integration_key="rudderstack",
        environment_id="",
        reason=reason,
        message="the add array is missing",
        pointer="/listData/plus",
        parser_digest="another",
        policy="reject",
        token_name="writer",
        length=len(body),
        codec=codec,
        data=data,
    )
    [position] = installation.wiring.rejected.keep([refusal], quota_bytes=10**6, not_after_ms=10**15)
    assert position is not None
    return position


def altered_parser(installation: Installation, pointer: str, other: str) -> RequestParser:
    """The bundled requestParser with one pointer changed."""
    return RequestParser.from_text(installation.manifest.parser.text.replace(f'"{pointer}"', f'"{other}"'))


def die(installation: Installation, *, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> None:
    """Put a batch into the log that no worker can read: under a requestParser that finds no cohort in it."""
    blind = altered_parser(installation, "/cohortId", "/nowhere")
    installation.keep(blind)
    installation.accept_body(installation.body(add=add, remove=remove), digest=blind.digest)
    apply(installation)
