"""A client that sends prepared requests as fast as a server answers: little work a request, so that it is no limit.

An HTTP library would take longer for each request than the servers that are measured with it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import cast
from urllib.parse import urlsplit

import uvloop

from worker.errors import Misconfigured

_END_OF_HEAD = b"\r\n\r\n"
_STATUS = slice(9, 12)  # of "HTTP/1.1 204 No Content"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_ALL_WITHIN_SECONDS = 60.0


def request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of a POST."""
    lines = [f"POST {urlsplit(url).path} HTTP/1.1", f"Host: {urlsplit(url).netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def send_all(url: str, requests: Sequence[bytes], count: int, *, connections: int = 32) -> tuple[float, Counter[int]]:
    """Send so many requests, over and over the ones given, one at a time on each of some keep-alive connections.

    Returns:
        Seconds from the first request to the last answer, and how often each status was answered.

    Raises:
        Misconfigured: a connection was closed, or not everything was answered within a minute.
    """
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    return uvloop.run(_send_all(address.hostname, address.port, islice(cycle(requests), count), connections))


async def _send_all(host: str, port: int, requests: Iterator[bytes], connections: int) -> tuple[float, Counter[int]]:
    loop = asyncio.get_running_loop()
    senders = [_Sender(requests, loop.create_future()) for _ in range(connections)]
    for sender in senders:
        await loop.create_connection(lambda sender=sender: sender, host, port)  # type: ignore[misc]
    began = time.perf_counter()
    for sender in senders:
        sender.send()
    try:
        async with asyncio.timeout(_ALL_WITHIN_SECONDS):
            await asyncio.gather(*(sender.done for sender in senders))
    except TimeoutError:
        raise Misconfigured(f"not every request was answered within {_ALL_WITHIN_SECONDS:g} s") from None
    seconds = time.perf_counter() - began
    statuses: Counter[int] = Counter()
    for sender in senders:
        sender.close()
        statuses.update({int(status): times for status, times in sender.statuses.items()})
    return seconds, statuses


class _Sender(asyncio.Protocol):
    """One connection: sends the next request when the one before is answered."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self.done = done
        self.statuses: Counter[bytes] = Counter()
        self._requests = requests
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        """Send the next request, if there is one."""
        assert self._transport is not None
        if (following := next(self._requests, None)) is not None:
            self._transport.write(following)
        elif not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        """Hang up."""
        assert self._transport is not None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        answer = self._received + data if self._received else data
        if not _is_whole(answer):
            self._received = answer
            return
        self._received = b""
        self.statuses[answer[_STATUS]] += 1
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(Misconfigured(f"the server has closed a connection: {exc or 'it hung up'}"))


def _is_whole(answer: bytes) -> bool:
    """Whether it is all of an answer; one without a body, as most are, ends where its head ends."""
    head, found, body = answer.partition(_END_OF_HEAD)
    if not found or (not body and b" 204 " in head[:13]):
        return bool(found)
    length = _CONTENT_LENGTH.search(head + b"\r\n")
    return length is not None and len(body) >= int(length[1])
