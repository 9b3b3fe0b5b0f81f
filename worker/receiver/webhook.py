"""The webhook: authenticate, cap, validate with the compiled requestParser, append to the logs, answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from itertools import count

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.errors import InvalidBatch, Unavailable
from worker.log.batch import Batch, Target
from worker.log.parsers import parser_entry
from worker.manifest.catalog import CatalogWatch
from worker.manifest.manifest import Manifest
from worker.manifest.response.template import ResponseFacts, UnrenderableResponse
from worker.receiver.answers import bug_answer, error_answer, success_answer
from worker.receiver.appender import APPEND_WITHIN_SECONDS, Appender
from worker.receiver.backlog import Backlog
from worker.receiver.body import TooLarge, UnsupportedEncoding, read_body
from worker.receiver.credentials import Authenticator
from worker.receiver.facts import accepted_facts, refused_facts
from worker.receiver.headers import header
from worker.receiver.ingest_limit import IngestLimit
from worker.receiver.keeping import Keeper, Rejected
from worker.receiver.parsing import SLOW_BODY_BYTES, Parsed, Parsing, in_thread, work
from worker.receiver.refusals import Refused, bad_request, too_large, unusable_manifest
from worker.receiver.segment_rights import SegmentRights
from worker.receiver.state_server import StateServer
from worker.records.directory import Directory, Token
from worker.sync.wake_ups import WakeUpSender
from worker.wiring import Wiring

# LaunchDarkly recommends no more; longer ones are accepted all the same.
LONG_COHORT_ID = 128
# Bodies that are being read for their members or wait for the log, in one process; decoded, they take some three times
# that. Beyond it, partners are asked to come again later.
MOST_HELD_BYTES = 128 * 1024 * 1024

# Production's, and the singular one of LaunchDarkly's reference server.
_PREFIXES = ("/api/v2/segment-targets", "/api/v2/segment-target")

_log = structlog.get_logger(__name__)


class Webhook:
    """``POST /api/v2/segment-targets/{integration_key}``."""

    def __init__(
        self,
        wiring: Wiring,
        manifests: CatalogWatch,
        server: StateServer,
        appender: Appender,
        wake_ups: WakeUpSender,
        *,
        backlog: Backlog,
    ) -> None:
        self._wiring = wiring
        self._manifests = manifests
        self._server = server
        self._appender = appender
        self._wake_ups = wake_ups
        self._backlog = backlog
        self._authenticator = Authenticator()
        self._limit = IngestLimit(wiring.settings.ingest_rate_limit)
        self._keeper = Keeper(wiring.settings, wiring.rejected, server)
        self._held_bytes = 0
        # Asked once: asking the logger takes a microsecond of each payload's 75.
        self._tells_all = wiring.settings.log_level == "debug"
        self._batch_ids = _batch_ids()
        # Threads of their own: what hangs in one, or takes seconds, must not hold up the others.
        self._parsing = Parsing()
        self._asking = ThreadPoolExecutor(4, thread_name_prefix="ask")
        self._rendering = ThreadPoolExecutor(1, thread_name_prefix="render")

    def close(self) -> None:
        """End the threads; what has not begun is dropped."""
        self._parsing.close()
        self._asking.shutdown(cancel_futures=True)
        self._rendering.shutdown(cancel_futures=True)
        self._keeper.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as an ASGI application."""
        try:
            response = await self._answer(scope, receive)
        except Exception:
            await bug_answer()(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        """One payload: 2xx only once it is in the log, as durably as the durability setting says.

        The order of checks is the contract's: token, integration, size and encoding, body and environment id, right
        to the environment, the rest of the body. A refused request leaves no entry in any log.
        """
        directory = self._wiring.directory.current
        key = scope["path"].rpartition("/")[2]
        try:
            token = self._authenticator.authenticate(directory, header(scope, b"authorization"))
            manifest = self._manifest(key)
            self._limit.count(token.id)
        except Refused as refused:
            return _refusal(key, refused)
        self._wiring.token_records.note_use(token.id)
        body = b""
        try:
            body = await self._read(scope, receive)
            self._check_room(len(body))
            self._held_bytes += len(body)
            try:
                return await self._take(scope, manifest, body, directory, token)
            finally:
                self._held_bytes -= len(body)
        except Refused as refused:
            return await self._refuse(manifest, refused, body)
        except ClientDisconnect:
            # Nobody reads this answer, and nothing was stored: the whole body never came.
            return error_answer(400, "the request ended before its body")

    async def _take(
        self, scope: Scope, manifest: Manifest, body: bytes, directory: Directory, token: Token
    ) -> Response:
        """Parse and append a body, and answer. A body that is answered 400 is kept first, for its sender will not."""
        try:
            parsed = await self._parsing.parse(manifest, body, directory, token)
            if (problem := self._backlog.problem(parsed.environment.environment_id)) is not None:
                raise _behind(problem)
            batch = await self._append(parsed)
        except Refused as refused:
            kept = None
            if refused.status == HTTPStatus.BAD_REQUEST and token.may_write and body and not body.isspace():
                policy = directory.policy(refused.environment_id, manifest.key)
                kept = await self._keeper.keep(Rejected(manifest, body, refused, token, policy))
            return await self._refuse(manifest, refused, body, kept)
        if manifest.response_template is None:
            return success_answer(None)
        facts = accepted_facts(
            body,
            base_url=str(Request(scope).base_url),
            project_key=parsed.environment.project_key,
            environment_key=parsed.environment.environment_key,
            segment_key=batch.targets[0].segment_key,
        )
        return success_answer(await self._render(manifest, facts))

    async def _refuse(self, manifest: Manifest, refused: Refused, body: bytes, kept: str | None = None) -> Response:
        if refused.status in {429, 503} and len(body) >= SLOW_BODY_BYTES:
            body = b""  # who is asked to come again must not wait for it behind others, nor keep the body here
        return _refusal(manifest.key, refused, await self._render(manifest, refused_facts(body, refused)), kept)

    def _manifest(self, key: str) -> Manifest:
        manifest = self._manifests.current.get(key)
        if manifest is None:
            raise Refused(404, f"Unknown integration key {key!r}", reason="integration")
        if not isinstance(manifest, Manifest):
            raise unusable_manifest()
        return manifest

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        largest = self._wiring.settings.max_body_bytes
        try:
            return await read_body(scope, receive, largest)
        except TooLarge:
            raise too_large(largest) from None
        except UnsupportedEncoding:
            message = "Content-Encoding must be gzip, deflate, zstd or absent"
            raise Refused(415, message, reason="encoding") from None
        except InvalidBatch as error:
            self._check_room(0)
            raise bad_request(error) from error

    def _check_room(self, size: int) -> None:
        """Refuse a body of that size when too many are held in memory, or there is no room for it later."""
        if self._server.nearly_full:
            raise Refused(429, "The state server is nearly full; send it again later", reason="full")
        if (problem := self._backlog.problem_in_all()) is not None:
            raise _behind(problem)
        if self._held_bytes + size > MOST_HELD_BYTES:
            raise Refused(429, "Too many payloads at once; send it again later", reason="overload")

    async def _append(self, parsed: Parsed) -> Batch:
        """Append to the log of every segment, or refuse; never later than the sender is told."""
        not_after_ms = self._server.now_ms() + int(APPEND_WITHIN_SECONDS * 1000)
        try:
            segment_keys = self._remembered_keys(parsed) or await self._ask_for_keys(parsed)
            batch = self._batch(parsed, segment_keys, not_after_ms)
            due = await self._appender.append(batch)
        except InvalidBatch as error:
            raise bad_request(error, parsed.environment.environment_id) from error
        except (Unavailable, TimeoutError) as error:
            # What is remembered may be of another server, or of an older state of this one.
            self._wiring.segment_keys.forget()
            _log.warning("state.away", error=str(error) or "no answer in time")
            raise Refused(503, "The log cannot take the payload now; send it again", reason="state") from error
        self._backlog.accept(batch.environment_id, len(batch.body))
        if due:
            self._wake_ups.send(due)
        if self._tells_all:
            _log.debug(
                "batch.accepted",
                batch_id=batch.batch_id,
                environment_id=batch.environment_id,
                integration=batch.integration_key,
                segments=len(batch.targets),
                bytes=len(batch.body),
            )
        if (rejected := batch.rejected).count:
            _log.warning(
                "batch.members_rejected",
                batch_id=batch.batch_id,
                environment_id=batch.environment_id,
                integration=batch.integration_key,
                members=rejected.count,
                first=rejected.listed[0]._asdict(),
            )
        return batch

    def _remembered_keys(self, parsed: Parsed) -> list[str] | None:
        """The segment of each cohort, where this process knows all of them, and that the token may write to them."""
        wiring, environment_id = self._wiring, parsed.environment.environment_id
        cohort_ids = [cohort.cohort_id for cohort in parsed.payload.cohorts]
        segment_keys = wiring.segment_keys.remembered(environment_id, parsed.manifest.key, cohort_ids)
        if segment_keys is None:
            if (longest := max(map(len, cohort_ids))) > LONG_COHORT_ID:
                _log.warning("cohort.long_id", integration=parsed.manifest.key, length=longest)
        elif parsed.token.role is None:
            rights = SegmentRights(wiring, parsed.token, parsed.environment)
            return segment_keys if rights.suffice(segment_keys) else None
        return segment_keys

    async def _ask_for_keys(self, parsed: Parsed) -> list[str]:
        """The segment of each cohort, by the state server; asked for no longer than an append may take.

        Raises:
            Refused: 403; the token may not write to them all, or create those that are not there.
            Unavailable: the state server is away.
            TimeoutError: it has not answered.
        """
        wiring, environment_id = self._wiring, parsed.environment.environment_id
        cohort_ids = [cohort.cohort_id for cohort in parsed.payload.cohorts]
        if parsed.token.role is None:
            ask = SegmentRights(wiring, parsed.token, parsed.environment).keys
        else:
            ask = partial(wiring.segment_keys.allot, environment_id)
        async with asyncio.timeout(APPEND_WITHIN_SECONDS):
            return await in_thread(self._asking, ask, parsed.manifest.key, cohort_ids)

    def _batch(self, parsed: Parsed, segment_keys: Sequence[str], not_after_ms: int) -> Batch:
        manifest, payload = parsed.manifest, parsed.payload
        environment_id = parsed.environment.environment_id
        targets = [Target(key, cohort) for key, cohort in zip(segment_keys, payload.cohorts, strict=True)]
        return Batch(
            batch_id=next(self._batch_ids),
            environment_id=environment_id,
            context_kind=payload.context_kind,
            integration_key=manifest.key,
            parser_digest=manifest.parser.digest,
            body=parsed.body,
            targets=targets,
            store_ids=self._wiring.directory.current.store_ids_on(environment_id),
            not_after_ms=not_after_ms,
            policy=parsed.policy,
            rejected=payload.rejected,
            prerequisites=(parser_entry(manifest.parser.digest, manifest.parser.text),),
        )

    async def _render(self, manifest: Manifest, facts: ResponseFacts) -> bytes | None:
        """The integration's own body for an answer, or None: the payload's fate never hangs on a template."""
        if manifest.response_template is None:
            return None
        render = partial(manifest.response_template.render, facts)
        try:
            return await work(render, facts.request_body, SLOW_BODY_BYTES, self._rendering)
        except UnrenderableResponse as error:
            _log.error("answer.not_json", integration=manifest.key, status=facts.status_code, problem=str(error))
            return None


def _batch_ids() -> Iterator[str]:
    """Ids that nobody else gives, all of one length: chance of this process' own, and a number.

    Chance for each would take 9 µs of each payload's 75.
    """
    mine = secrets.token_hex(8)
    return (f"{mine}{number}" for number in count(10**15))


def _behind(problem: str) -> Refused:
    return Refused(429, f"The stores are behind, {problem}; send it again later", reason="backlog")


def _refusal(key: str, refused: Refused, body: bytes | None = None, kept: str | None = None) -> Response:
    _log.warning(
        "batch.refused",
        integration=key,
        status=refused.status,
        reason=refused.reason,
        pointer=refused.pointer,
        batch_id=kept,
    )
    return error_answer(refused.status, refused.message, body=body)


def endpoints() -> Sequence[str]:
    """The paths that take payloads."""
    return [f"{prefix}/{{integration_key}}" for prefix in _PREFIXES]


def takes(scope: Scope) -> bool:
    """Whether a request is a payload, as far as method and path tell; one behind a root path finds it by its route."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    prefix, _, key = scope["path"].rpartition("/")
    return prefix in _PREFIXES and key != ""
