"""The receiver's ASGI application: its routes, what it starts and stops, and its health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from worker.errors import Misconfigured, Unavailable
from worker.log.durability import RISK_OF_MEMORY
from worker.log.pending import Pending, read_pending
from worker.manifest.catalog import CatalogWatch
from worker.manifest.manifest import BrokenManifest
from worker.receiver.answers import bug_answer, error_answer, json_answer
from worker.receiver.appender import Appender
from worker.receiver.backlog import Backlog
from worker.receiver.connection_checks import ConnectionChecks
from worker.receiver.current_parsers import CurrentParsers
from worker.receiver.state_server import StateServer
from worker.receiver.webhook import Webhook, endpoints, takes
from worker.settings import Settings
from worker.sync.tasks import create_celery
from worker.sync.wake_ups import WakeUpSender
from worker.wiring import Wiring

# New tokens, environments and stores take effect within this time.
REFRESH_SECONDS = 2.0
# A changed manifest takes effect after one look, one that is broken or gone after two.
MANIFESTS_SECONDS = 1.0
# A receiver that has not seen the state server for so long is not ready, even if nobody has sent anything meanwhile.
STALE_SECONDS = 15.0

_log = structlog.get_logger(__name__)


class Receiver:
    """One receiver process: everything its routes share."""

    def __init__(self, settings: Settings) -> None:
        self.wiring = Wiring(settings)
        self.manifests = CatalogWatch(settings.manifests)
        self.parsers = CurrentParsers(self.wiring.client, self.manifests)
        self.server = StateServer(self.wiring.client)
        self.appender = Appender(self.wiring, self.server)
        self.wake_ups = WakeUpSender(create_celery(settings))
        self.backlog = Backlog(settings, self.server.now_ms)
        self.webhook = Webhook(
            self.wiring, self.manifests, self.server, self.appender, self.wake_ups, backlog=self.backlog
        )
        self.connection_checks = ConnectionChecks(self.wiring)
        # A thread of its own for looking at the state server: it must not queue behind requests that wait for it.
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="look")
        # And one for the manifests: their directory may be on a network, and hang.
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="manifests")
        self._manifests_problem = ""
        self._looked_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._problem = "the state server has not been looked at yet"
        self._log_manifests(self.broken_manifests())

    def broken_manifests(self) -> dict[str, BrokenManifest]:
        """The integrations whose endpoint answers 503, and why."""
        return {key: found for key, found in self.manifests.current.items() if isinstance(found, BrokenManifest)}

    @asynccontextmanager
    async def running(self, _app: Starlette) -> AsyncIterator[None]:
        """Serve appends and keep the records fresh for as long as the application lives."""
        if self.wiring.settings.durability == "memory":
            _log.warning("durability.risk", risk=RISK_OF_MEMORY)
        await self._refresh_once()
        self._tasks = [
            asyncio.create_task(task) for task in (self.appender.run(), self._refresh(), self._follow_manifests())
        ]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self.webhook.close()
            self.appender.close()
            self.wake_ups.close()
            self._looking.shutdown(cancel_futures=True)
            self._reading.shutdown(wait=False, cancel_futures=True)
            self.wiring.close()

    async def healthz(self, _request: Request) -> Response:
        """The process lives."""
        return json_answer(200, {"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """Whether payloads can be accepted, and what is promised; broken manifests and promises are named."""
        problems = [self._problem] if self._problem else []
        if not problems and time.monotonic() - self._looked_at > STALE_SECONDS:
            problems.append("the state server does not answer")
        if self.server.nearly_full:
            problems.append("the state server is nearly full: payloads are answered 429 until there is room")
        if self.server.refusal:
            problems.append(f"no payload can be stored: {self.server.refusal}")
        if self.wiring.settings.strict:
            problems += self.appender.broken_promises
        if any(task.done() for task in self._tasks):
            problems.append("a part of the receiver has ended; the log has why: restart it")
        if not problems and not self.wiring.directory.current.version:
            problems.append("no records yet: run `segsync init`")
        return json_answer(
            503 if problems else 200,
            {
                "status": "unavailable" if problems else "ready",
                "problems": problems,
                "durability": self.wiring.settings.durability,
                "broken_promises": self.appender.broken_promises,
                # One environment's, or a wait for the stores: other receivers would answer no better.
                "backlog": self.backlog.problems(),
                "manifests_problem": self._manifests_problem,
                "broken_manifests": {
                    key: [fault._asdict() for fault in broken.faults] for key, broken in self.broken_manifests().items()
                },
            },
        )

    async def _follow_manifests(self) -> None:
        """Take over what changed in the manifests' files; while they cannot be listed, go on with those there are."""
        while True:
            await asyncio.sleep(MANIFESTS_SECONDS)
            try:
                changed = await asyncio.get_running_loop().run_in_executor(self._reading, self.manifests.look)
            except Misconfigured as error:
                problem = str(error)
            except Exception:  # noqa: BLE001 - whatever it is, the manifests that there are go on being served
                problem = "an error of ours while reading the manifests; the log has it"
                _log.exception("manifests.look_failed")
            else:
                problem = ""
                self.parsers.changed(changed)
                self._looking.submit(self._tell_parsers)
                self._log_manifests(changed)
            if problem != self._manifests_problem:
                if problem:
                    _log.error("manifests.unreadable", problem=problem)
                else:
                    _log.info("manifests.readable")
            self._manifests_problem = problem

    def _log_manifests(self, keys: Iterable[str]) -> None:
        for key in keys:
            found = self.manifests.current.get(key)
            if isinstance(found, BrokenManifest):
                _log.error("manifest.broken", integration=key, faults=[fault._asdict() for fault in found.faults])
            else:
                # Partners drop what is answered 404 from now on.
                log, event = (_log.info, "manifest.loaded") if found else (_log.warning, "manifest.removed")
                log(event, integration=key)

    def _tell_parsers(self) -> None:
        """Tell at once: a person who has mended a manifest is about to replay. What fails, the next look tells."""
        with suppress(Unavailable):
            self.parsers.tell()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh_once()

    async def _refresh_once(self) -> None:
        figures: dict[str, Pending] | None = None
        try:
            figures = await asyncio.get_running_loop().run_in_executor(self._looking, self._look)
        except Unavailable as error:
            self._problem = "the state server is away" if error.fate_unknown else "the state server refuses"
            _log.warning("state.away", error=str(error))
        except Exception:  # noqa: BLE001
            # Whatever it is, the next look may go well; without looks, tokens and clocks would age for ever.
            self._problem = "an error of ours while looking at the state server; the log has it"
            _log.exception("state.look_failed")
        else:
            self._problem = ""
            self._looked_at = time.monotonic()
        self.backlog.look(figures)

    def _look(self) -> dict[str, Pending]:
        """Look at everything that others change; returns what waits, per environment."""
        if self.server.look():
            # Restarted, or another: it may have lost, or never had, what is remembered of it.
            self.wiring.segment_keys.forget()
            self.parsers.tell_all_again()
        self.appender.check_durability()
        self.wiring.directory.fresh(0.0)
        self.parsers.tell()
        self.wiring.token_records.tell_uses()
        return read_pending(self.wiring.client)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_answer(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _bug(_request: Request, _error: Exception) -> Response:
    return bug_answer()


class _Application(Starlette):
    """Starlette, with a door of their own for payloads.

    Its middlewares, its router and its wrappers around a route cost each of them 12 µs, a sixth of all that is done
    for it, and give it nothing: the webhook reads, answers and fails by itself.
    """

    webhook: Webhook

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        to = self.webhook if takes(scope) else super().__call__
        await to(scope, receive, send)


def create_receiver(settings: Settings) -> Starlette:
    """The receiver as an ASGI application.

    Raises:
        Misconfigured: the manifests directory cannot be read.
    """
    receiver = Receiver(settings)
    app = _Application(
        routes=[
            *(Route(path, receiver.webhook, methods=["POST"]) for path in endpoints()),
            *receiver.connection_checks.routes(),
            Route("/healthz", receiver.healthz, methods=["GET"]),
            Route("/readyz", receiver.readyz, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _bug},
        lifespan=receiver.running,
    )
    app.webhook = receiver.webhook
    # A sender of webhooks does not follow a redirected POST; and behind TLS it would be sent to http://.
    app.router.redirect_slashes = False
    return app
