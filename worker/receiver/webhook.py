"""The webhook: authenticate, cap, validate with the compiled requestParser, append to the logs, answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from worker.errors import InvalidBatch, Unavailable
from worker.log.append import Batch, Target
from worker.log.parsers import keep_parser
from worker.manifest.catalog import Catalog
from worker.manifest.manifest import Manifest
from worker.manifest.response import ResponseFacts, render
from worker.model import Cohort, Payload
from worker.receiver.answers import error_answer, success_answer
from worker.receiver.appender import Appender
from worker.receiver.body import TooLarge, UnsupportedEncoding, read_body
from worker.receiver.credentials import read_token
from worker.records.directory import Directory, Environment, Token
from worker.sync.wake_ups import WakeUpSender
from worker.wiring import Wiring

# LaunchDarkly recommends no more; longer ones are accepted all the same.
LONG_COHORT_ID = 128

_log = structlog.get_logger(__name__)


class Refused(Exception):
    """Raised when a request is answered with an error of its sender's making."""

    def __init__(self, status: int, message: str, *, reason: str = "", pointer: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.pointer = pointer


class Webhook:
    """``POST /api/v2/segment-targets/{integration_key}``."""

    def __init__(self, wiring: Wiring, catalog: Catalog, appender: Appender, wake_ups: WakeUpSender) -> None:
        self._wiring = wiring
        self._catalog = catalog
        self._appender = appender
        self._wake_ups = wake_ups
        self._kept_parsers: set[str] = set()

    async def receive(self, request: Request) -> Response:
        """One payload: 2xx only once it is in the log, as durably as the durability setting says.

        The order of checks is the contract's: token, integration, size and encoding, body and environment id, right
        to the environment, the rest of the body. A refused request leaves nothing behind.
        """
        directory = self._wiring.directory.current
        key = request.path_params["integration_key"]
        try:
            token = self._authenticate(directory, request)
            manifest = self._manifest(key)
        except Refused as refused:
            return _refusal(key, refused)
        body = b""
        try:
            body = await self._read(request)
            payload = self._parse(manifest, body, directory, token)
            environment = _authorize(directory, token, payload.environment_id)
            batch = await self._batch(manifest, payload, body)
            await self._append(batch, environment)
        except Refused as refused:
            facts = _facts(body, request, status_code=refused.status, error_message=refused.message)
            return _refusal(key, refused, _render(manifest, facts))
        except ClientDisconnect:
            # Nobody reads this answer, and nothing was stored: the whole body never came.
            return error_answer(400, "the request ended before its body")
        if manifest.response_template is None:
            return success_answer(None)
        facts = _facts(body, request, environment=environment, segment_key=batch.targets[0].segment_key)
        return success_answer(_render(manifest, facts))

    def _authenticate(self, directory: Directory, request: Request) -> Token:
        plain = read_token(request.headers.get("authorization"))
        token = directory.token(plain) if plain else None
        if token:
            return token
        if not directory.version:
            raise Refused(503, "the receiver has not read its records yet; send it again")
        raise Refused(401, "Invalid access token" if plain else "Send an access token in the Authorization header")

    def _manifest(self, key: str) -> Manifest:
        manifest = self._catalog.get(key)
        if manifest is None:
            raise Refused(404, "Unknown integration key")
        if not isinstance(manifest, Manifest):
            raise Refused(503, "The manifest of this integration cannot be used; /readyz says why", reason="manifest")
        return manifest

    async def _read(self, request: Request) -> bytes:
        largest = self._wiring.settings.max_body_bytes
        try:
            return await read_body(request, largest)
        except TooLarge:
            raise Refused(413, f"The body is larger than {largest} bytes, decoded") from None
        except UnsupportedEncoding:
            raise Refused(415, "Content-Encoding must be gzip, deflate, zstd or absent") from None
        except InvalidBatch as error:
            raise _bad_request(error) from error

    def _parse(self, manifest: Manifest, body: bytes, directory: Directory, token: Token) -> Payload:
        try:
            return manifest.decoder.decode(body)
        except InvalidBatch as error:
            if error.environment_id is not None:
                _authorize(directory, token, error.environment_id)
            raise _bad_request(error) from error

    async def _batch(self, manifest: Manifest, payload: Payload, body: bytes) -> Batch:
        """Find the segment of each cohort; the state server is asked only for what this process has not seen yet."""
        wiring, environment_id = self._wiring, payload.environment_id
        try:
            if manifest.parser.digest not in self._kept_parsers:
                await asyncio.to_thread(keep_parser, wiring.client, manifest.parser.digest, manifest.parser.text)
                self._kept_parsers.add(manifest.parser.digest)
            targets = [Target(await self._segment_key(payload, manifest, cohort), cohort) for cohort in payload.cohorts]
        except Unavailable as error:
            raise self._unavailable(error) from error
        return Batch(
            batch_id=uuid.uuid4().hex,
            environment_id=environment_id,
            context_kind=payload.context_kind,
            integration_key=manifest.key,
            parser_digest=manifest.parser.digest,
            body=body,
            targets=targets,
            store_ids=[store.store_id for store in wiring.directory.current.stores_of(environment_id) if store.on],
        )

    async def _segment_key(self, payload: Payload, manifest: Manifest, cohort: Cohort) -> str:
        keys, cohort_of = self._wiring.segment_keys, (payload.environment_id, manifest.key, cohort.cohort_id)
        if key := keys.remembered(*cohort_of):
            return key
        if len(cohort.cohort_id) > LONG_COHORT_ID:
            _log.warning("cohort.long_id", integration=manifest.key, length=len(cohort.cohort_id))
        return await asyncio.to_thread(keys.allot, *cohort_of)

    async def _append(self, batch: Batch, environment: Environment) -> None:
        if self._appender.overloaded:
            raise Refused(429, "Too much waits for the log; send it again later")
        try:
            due = await self._appender.append(batch)
        except InvalidBatch as error:
            raise _bad_request(error) from error
        except Unavailable as error:
            raise self._unavailable(error) from error
        self._wake_ups.send(due)
        _log.debug(
            "batch.accepted",
            batch_id=batch.batch_id,
            environment=environment.environment_key,
            integration=batch.integration_key,
            segments=len(batch.targets),
            bytes=len(batch.body),
        )

    def _unavailable(self, error: Unavailable) -> Refused:
        # What came back may be another server, or an older state of it: what is remembered of it is asked anew.
        self._kept_parsers.clear()
        self._wiring.segment_keys.forget()
        _log.warning("state.away", error=str(error))
        return Refused(503, "The log cannot take the payload now; send it again")


def _render(manifest: Manifest, facts: ResponseFacts) -> bytes | None:
    """The integration's own body for an answer, or None: the payload's fate never hangs on a template."""
    body = render(manifest, facts)
    if body is None and manifest.response_template is not None:
        _log.error("answer.not_json", integration=manifest.key, status=facts.status_code)
    return body


def _authorize(directory: Directory, token: Token, environment_id: str) -> Environment:
    environment = directory.environments.get(environment_id)
    if environment is None or not token.may_write:
        raise Refused(403, "The environment is unknown, or the token has no right to write to it")
    return environment


def _bad_request(error: InvalidBatch) -> Refused:
    return Refused(400, error.message, reason=error.reason, pointer=error.pointer)


def _refusal(key: str, refused: Refused, body: bytes | None = None) -> Response:
    _log.warning(
        "batch.refused", integration=key, status=refused.status, reason=refused.reason, pointer=refused.pointer
    )
    return error_answer(refused.status, refused.message, body=body)


def _facts(
    body: bytes,
    request: Request,
    *,
    status_code: int = 200,
    error_message: str = "",
    environment: Environment | None = None,
    segment_key: str = "",
) -> ResponseFacts:
    project, key = (environment.project_key, environment.environment_key) if environment else ("", "")
    return ResponseFacts(
        request_body=body,
        status_code=status_code,
        error_message=error_message,
        project_key=project,
        environment_key=key,
        segment_key=segment_key,
        segment_url=f"{request.base_url}{project}/{key}/segments/{segment_key}" if segment_key else "",
    )


def endpoints() -> Sequence[str]:
    """The paths that take payloads: production's, and the singular one of LaunchDarkly's reference server."""
    return ("/api/v2/segment-targets/{integration_key}", "/api/v2/segment-target/{integration_key}")
