"""What a dead, stopped or timed-out drain has sent must not run after what its successor wrote.

A server that hangs takes nothing in, but its kernel does: bytes of a writer wait there, whatever becomes of the writer.
When it goes on, it reads a piece from each connection in turn, so a writer's later bytes run after a successor's first.
Each trial freezes a server, lets a predecessor write (in a process of its own, through ``RedisStore.session``), ends
the predecessor, lets a successor fence it off by the connection that its open mark names, and write; then the server
goes on, and in the end it shows who is in.

Of the same trials without the fence, 104 of 108 ended with people in the segment whom the successor had removed, with
the server's word for it. Where it fenced, none did.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from late_writer import REF, members_of
from servers import TcpProxy, ValkeyServer, wait_until

from worker.model import RedisStoreConfiguration, SegmentPatch
from worker.stores.layout import context_hashes
from worker.stores.redis import RedisStore
from worker.stores.redis.bulk import WINDOW, pack_commands
from worker.stores.redis.session import WINDOWS_IN_FLIGHT, RedisWriteSession

# From less than what a server reads at once to more than a writer has under way at a time.
SIZES = (20_000, 24_000, 28_000, 31_000, 33_000, 40_000, 60_000, 200_000, 1_000_000)
MEMBER_BYTES = len(pack_commands(b"SADD", "launchdarkly", context_hashes(["user-1"]), REF))
ENDS = ("killed", "stopped", "timed out")


class Predecessor:
    """The other process."""

    def __init__(self, port: int, count: int, answer_timeout_s: float) -> None:
        arguments = [str(port), str(answer_timeout_s), str(count)]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("late_writer.py")), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        self._windows = min(-(-count // WINDOW), WINDOWS_IN_FLIGHT)
        self.connection = self.hear(30)

    def go(self) -> None:
        """Let it write, until the kernel has all of it that is under way at a time, or takes no more."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        for _ in range(self._windows):
            if self.hear(1) != "sent":
                return

    def hear(self, seconds: float) -> str:
        """Its next line, or nothing if it says nothing for so long."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout.fileno()], [], [], seconds)
        return self._read_line() if readable else ""

    def hear_the_end(self) -> str:
        """What became of its write."""
        while (line := self.hear(30)) == "sent":
            pass
        return line

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        with self._process:
            self._process.kill()

    def _read_line(self) -> str:
        """Byte by byte: what a buffer had taken in, ``select`` would not show."""
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self._process.stdout.fileno(), 1)):
            line += byte
        return line.decode().strip()


class Trial:
    """A server, a predecessor that writes to it while it hangs, and a successor."""

    def __init__(self, server: ValkeyServer, how_it_ends: str, sent_bytes: int, things: ExitStack) -> None:
        self._server = server
        self._ends = how_it_ends
        self._things = things
        self.members = members_of(sent_bytes // MEMBER_BYTES // 10 * 10)
        self.leaving = self.members[9::10]
        self._witness = server.client(decode_responses=True)
        things.callback(self._witness.close)
        self._witness.flushall()
        proxy = things.enter_context(TcpProxy((server.host, server.port)))
        self._proxy = proxy
        self._store = RedisStore(RedisStoreConfiguration(host=server.host, port=proxy.port))
        things.callback(self._store.close)
        self._threads = things.enter_context(ThreadPoolExecutor(1))
        with self._store.session(), self._store.session():
            pass  # connections to write and to fence by: a server that hangs lets nobody in
        answer_timeout_s = 0.3 if how_it_ends == "timed out" else 30
        self.predecessor = Predecessor(server.port, len(self.members), answer_timeout_s)
        things.callback(self.predecessor.end)

    def run(self, *, fences: bool) -> None:
        """Everything, up to where both have ended and nothing is on its way any more."""
        with self._store.session() as session:
            self._server.freeze()
            self._things.callback(self._server.thaw)
            self.predecessor.go()
            self._end_predecessor()
            if fences:
                fenced = self._while_frozen(lambda: self._store.fence(self.predecessor.connection))
                self._server.thaw()
                assert fenced.result(timeout=10)
                removed = self._threads.submit(self._write, session, [], self.leaving)
            else:
                removed = self._while_frozen(lambda: self._write(session, [], self.leaving))
                self._server.thaw()
            removed.result(timeout=10)
            self._write(session, [member for member in self.members if member not in set(self.leaving)], [])
        self._await_last_byte(fences=fences)

    def wrongly_in(self) -> set[str]:
        """Whom the successor removed, and who are in nevertheless."""
        return self._included() & set(self.leaving)

    def wrongly_out(self) -> set[str]:
        """Whom the successor added, and who are not in."""
        return set(self.members) - set(self.leaving) - self._included()

    def _included(self) -> set[str]:
        found = self._store.includes(REF, context_hashes(self.members))
        return {member for member, is_in in zip(self.members, found, strict=True) if is_in}

    def _end_predecessor(self) -> None:
        if self._ends == "killed":
            self.predecessor.end()
        elif self._ends == "stopped":
            self.predecessor.signal(signal.SIGSTOP)
        else:
            assert self.predecessor.hear_the_end() == "gave up, fate unknown: True"

    def _while_frozen(self, ask: Callable[[], bool]) -> Future[bool]:
        """Ask, and return once the server's kernel has the question."""
        before = self._proxy.forwarded_bytes
        asked = self._threads.submit(ask)
        wait_until(lambda: self._proxy.forwarded_bytes > before, message="the server's socket holds the request")
        return asked

    def _write(self, session: RedisWriteSession, add: list[str], remove: list[str]) -> bool:
        session.write(SegmentPatch(REF, add, remove), lambda: None)
        return True

    def _await_last_byte(self, *, fences: bool) -> None:
        if self._ends == "stopped":
            self.predecessor.signal(signal.SIGCONT)
            told = self.predecessor.hear_the_end()
            # A server that was quick may have read, and answered, everything before it got to the fence.
            assert told == "answered" or (fences and told == "gave up, fate unknown: True")
            if not fences:
                return
        predecessor = self.predecessor.connection.split()[0]
        wait_until(
            lambda: all(client["id"] != predecessor for client in self._witness.client_list()),
            message="the server has read what the predecessor sent, and closed",
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One server for all trials, frozen and thawed in each."""
    server = ValkeyServer(tmp_path_factory.mktemp("late-writers")).start()
    yield server
    server.stop()


@pytest.mark.parametrize("sent_bytes", SIZES)
@pytest.mark.parametrize("how_it_ends", ENDS)
def test_a_late_writer_changes_nothing_after_its_successor_has_fenced_it_off(
    server: ValkeyServer, how_it_ends: str, sent_bytes: int
) -> None:
    with ExitStack() as things:
        trial = Trial(server, how_it_ends, sent_bytes, things)
        trial.run(fences=True)
        assert trial.wrongly_in() == set()
        assert trial.wrongly_out() == set()


def test_without_the_fence_a_late_writer_undoes_what_its_successor_wrote(server: ValkeyServer) -> None:
    """The danger is real, or the trials above could not fail. One of a few goes wrong as good as certainly."""
    for how_it_ends in ENDS:
        for sent_bytes in (33_000, 40_000, 60_000):
            with ExitStack() as things:
                trial = Trial(server, how_it_ends, sent_bytes, things)
                trial.run(fences=False)
                if trial.wrongly_in():
                    return
    pytest.fail("nine late writers came too early to do harm")
