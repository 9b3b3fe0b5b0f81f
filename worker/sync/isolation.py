"""Parsing in a process of its own: a body that crashes, hangs or eats memory takes that process and nothing else."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
import structlog

from worker.errors import InvalidBatch, SegsyncError, Unavailable
from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy, Payload
from worker.processes import stop_requested
from worker.sync.isolated_child import LENGTH, Answer, Bug, OutOfMemory, Parsed, Question, Ready, Refused, Unreadable

# What takes longer than both together will not end: the slowest bodies take a third of a second a MiB, and more where
# others want the processor, too.
PATIENCE_SECONDS = 30.0
PATIENCE_SECONDS_PER_MIB = 1.0
# Several times what the members of the largest body take.
MOST_BYTES = 4 * 1024**3
# Whoever kills a whole worker with -9 kills the child a moment before or after it: by then the worker is gone, too.
SETTLE_SECONDS = 2.0
# How long a body in hand may still take once the worker is told to stop: most of the 10 s that it has are others'.
STOP_SECONDS = 3.0

_SLICE_SECONDS = 0.25
# More than this between two looks was no work of the child's: the worker itself was stopped, or its machine asleep.
_MOST_OF_A_SLICE_SECONDS = 1.0
_CHUNK_BYTES = 1024 * 1024
# All that the child inherits: where programs and libraries are, and how text is written. No password is among it,
# under whatever name a deployment keeps it.
_INHERITED = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_")
_INHERITED_WHOLE = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "GLIBC_TUNABLES", "SYSTEMROOT"})

_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(Answer)

_log = structlog.get_logger(__name__)


class ParserCrashed(SegsyncError):
    """Raised when a body brought its parser down: the child died of it, did not end, or ran out of memory.

    Attributes:
        how: what happened, in a few words, without anything of the body.
    """

    def __init__(self, how: str) -> None:
        super().__init__(f"the parser {how}")
        self.how = how


class ParserInterrupted(SegsyncError):
    """Raised when a body could not be parsed for reasons that are not its own; it counts for nothing."""


class IsolatedParser:
    """Parses bodies in a child process, started when first needed, used for many bodies, replaced when it dies.

    For one thread, which must live as long as this: the kernel ends the child with it. Close it after use.
    """

    def __init__(
        self,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        most_bytes: int = MOST_BYTES,
        stopping: Callable[[], bool] = stop_requested,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._settle_seconds = settle_seconds
        self._most_bytes = most_bytes
        self._stopping = stopping
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def parse(
        self,
        parser_text: str,
        body: bytes,
        policy: MemberPolicy = DEFAULT_MEMBER_POLICY,
        *,
        meanwhile: Callable[[], object] | None = None,
    ) -> Payload:
        """Parse one body; see ``Decoder.decode``.

        Args:
            parser_text: the requestParser's canonical text.
            body: the bytes.
            policy: what becomes of members that cannot be read.
            meanwhile: called some four times a second while the child works, to keep a lease, say. What it raises
                ends the child, and goes on to the caller.

        Raises:
            InvalidBatch: as the decoder raises it.
            ParserCrashed: the body brought the parser down.
            ParserInterrupted: the child was ended by somebody else, or could not be started, or the worker is
                stopping; nothing is known of the body.
            Unavailable: this version cannot read the requestParser.
        """
        try:
            child = self._ready_child(meanwhile)
            frame = _encoder.encode(Question(parser_text, policy, body))
            answer = self._exchange(child, frame, meanwhile)
        except BaseException:
            self.close()
            raise
        if isinstance(answer, Parsed):
            return answer.payload
        if isinstance(answer, Refused):
            raise InvalidBatch(
                answer.reason, answer.message, pointer=answer.pointer, environment_id=answer.environment_id
            )
        if isinstance(answer, Unreadable):
            raise Unavailable("this version cannot read the batch's requestParser", dependency="state")
        if isinstance(answer, Bug):
            raise ParserCrashed(f"raised {answer.what}")
        self.close()
        assert isinstance(answer, OutOfMemory)
        raise ParserCrashed("ran out of memory")

    def close(self) -> None:
        """End the child, whatever it is at; idempotent. The next ``parse`` starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
            child.wait()

    def _ready_child(self, meanwhile: Callable[[], object] | None) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            _log.warning("parser.ended", how=_fate(self._child.returncode))  # between two bodies: of neither's doing
            self.close()
        if self._child is None:
            try:
                self._child = _start(self._most_bytes)
                answer = self._exchange(self._child, b"", meanwhile)
            except (OSError, ParserCrashed) as error:
                raise ParserInterrupted(f"the isolated parser cannot be started: {error}") from error
            assert isinstance(answer, Ready)
        return self._child

    def _exchange(self, child: subprocess.Popen[bytes], frame: bytes, meanwhile: Callable[[], object] | None) -> Answer:
        """Send a frame, unless it is empty, and return the answer."""
        patience = self._patience_seconds + PATIENCE_SECONDS_PER_MIB * len(frame) / 2**20
        watch = _Watch(patience, self._stopping, meanwhile)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            if frame:
                _send(child.stdin.fileno(), LENGTH.pack(len(frame)), watch)
                _send(child.stdin.fileno(), frame, watch)
            [length] = LENGTH.unpack(_receive(child.stdout.fileno(), LENGTH.size, watch))
            answer: Answer = _answers.decode(_receive(child.stdout.fileno(), length, watch))
        except (EOFError, BrokenPipeError):
            raise self._death(child, meanwhile) from None
        return answer

    def _death(
        self, child: subprocess.Popen[bytes], meanwhile: Callable[[], object] | None
    ) -> ParserCrashed | ParserInterrupted:
        """What the death of the child means. Signals of people and orchestrators are none of it: it ignores them."""
        try:
            code = child.wait(self._settle_seconds)
        except subprocess.TimeoutExpired:  # it has closed its pipes and lives
            return ParserCrashed("hung up")
        if code == -signal.SIGKILL:
            # Of the OOM killer, or of whoever kills the worker as well: in that case nobody lives to say it.
            until = time.monotonic() + self._settle_seconds
            while time.monotonic() < until:
                if meanwhile is not None:
                    meanwhile()
                time.sleep(min(_SLICE_SECONDS, self._settle_seconds))
        if self._stopping():
            return ParserInterrupted(f"the isolated parser {_fate(code)}")
        return ParserCrashed(_fate(code))


class _Watch:
    """Waits for a pipe, as long as there is reason to."""

    def __init__(
        self, patience_seconds: float, stopping: Callable[[], bool], meanwhile: Callable[[], object] | None
    ) -> None:
        self._patience_seconds = patience_seconds
        self._stopping = stopping
        self._meanwhile = meanwhile
        self._waited_seconds = self._stopping_seconds = 0.0

    def wait(self, fd: int, event: int) -> None:
        """Return when the pipe is ready, or broken.

        Raises:
            ParserCrashed: the child has had all the time that it gets.
            ParserInterrupted: so it has since the worker was told to stop.
        """
        poll = select.poll()
        poll.register(fd, event)
        while True:
            before = time.monotonic()
            ready = poll.poll(_SLICE_SECONDS * 1000)
            # By slices, not by a deadline: a worker that was stopped for a minute must not find its child guilty.
            waited = min(time.monotonic() - before, _MOST_OF_A_SLICE_SECONDS)
            self._waited_seconds += waited
            if ready:
                return
            if self._stopping():
                self._stopping_seconds += waited
                if self._stopping_seconds >= STOP_SECONDS:
                    raise ParserInterrupted("the worker is told to stop, and the isolated parser takes too long")
            if self._waited_seconds >= self._patience_seconds:
                raise ParserCrashed(f"took longer than {self._patience_seconds:.3g} s")
            if self._meanwhile is not None:
                self._meanwhile()


def _start(most_bytes: int) -> subprocess.Popen[bytes]:
    environment = {
        name: value for name, value in os.environ.items() if name.startswith(_INHERITED) or name in _INHERITED_WHOLE
    }
    # It finds the same code as this process, wherever that was found.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    child = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "worker.sync.isolated_child", str(os.getpid()), str(most_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        bufsize=0,
        start_new_session=True,  # a signal to the worker's group is for the worker
    )
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
    return child


def _send(fd: int, data: bytes, watch: _Watch) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            watch.wait(fd, select.POLLOUT)


def _receive(fd: int, size: int, watch: _Watch) -> bytearray:
    received = bytearray()
    while len(received) < size:
        try:
            chunk = os.read(fd, min(_CHUNK_BYTES, size - len(received)))
        except BlockingIOError:
            watch.wait(fd, select.POLLIN)
            continue
        if not chunk:
            raise EOFError
        received += chunk
    return received


def _fate(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was killed by signal {-code}"
