"""What the apply path is measured against: commands that were encoded before, and the Python one would write first."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis
from jsonpointer import JsonPointer

from worker.cli.embedded import HOST
from worker.errors import Misconfigured
from worker.stores.layout import context_hash, redis_include_key
from worker.stores.redis.bulk import Replies


def limit_name() -> str:
    """What ``send_encoded`` sends with here."""
    return "redis-cli --pipe" if shutil.which("redis-cli") else "a raw socket (redis-cli is missing)"


def send_encoded(commands: Path, count: int, *, port: int, password: str) -> float:
    """Send so many encoded commands, which a file holds, to a server on loopback; seconds until all are answered.

    Raises:
        Misconfigured: not all of them were taken.
    """
    if shutil.which("redis-cli"):
        return _pipe(commands, count, port=port, password=password)
    return _send(commands, count, port=port, password=password)


def _pipe(commands: Path, count: int, *, port: int, password: str) -> float:
    with commands.open("rb") as file:
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603
            ["redis-cli", "-h", HOST, "-p", str(port), "--pipe"],  # noqa: S607 - the one that a person would run
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "REDISCLI_AUTH": password},
        )
        seconds = time.perf_counter() - began
    if f"errors: 0, replies: {count}" not in done.stdout:
        raise Misconfigured(f"redis-cli --pipe failed: {done.stdout.strip()} {done.stderr.strip()}")
    return seconds


def _send(commands: Path, count: int, *, port: int, password: str) -> float:
    """As ``redis-cli --pipe`` does: send all the time, and read all the while."""
    data = commands.read_bytes()
    with socket.create_connection((HOST, port)) as link, ThreadPoolExecutor(1) as reading:
        replies = Replies(link)
        link.sendall(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(password), password.encode()))
        next(replies.take(1))
        began = time.perf_counter()
        read = reading.submit(lambda: sum(reply.__class__ is int for reply in replies.take(count)))
        link.sendall(data)
        taken, seconds = read.result(), time.perf_counter() - began
    if taken < count:
        raise Misconfigured(f"the server took {taken} of {count} commands")
    return seconds


def write_plainly(client: redis.Redis, prefix: str, ref: str, bodies: Sequence[bytes]) -> float:
    """Segment's bodies by json, jsonpointer and a pipeline of redis-py for each; seconds."""
    batch, member_id, value = map(JsonPointer, ("/batch", "/userId", "/value"))
    began = time.perf_counter()
    for each in bodies:
        payload = json.loads(each)
        with client.pipeline(transaction=False) as pipe:
            for member in batch.resolve(payload):
                key = redis_include_key(prefix, context_hash(member_id.resolve(member)))
                (pipe.sadd if value.resolve(member) else pipe.srem)(key, ref)
            pipe.execute()
    return time.perf_counter() - began
