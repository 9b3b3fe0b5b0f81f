"""Forms with a file in them: read for those who may, few at a time, and only while they keep coming."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from worker.api.access import Caller
from worker.api.errors import refused
from worker.receiver.refusals import Refused

# Each lies on this machine's disk, up to the whole of SEGSYNC_IMPORT_BYTES, and may take minutes.
MOST_AT_ONCE: Final = 8
# What comes more slowly than this holds its place for nothing; at first it may.
BYTES_PER_SECOND: Final = 64 * 1024
GRACE_SECONDS: Final = 5.0
# What a form has beside its file: boundaries, names, short fields.
_BESIDE_BYTES: Final = 1024 * 1024


class Uploads:
    """Reads forms, so many at a time. For one event loop."""

    def __init__(self, largest_file: int) -> None:
        self._largest = largest_file + _BESIDE_BYTES
        self._at_once = 0

    async def read(self, request: Request) -> Request:
        """A request whose form was read already: its file lies on disk, or, a small one, in memory.

        Whoever may not put members into the segment of its path is refused before anything is read: the form is large,
        and a reader's token must not fill a disk.

        Raises:
            Refused: 403; 413 when it is too large; 429 when others are being read; 400, it is no form, or is too slow.
        """
        keys = (request.path_params[name] for name in ("projectKey", "environmentKey", "segmentKey"))
        Caller(*request.state.admitted).check("updateIncluded", *keys)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._largest:
            raise self._too_large()
        if self._at_once >= MOST_AT_ONCE:
            raise refused(429, "Too many files at once; try again later")
        self._at_once += 1
        try:
            return await self._read(request)
        finally:
            self._at_once -= 1

    async def _read(self, request: Request) -> Request:
        began, received = asyncio.get_running_loop().time(), 0

        async def receive() -> Message:
            nonlocal received
            async with asyncio.timeout_at(began + GRACE_SECONDS + received / BYTES_PER_SECOND):
                message = await request.receive()
            received += len(message.get("body", b""))
            if received > self._largest:
                raise self._too_large()
            return message

        read = Request(request.scope, receive)
        try:
            await read.form(max_files=1, max_fields=10)
        except HTTPException as error:  # what the form's reader says of it
            raise refused(400, f"Invalid request body: {error.detail}") from None
        except TimeoutError:
            pace = f"{BYTES_PER_SECOND // 1024} KiB a second"
            raise refused(400, f"Invalid request body: it came more slowly than {pace}") from None
        return read

    def _too_large(self) -> Refused:
        return refused(413, f"The body is larger than {self._largest} bytes")
