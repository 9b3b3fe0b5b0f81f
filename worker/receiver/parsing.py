"""From a body to what it says: most at once, what takes long in threads, and by the policy of its environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

from worker.errors import InvalidBatch
from worker.manifest.manifest import Manifest
from worker.model import MemberPolicy, Payload
from worker.receiver.credentials import authorize
from worker.receiver.refusals import bad_request
from worker.records.directory import Directory, Environment, Token

# A body from this size on is decoded outside the event loop; and from that size on, if it takes the exact reader, or is
# looked into for an answer: both take a hundred times as long.
LARGE_BODY_BYTES = 256 * 1024
SLOW_BODY_BYTES = 16 * 1024

T = TypeVar("T")


class Parsed(NamedTuple):
    """A body that is good.

    Attributes:
        manifest: the integration that it came through.
        body: the request's bytes, decoded from any content encoding, otherwise unchanged.
        payload: what they say; of one cohort alone, the members may be missing.
        environment: the environment that they are for.
        policy: what was to become of members that cannot be read.
        token: with which it was sent.
    """

    manifest: Manifest
    body: bytes
    payload: Payload
    environment: Environment
    policy: MemberPolicy
    token: Token


class Parsing:
    """Parses bodies. What takes seconds (the exact reader, on a large body) holds up nothing that takes none."""

    def __init__(self) -> None:
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="read-exactly")

    def close(self) -> None:
        """End the threads; what has not begun is dropped."""
        self._decoding.shutdown(cancel_futures=True)
        self._reading.shutdown(cancel_futures=True)

    async def parse(self, manifest: Manifest, body: bytes, directory: Directory, token: Token) -> Parsed:
        """What a body says.

        Raises:
            Refused: 400 for the body and its environment id; then 403 for the environment; then 400 for the rest.
        """
        try:
            if len(body) < LARGE_BODY_BYTES:
                found = manifest.decoder.decode_fast(body, members=False)
            else:
                found = await in_thread(self._decoding, partial(manifest.decoder.decode_fast, body, members=False))
            payload = found or await self._read_exactly(manifest, body, "reject")
        except InvalidBatch as error:
            if error.environment_id is None:
                raise bad_request(error) from error
            environment = authorize(directory, token, error.environment_id)
            policy = directory.policy(environment.environment_id, manifest.key)
            if policy == "reject":
                raise bad_request(error, environment.environment_id) from error
        else:
            environment = authorize(directory, token, payload.environment_id)
            policy = directory.policy(environment.environment_id, manifest.key)
            return Parsed(manifest, body, payload, environment, policy, token)
        try:
            payload = await self._read_exactly(manifest, body, policy)
        except InvalidBatch as error:
            raise bad_request(error, environment.environment_id) from error
        return Parsed(manifest, body, payload, environment, policy, token)

    async def _read_exactly(self, manifest: Manifest, body: bytes, policy: MemberPolicy) -> Payload:
        read = partial(manifest.decoder.decode_exactly, body, policy, members=False)
        return await work(read, body, SLOW_BODY_BYTES, self._reading)


async def work(do: Callable[[], T], body: bytes, least_bytes: int, pool: ThreadPoolExecutor) -> T:
    """Do something with a body: in a thread, if the body is so large that it could hold up everybody else."""
    return do() if len(body) < least_bytes else await in_thread(pool, do)


async def in_thread(pool: ThreadPoolExecutor, do: Callable[..., T], *arguments: object) -> T:
    """Do something in a pool's thread, and wait for it."""
    return await asyncio.get_running_loop().run_in_executor(pool, do, *arguments)
