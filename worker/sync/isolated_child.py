"""Entry: the process in which ``IsolatedParser`` has bodies parsed. It reads questions and writes answers, as frames.

A frame is its length in eight bytes, most significant first, and so many bytes of MessagePack. The process knows no
setting and no server; it ends when its input does, and with its parent in any case.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
import traceback
from pathlib import Path
from typing import BinaryIO

import msgspec

from worker.errors import InvalidBatch, Reason
from worker.manifest.decoder import decoder_from_text
from worker.model import MemberPolicy, Payload
from worker.processes import end_with_parent, return_freed_memory

LENGTH = struct.Struct("!Q")
_MOST_LIKELY_VICTIM = "1000"  # of the kernel's OOM killer; anybody may volunteer
_OUT_OF_MEMORY_EXIT = 1


class Question(msgspec.Struct, array_like=True):
    """What is to be parsed, and how."""

    parser_text: str
    policy: MemberPolicy
    body: bytes


class Ready(msgspec.Struct, array_like=True, tag=0):
    """Said once, before the first question is read."""


class Parsed(msgspec.Struct, array_like=True, tag=1):
    """What the body means."""

    payload: Payload


class Refused(msgspec.Struct, array_like=True, tag=2):
    """An InvalidBatch."""

    reason: Reason
    message: str
    pointer: str | None
    environment_id: str | None


class Unreadable(msgspec.Struct, array_like=True, tag=3):
    """The requestParser itself cannot be read by this version."""


class OutOfMemory(msgspec.Struct, array_like=True, tag=4):
    """The body needs more memory than this process may take; it ends after this answer."""


class Bug(msgspec.Struct, array_like=True, tag=5):
    """Another exception: its type and where it was raised. Not its message, which may quote the body."""

    what: str


Answer = Ready | Parsed | Refused | Unreadable | OutOfMemory | Bug

_questions = msgspec.msgpack.Decoder(Question)
_encoder = msgspec.msgpack.Encoder()


def main() -> None:
    """Answer questions until there are no more. Arguments: the parent's process id, and the most bytes of memory."""
    # A deploy's signals are for the worker: it lets this process finish the body in hand, and then go.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent, most_bytes = map(int, sys.argv[1:])
    end_with_parent(parent)
    _limit_memory(most_bytes)
    return_freed_memory()
    questions, answers = _claim_pipes()
    _write(answers, Ready())
    while (question := _read(questions)) is not None:
        answer = _answer(question)
        del question
        _write(answers, answer)
        if isinstance(answer, OutOfMemory):
            # Whoever has met the limit once is not to be relied on.
            sys.exit(_OUT_OF_MEMORY_EXIT)
        del answer


def _limit_memory(most_bytes: int) -> None:
    """Let what eats memory meet an end of its own before others meet theirs; as far as the system lets us."""
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - not everywhere

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold the members
    with contextlib.suppress(OSError):  # no /proc, or a read-only one: the kernel will have to choose by itself
        Path("/proc/self/oom_score_adj").write_text(_MOST_LIKELY_VICTIM, encoding="ascii")


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output for the frames: what prints must not get between them."""
    questions, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return questions, answers


def _answer(question: Question) -> Answer:
    try:
        decoder = decoder_from_text(question.parser_text)
    except ValueError:
        return Unreadable()
    try:
        return Parsed(decoder.decode(question.body, question.policy))
    except InvalidBatch as fault:
        return Refused(fault.reason, fault.message, fault.pointer, fault.environment_id)
    except MemoryError:
        return OutOfMemory()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this body's doing, and the parent's to hear of
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Bug(f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}")


def _read(pipe: BinaryIO) -> Question | None:
    prefix = _read_exactly(pipe, LENGTH.size)
    return None if prefix is None else _questions.decode(_read_exactly(pipe, *LENGTH.unpack(prefix)) or b"")


def _read_exactly(pipe: BinaryIO, size: int) -> bytearray | None:
    """So many bytes; None where the input ends."""
    frame = bytearray(size)
    view, filled = memoryview(frame), 0
    while filled < size:
        count = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return frame


def _write(pipe: BinaryIO, answer: Answer) -> None:
    frame = _encoder.encode(answer)
    for part in (LENGTH.pack(len(frame)), memoryview(frame)):
        written = 0
        while written < len(part):
            written += pipe.write(part[written:])


if __name__ == "__main__":
    main()
