"""Mutated requests to a real receiver, over several connections at once; every answer is looked at."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from deployment import Deployment

from fuzz.requests import ENVIRONMENT_ID, Mutations, manifests
from fuzz.wire import TOKEN, Mutated, framed
from worker.manifest.examples import Change, example
from worker.records.environment_options import EnvironmentOptions

CONNECTIONS = 4
# Longer than the receiver ever lets a sender wait.
HANGS_AFTER_SECONDS = 15.0
# What uvicorn says to bytes that are no HTTP: they never become a request.
NO_HTTP = b"Invalid HTTP request received."
# What the receiver takes; it hangs up on more while that is still on its way.
LARGEST_BYTES = 10 * 1024 * 1024


class FuzzedDeployment(Deployment):
    """A deployment with the environment that the bodies name; of every second integration, bad members are skipped."""

    def init(self, *arguments: str) -> dict[str, Any]:
        """Run `segsync init` for that environment, and set the policies."""
        facts = super().init("--environment-id", ENVIRONMENT_ID, *arguments)
        client = self.state.client()
        for integration in list(manifests())[::2]:
            EnvironmentOptions(client).set_policy(ENVIRONMENT_ID, integration, "skip")
        client.close()
        return facts


class Answer(NamedTuple):
    """An answer's status, media type and body; 0 when the receiver closed the connection instead."""

    status: int
    media_type: str
    body: bytes


@dataclass
class HttpTally:
    """What a run came to."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    no_http: int = 0
    problems: list[str] = field(default_factory=list)

    def report(self) -> str:
        """What a person wants to know of the run."""
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))
        sent = self.statuses.total() + self.closed + self.no_http
        return (
            f"  {sent:,} requests in {self.seconds:.1f} s; {len(self.problems)} problems\n"
            f"  statuses: {statuses}\n"
            f"  no HTTP, so refused below the receiver: {self.no_http:,}; closed without an answer: {self.closed:,}"
        )


def run(seed: int, numbers: Sequence[int], deployment: Deployment, url: str) -> HttpTally:
    """Send the requests of these numbers, and at the end a good payload of every integration."""
    began = time.monotonic()
    tally = HttpTally()
    mutations = Mutations(seed)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [numbers[share::CONNECTIONS] for share in range(CONNECTIONS)]
        for part in pool.map(lambda share: _send_all(seed, share, mutations, deployment, url), shares):
            tally.statuses += part.statuses
            tally.closed += part.closed
            tally.no_http += part.no_http
            tally.problems += part.problems
    tally.problems += _problems_at_the_end(deployment, url)
    tally.seconds = time.monotonic() - began
    return tally


def _send_all(seed: int, numbers: Sequence[int], mutations: Mutations, deployment: Deployment, url: str) -> HttpTally:
    tally = HttpTally()
    with _Connection(url).opened() as connection:
        for number in numbers:
            mutated = mutations.request(number)
            try:
                answer = connection.send(mutated, _wire(seed, number, mutated, deployment))
            except TimeoutError:
                found: str | None = f"no answer within {HANGS_AFTER_SECONDS:g} s"
            else:
                _count(tally, answer)
                found = problem(mutated, answer)
            if found:
                again = f'make fuzz ARGS="--seed {seed} --only-request {number}"'
                tally.problems.append(f"{found}\nrequest:   {describe(mutated)}\nagain:     {again}")
    return tally


def _wire(seed: int, number: int, mutated: Mutated, deployment: Deployment) -> bytes:
    return framed(mutated, Random(f"{seed}:chunks:{number}"), deployment.writer_token)


def _count(tally: HttpTally, answer: Answer) -> None:
    if answer.status == 0:
        tally.closed += 1
    elif answer.body == NO_HTTP:
        tally.no_http += 1
    else:
        tally.statuses[answer.status] += 1


def problem(mutated: Mutated, answer: Answer) -> str | None:
    """What is wrong with an answer; None when nothing is."""
    if answer.status == 0 and len(mutated.body) > LARGEST_BYTES:
        return None  # 413 was answered, but what was still on its way reset the connection, and took the answer with it
    if answer.status == 0 or answer.body == NO_HTTP:
        return "no answer of the receiver to sound HTTP" if mutated.sound_http else None
    shown = f"{answer.status} {answer.media_type} {answer.body[:500]!r}"
    if answer.status >= 500 and answer.status != 503:
        return f"answered {shown}"
    if b"Traceback" in answer.body or b'File "/' in answer.body:
        return f"the answer shows our insides: {shown}"
    if mutated.method == "HEAD" or answer.status == 204:
        return f"a body where none may be: {shown}" if answer.body else None
    try:
        json.loads(answer.body)
    except ValueError:
        return f"the answer's body is no JSON: {shown}"
    return None if answer.media_type == "application/json" else f"the answer is not labelled as JSON: {shown}"


def describe(mutated: Mutated) -> str:
    """A request as a person can look at it."""
    body = mutated.body if len(mutated.body) < 3000 else mutated.body[:3000] + b"..."
    return (
        f"{mutated.method} {mutated.target} {mutated.headers!r} {mutated.framing!r} {len(mutated.body)} bytes {body!r}"
    )


def _problems_at_the_end(deployment: Deployment, url: str) -> Iterator[str]:
    """Whether the receiver still takes good payloads, and has logged no bug."""
    with _Connection(url).opened() as connection:
        for key, manifest in manifests().items():
            change = Change(ENVIRONMENT_ID, "after-all", "After all", ["ann"], [])
            for body in example(key, change):
                mutated = Mutated(key, f"/api/v2/segment-targets/{key}", body=json.dumps(body).encode())
                mutated.headers = [("Authorization", TOKEN), ("Content-Type", "application/json")]
                answer = connection.send(mutated, framed(mutated, Random(0), deployment.writer_token))
                if answer.status != (204 if manifest.json_response_body is None else 200):
                    yield f"afterwards, a good payload of {key} is answered {answer}"
    if any(process.poll() is not None for process in deployment.processes):
        yield "a process of the deployment has ended"
    logs = deployment.logs()
    if "Traceback" in logs:
        place = logs.index("Traceback")
        yield f"the log has a traceback:\n{logs[max(0, place - 300) : place + 3000]}"


class _Connection:
    """A connection that is kept alive for as long as both sides let it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._socket: socket.socket | None = None

    @contextmanager
    def opened(self) -> Iterator[_Connection]:
        try:
            yield self
        finally:
            self._close()

    def send(self, mutated: Mutated, wire: bytes) -> Answer:
        """Send a request; what the answer to it is.

        Raises:
            TimeoutError: there is none.
        """
        kept = False
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, timeout=HANGS_AFTER_SECONDS)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._push(self._socket, mutated, wire)
            response = HTTPResponse(self._socket, method=mutated.method)
            response.begin()
            body = response.read()
            kept = mutated.sound_http and not response.will_close
            return Answer(response.status, response.headers.get_content_type(), body)
        except (HTTPException, ConnectionError):
            return Answer(0, "", b"")
        finally:
            if not kept:
                self._close()

    @staticmethod
    def _push(connected: socket.socket, mutated: Mutated, wire: bytes) -> None:
        try:
            connected.sendall(wire)
            if not mutated.sound_http:
                connected.shutdown(socket.SHUT_WR)  # the rest of it would never come
        except TimeoutError:
            raise
        except OSError:
            pass  # closed by the other side before all was sent: an answer, if any, is there to be read

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
