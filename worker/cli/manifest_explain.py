"""``segsync manifest explain``: what one payload would do, and what its sender would be answered."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.cli.console import printable
from worker.cli.manifest_choice import choose
from worker.cli.member_faults import sentence
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.manifest.manifest import BrokenManifest, Manifest
    from worker.receiver.explanation import Accepted, Answer, Explanation, Rejected, SegmentChange

# What a person is shown of a long list, and of a long answer; --json has all of it.
MOST_SHOWN = 10
MOST_CHARACTERS = 2000


def command(
    manifest: Annotated[str, typer.Argument(metavar="KEY|FILE", help="An integration key, or a manifest's file.")],
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD|-", help="A file with the body as sent; - is stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    policy: Annotated[
        Literal["reject", "skip"],
        typer.Option("--policy", help="What becomes of members that cannot be read: refuse all, or skip them."),
    ] = "reject",
) -> None:
    """Show what a payload would do, and what the partner would be answered; exit code 1 when it would be refused.

    No server is asked: the token is taken for good and the environment for known (default/production in answers).
    """
    import msgspec

    from worker.receiver.explanation import Accepted, explain
    from worker.settings import load_settings

    largest = load_settings().max_body_bytes
    chosen, body = choose(manifest), _read(payload, largest)
    explanation = explain(chosen, body, policy=policy, max_body_bytes=largest)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(explanation) + b"\n")
        sys.stdout.buffer.flush()
    else:
        for line in _lines(explanation, chosen, body):
            print(line)
    if not isinstance(explanation, Accepted):
        raise typer.Exit(1)


def _read(payload: str, largest: int) -> bytes:
    """The body, or as much of it as shows that it is too large."""
    try:
        if payload == "-":
            return sys.stdin.buffer.read(largest + 1)
        with open(payload, "rb") as file:  # noqa: PTH123 - may be /dev/stdin or a pipe as well
            return file.read(largest + 1)
    except OSError as error:
        raise Misconfigured(f"cannot read {payload}: {error.strerror}") from None


def _lines(explanation: Explanation, manifest: Manifest | BrokenManifest, body: bytes) -> Iterator[str]:
    from worker.receiver.explanation import Accepted

    if isinstance(explanation, Accepted):
        yield from _accepted(explanation)
    else:
        yield from _refused(explanation, manifest, body)
    yield ""
    yield _answer(explanation.response)


def _accepted(explanation: Accepted) -> Iterator[str]:
    yield f"Accepted. Environment {printable(explanation.environment_id)}, context kind {explanation.context_kind}."
    for segment in explanation.segments:
        yield ""
        yield from _segment(segment)
    listed = [(member.pointer, member.reason) for member in explanation.rejected]
    if listed:
        count = explanation.rejected_count or len(listed)
        yield ""
        yield f"Left out, because they cannot be read: {_members(count)}"
        yield from _unreadable(listed, count)


def _segment(segment: SegmentChange) -> Iterator[str]:
    yield f"Segment {printable(segment.segment_key)}"
    yield f"  cohort  {printable(segment.cohort_id)}"
    if segment.cohort_name is not None:
        yield f"  name    {printable(segment.cohort_name)}"
    if segment.cohort_url is not None:
        yield f"  url     {printable(segment.cohort_url)}"
    for label, ids in (("add", segment.add), ("remove", segment.remove)):
        yield f"  {label:7} {_members(len(ids))}"
        yield from (f"    {printable(member)}" for member in ids[:MOST_SHOWN])
        yield from _and_more(len(ids))


def _refused(explanation: Rejected, manifest: Manifest | BrokenManifest, body: bytes) -> Iterator[str]:
    from worker.manifest.manifest import Manifest
    from worker.model import MEMBER_REASONS
    from worker.receiver.explanation import unreadable_members

    error = explanation.error
    if not isinstance(manifest, Manifest):
        yield f"Refused: the manifest of {printable(manifest.key)} cannot be used."
        yield from (
            f"  {printable(fault.pointer or 'the file')} {printable(fault.message)}" for fault in manifest.faults
        )
        return
    yield f"Refused ({error.reason}): {printable(error.message)}."
    if error.reason == "too_large":
        yield "SEGSYNC_MAX_BODY_BYTES sets how much a receiver takes."
    if error.reason in MEMBER_REASONS and (found := unreadable_members(manifest, body)).count:
        yield ""
        yield f"In all, {_members(found.count)} cannot be read:"
        yield from _unreadable(found.listed, found.count)
        yield "With the policy `skip` the others would be taken: --policy skip shows what that would do."


def _unreadable(listed: Sequence[tuple[str, str]], count: int) -> Iterator[str]:
    for pointer, reason in listed[:MOST_SHOWN]:
        yield f"  {printable(sentence(pointer, reason))}"
    yield from _and_more(count, "  ")


def _and_more(count: int, indent: str = "    ") -> Iterator[str]:
    if count > MOST_SHOWN:
        yield f"{indent}and {count - MOST_SHOWN:,} more"


def _members(count: int) -> str:
    return f"{count:,} {'member' if count == 1 else 'members'}"


def _answer(answer: Answer) -> str:
    import msgspec

    text = msgspec.json.format(answer.body, indent=-1).decode()
    if text == "null":
        return f"Answer: {answer.status}, without a body"
    return f"Answer: {answer.status} {printable(text[:MOST_CHARACTERS])}{'…' if len(text) > MOST_CHARACTERS else ''}"
