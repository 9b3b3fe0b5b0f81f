"""``segsync manifest explain``: what one payload would do, and what its sender would be answered."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.cli.console import AsJson, counted, print_json, printable, shortened
from worker.cli.manifest_choice import OneManifest, choose
from worker.cli.member_faults import sentence
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.manifest.manifest import BrokenManifest, Manifest
    from worker.receiver.explanation import Accepted, Answer, Explanation, Rejected, SegmentChange

# What a person is shown of a long list, of a long answer, and of an action; --json has all of the former two.
MOST_SHOWN = 10
LONGEST_ANSWER = 2000
LONGEST_ACTION = 100

# How compressed bodies begin, and what takes them apart.
_PACKED = {b"\x1f\x8b": ("gzip", "gzip -dc"), b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc")}


def command(
    manifest: OneManifest,
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD|-", help="A file with the body as sent; - is stdin.")],
    as_json: AsJson = False,
    policy: Annotated[
        Literal["reject", "skip"],
        typer.Option("--policy", help="What becomes of members that cannot be read: refuse all, or skip them."),
    ] = "reject",
) -> None:
    """Show what a payload would do, and what the partner would be answered; exit code 1 when it would be refused.

    No server is asked: the token counts as valid, the environment as one that there is (default/production in answers).
    """
    from worker.receiver.explanation import Accepted, explain
    from worker.settings import load_settings

    largest = load_settings().max_body_bytes
    chosen, body = choose(manifest), _read(payload, largest)
    explanation = explain(chosen, body, policy=policy, max_body_bytes=largest)
    if as_json:
        print_json(explanation)
    else:
        for line in _lines(explanation, chosen, body):
            print(line)
    if not isinstance(explanation, Accepted):
        raise typer.Exit(1)


def _read(payload: str, largest: int) -> bytes:
    """The body, or as much of it as shows that it is too large."""
    try:
        if payload == "-":
            if sys.stdin is None:  # it was closed before we began
                raise Misconfigured("cannot read -: standard input is closed; name a file, or pipe the body in")
            return sys.stdin.buffer.read(largest + 1)
        with open(payload, "rb") as file:  # noqa: PTH123 - may be /dev/stdin or a pipe as well
            return file.read(largest + 1)
    except OSError as error:
        raise Misconfigured(f"cannot read {payload}: {error.strerror}") from None


def _lines(explanation: Explanation, manifest: Manifest | BrokenManifest, body: bytes) -> Iterator[str]:
    from worker.receiver.explanation import Accepted

    if isinstance(explanation, Accepted):
        yield from _accepted(explanation, manifest, body)
    else:
        yield from _refused(explanation, manifest, body)
    yield ""
    yield from _answer(explanation.response)


def _accepted(explanation: Accepted, manifest: Manifest | BrokenManifest, body: bytes) -> Iterator[str]:
    yield f"Accepted. Environment {printable(explanation.environment_id)}, context kind {explanation.context_kind}."
    yield from _action(manifest, body)
    for segment in explanation.segments:
        yield ""
        yield from _segment(segment)
    listed = [(member.pointer, member.reason) for member in explanation.rejected]
    if listed:
        count = explanation.rejected_count or len(listed)
        yield ""
        yield f"Left out, because they cannot be read: {counted(count, 'member')}"
        yield from _unreadable(listed, count)


def _action(manifest: Manifest | BrokenManifest, body: bytes) -> Iterator[str]:
    """What the payload's action was taken for, where that decides of all members."""
    from worker.manifest.manifest import Manifest

    assert isinstance(manifest, Manifest), "a broken manifest accepts nothing"
    inclusion, action = manifest.parser.array_inclusion, manifest.decoder.action(body)
    if inclusion is not None and action is not None:
        matches, fate = ("matches", "added") if action.matches else ("does not match", "removed")
        text, matcher = shortened(action.text, LONGEST_ACTION), printable(inclusion.matcher)
        yield f'Action "{text}" {matches} {matcher}: all members are {fate}.'


def _segment(segment: SegmentChange) -> Iterator[str]:
    yield f"Segment {printable(segment.segment_key)}"
    yield f"  cohort  {printable(segment.cohort_id)}"
    if segment.cohort_name is not None:
        yield f"  name    {printable(segment.cohort_name)}"
    if segment.cohort_url is not None:
        yield f"  url     {printable(segment.cohort_url)}"
    for label, ids in (("add", segment.add), ("remove", segment.remove)):
        yield f"  {label:7} {counted(len(ids), 'member')}"
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
        yield "`segsync manifest lint` says what to write instead."
        return
    yield f"Refused ({error.reason}): {printable(error.message)}."
    if error.reason == "too_large":
        yield "SEGSYNC_MAX_BODY_BYTES sets how much a receiver takes."
    if error.reason == "malformed":
        yield from _packed(body)
    if error.reason in MEMBER_REASONS:
        found = unreadable_members(manifest, body)
        if found.count > 1:
            yield ""
            # The first one is told already.
            yield f"{counted(found.count - 1, 'further member')} cannot be read:"
            yield from _unreadable(found.listed[1:], found.count - 1)
        if found.count:
            yield "With the policy `skip` the others would be taken: --policy skip shows what that would do."


def _packed(body: bytes) -> Iterator[str]:
    """Where partners compress, a header says so; a file has none."""
    for beginning, (name, command) in _PACKED.items():
        if body.startswith(beginning):
            yield f"It begins like {name}; give it unpacked: {command} FILE | segsync manifest explain KEY -"


def _unreadable(listed: Sequence[tuple[str, str]], count: int) -> Iterator[str]:
    for pointer, reason in listed[:MOST_SHOWN]:
        yield f"  {printable(sentence(pointer, reason))}"
    yield from _and_more(count, "  ")


def _and_more(count: int, indent: str = "    ") -> Iterator[str]:
    if count > MOST_SHOWN:
        yield f"{indent}and {count - MOST_SHOWN:,} more"


def _answer(answer: Answer) -> Iterator[str]:
    import msgspec

    text = msgspec.json.format(answer.body, indent=-1).decode()
    yield f"Answer: {answer.status}{', without a body' if text == 'null' else ' ' + shortened(text, LONGEST_ANSWER)}"
    if isinstance(answer.problem, str):
        yield f"  its jsonResponseBody was left out: {printable(answer.problem)}"
