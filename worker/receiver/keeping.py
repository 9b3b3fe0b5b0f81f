"""Bodies that are answered 400 are kept first: in a thread of their own, within bounds, and never at others' cost."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import structlog

from worker.errors import Unavailable
from worker.log.entry import compress
from worker.log.rejected_batch import Refusal
from worker.log.rejected_bodies import RejectedBodies, log_not_kept
from worker.manifest.manifest import Manifest
from worker.receiver.refusals import Refused
from worker.receiver.state_server import StateServer
from worker.records.directory import Token
from worker.settings import Settings

# For how long a 400 may wait for its body to be kept, and the least of it that is worth a try. A starved state server
# may need as much. Less than the patience with one answer (``worker.state.ANSWER_SECONDS``): whoever gives that up must
# find that nothing can be kept any more.
KEEP_WITHIN_SECONDS = 2.5
_LEAST_SECONDS = 0.1
# What waits to be kept at the most; one body may always wait, whatever its size.
MOST_WAITING_BYTES = 16 * 1024 * 1024
# One round trip's worth.
_GROUP_BYTES = 4 * 1024 * 1024
_GROUP_BODIES = 256
# What is written in the long run, and at once. A faster stream would leave the quota full of its last half minute, and
# payloads that are good would wait for the state server's disk behind it.
MOST_BYTES_A_SECOND = 8 * 1024 * 1024
MOST_BYTES_AT_ONCE = 64 * 1024 * 1024

_log = structlog.get_logger(__name__)


class Rejected(NamedTuple):
    """A body, and why it is answered 400."""

    manifest: Manifest
    body: bytes
    refused: Refused
    token: Token
    policy: str


class _Waiting(NamedTuple):
    batch_id: str
    rejected: Rejected
    not_after_ms: int
    kept: asyncio.Future[bool]


class Keeper:
    """Keeps bodies for the requests of one event loop."""

    def __init__(self, settings: Settings, bodies: RejectedBodies, server: StateServer) -> None:
        self._quota = settings.rejected_bytes
        self._bodies = bodies
        self._server = server
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keep")
        self._allowance = float(MOST_BYTES_AT_ONCE)
        self._allowed_at = time.monotonic()

    def close(self) -> None:
        """End the thread; what has not begun is dropped."""
        self._thread.shutdown(cancel_futures=True)

    async def keep(self, rejected: Rejected) -> str | None:
        """Keep a body; returns the batch id that it is kept under, or None, within that time, when it is not.

        Why it is not is logged (``rejected.not_kept``); nothing is raised, for the sender is to be answered 400 anyway.
        """
        if not self._quota:
            return None
        size = len(rejected.body)
        batch_id = uuid.uuid4().hex
        facts = {"batch_id": batch_id, "integration": rejected.manifest.key, "length": size}
        if self._server.nearly_full:
            log_not_kept("the state server is nearly full", **facts)
            return None
        if self._waiting_bytes and self._waiting_bytes + size > MOST_WAITING_BYTES:
            log_not_kept("too many at once", **facts)
            return None
        loop = asyncio.get_running_loop()
        not_after_ms = self._server.now_ms() + int(KEEP_WITHIN_SECONDS * 1000)
        waiting = _Waiting(batch_id, rejected, not_after_ms, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += size
        self._thread.submit(self._work, loop)
        try:
            async with asyncio.timeout(KEEP_WITHIN_SECONDS):
                return batch_id if await waiting.kept else None
        except TimeoutError:
            log_not_kept("the state server does not answer in time", **facts)
            return None

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep what waits; in the thread."""
        while group := self._next_group():
            kept: set[str] = set()
            try:
                kept = self._keep(group)
            except Unavailable as error:
                for waiting in group:
                    log_not_kept(str(error), batch_id=waiting.batch_id, integration=waiting.rejected.manifest.key)
            except Exception:  # noqa: BLE001 - whatever it is, the senders are answered
                _log.exception("rejected.keep_failed")
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(self._tell, group, kept)

    def _tell(self, group: Sequence[_Waiting], kept: set[str]) -> None:
        for waiting in group:
            self._waiting_bytes -= len(waiting.rejected.body)
            if not waiting.kept.done():
                waiting.kept.set_result(waiting.batch_id in kept)

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < _GROUP_BODIES and size < _GROUP_BYTES:
            group.append(waiting := self._waiting.popleft())
            size += len(waiting.rejected.body)
        return group

    def _keep(self, group: Sequence[_Waiting]) -> set[str]:
        """The batch ids of those that are kept."""
        least_ms = self._server.now_ms() + int(_LEAST_SECONDS * 1000)
        timely = [waiting for waiting in group if waiting.not_after_ms >= least_ms]
        for waiting in group:
            if waiting not in timely and not waiting.kept.done():
                log_not_kept("it waited too long", batch_id=waiting.batch_id, integration=waiting.rejected.manifest.key)
        refusals = [refusal for waiting in timely if (refusal := self._refusal(waiting)) is not None]
        if not refusals:
            return set()
        # The earliest, for all: later than its sender was answered, none may get a place in the order.
        not_after_ms = min(waiting.not_after_ms for waiting in timely)
        positions = self._bodies.keep(refusals, quota_bytes=self._quota, not_after_ms=not_after_ms)
        return {refusal.batch_id for refusal, position in zip(refusals, positions, strict=True) if position}

    def _refusal(self, waiting: _Waiting) -> Refusal | None:
        """What is to be kept; None when too much was kept of late."""
        manifest, body, refused, token, policy = waiting.rejected
        if not self._allowed():
            log_not_kept("too many of late", batch_id=waiting.batch_id, integration=manifest.key, length=len(body))
            return None
        codec, data = compress(body)
        self._allowance -= len(data)
        return Refusal(
            batch_id=waiting.batch_id,
            integration_key=manifest.key,
            environment_id=refused.environment_id,
            reason=refused.reason,
            message=refused.message,
            pointer=refused.pointer,
            parser_digest=manifest.parser.digest,
            policy="skip" if policy == "skip" else "reject",
            token_name=token.name,
            length=len(body),
            codec=codec,
            data=data,
        )

    def _allowed(self) -> bool:
        now = time.monotonic()
        earned = (now - self._allowed_at) * MOST_BYTES_A_SECOND
        self._allowance = min(self._allowance + earned, MOST_BYTES_AT_ONCE)
        self._allowed_at = now
        return self._allowance > 0
