"""``/api/v2/batches``: dead letters and rejected bodies, listed, shown, replayed and discarded over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar
from urllib.parse import urlencode

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.api.admission import Admitted, admit, read_bounded
from worker.api.errors import refused
from worker.api.forms import Form, batch_form, examined_form, outcome_form, preview_form
from worker.api.parameters import (
    Discarding,
    Listing,
    ManyReplays,
    Nothing,
    OneReplay,
    T,
    read_filter,
    read_json,
    read_page_key,
    read_query,
)
from worker.api.service import Service
from worker.receiver.answers import json_answer
from worker.receiver.refusals import Refused
from worker.records.directory import Directory, Token
from worker.sync.batches import Batches, Group, KeptBatch, page_key
from worker.sync.examine import examine
from worker.sync.isolation import IsolatedParser, ParserInterrupted
from worker.sync.preview import Obstacle, Preview, preview
from worker.sync.replay import Replayer
from worker.sync.replay_plan import Planner
from worker.sync.replaying import Outcome, replay

BASE = "/api/v2/batches"
# One request replays, or previews, so many batches, and so much of them; its answer says how to go on.
MOST_REPLAYED = 100
MOST_REPLAYED_BYTES = 8 * 1024 * 1024
# Of what is left after that, so many are counted.
MOST_COUNTED = 1000
# Nobody looks at more at a time; and who sends payloads must not wait for who looks.
_THREADS = 2
_MOST_WAITING = 8
_LARGEST_BODY = 64 * 1024

R = TypeVar("R")
Handle = Callable[[Request, bytes, Token, Directory], Form]

_log = structlog.get_logger(__name__)


class BatchesApi:
    """The routes, and the threads in which their work is done.

    Any token with a role may look, and preview; who replays or discards needs one with the role admin.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._wiring = service.wiring
        self._wake_ups = service.wake_ups
        self._working = ThreadPoolExecutor(_THREADS, thread_name_prefix="batches")
        self._waiting = 0
        self._closing = False

    def routes(self) -> Sequence[Route]:
        """The routes; that of many replays comes before that of a batch with such an id."""
        return (
            Route(BASE, self.list, methods=["GET"]),
            Route(f"{BASE}/replay", self.replay_many, methods=["POST"]),
            Route(f"{BASE}/{{batch_id}}", self.show, methods=["GET"]),
            Route(f"{BASE}/{{batch_id}}/replay", self.replay_one, methods=["POST"]),
            Route(f"{BASE}/{{batch_id}}/discard", self.discard, methods=["POST"]),
        )

    def close(self) -> None:
        """End what is being done after the batch in hand, and the threads."""
        self._closing = True
        self._working.shutdown(wait=False, cancel_futures=True)

    async def list(self, request: Request) -> Response:
        """``GET /api/v2/batches``: a page, the latest first."""
        return await self._answer(request, f"GET {BASE}", self._list)

    async def show(self, request: Request) -> Response:
        """``GET /api/v2/batches/{id}``: everything known of a batch, and what a replay would do now."""
        return await self._answer(request, f"GET {BASE}/{{id}}", self._show)

    async def replay_one(self, request: Request) -> Response:
        """``POST /api/v2/batches/{id}/replay``: ``{"preview": false}`` does it."""
        return await self._answer(request, f"POST {BASE}/{{id}}/replay", self._replay_one)

    async def replay_many(self, request: Request) -> Response:
        """``POST /api/v2/batches/replay``: the latest of those that fit the filter; ``{"preview": false}`` does it."""
        return await self._answer(request, f"POST {BASE}/replay", self._replay_many)

    async def discard(self, request: Request) -> Response:
        """``POST /api/v2/batches/{id}/discard``: decide that it is never replayed, and why."""
        return await self._answer(request, f"POST {BASE}/{{id}}/discard", self._discard)

    async def _answer(self, request: Request, route: str, handle: Handle) -> Response:
        async def work(admitted: Admitted) -> Response:
            if admitted.token.role is None:
                raise refused(403, "Forbidden. Batches are of all environments: this needs a token with a role.")
            body = await read_bounded(request, _LARGEST_BODY)
            try:
                done = partial(handle, request, body, admitted.token, admitted.directory)
                return json_answer(200, await self._work(done))
            except ParserInterrupted as error:
                _log.warning("api.unavailable", error=str(error))
                raise refused(503, "Bodies cannot be parsed now; try again later") from error

        return await admit(self._service, request, route, work)

    async def _work(self, do: Callable[[], R]) -> R:
        if self._closing:
            raise Refused(503, "The receiver is stopping; try again", reason="stopping")
        if self._waiting >= _MOST_WAITING:
            raise Refused(429, "Too many requests at once; try again later", reason="overload")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._working, do)
        finally:
            self._waiting -= 1

    def _list(self, request: Request, _body: bytes, _token: Token, directory: Directory) -> Form:
        asked = _query(request, Listing)
        wanted, before = read_filter(directory, asked), read_page_key(asked.before)
        page = Batches(self._wiring).page(wanted, before, asked.limit)
        links = {"self": _link(request)}
        if page.before is not None:
            links["next"] = _link(request, before=page.before)
        return {
            "items": [
                {**batch_form(batch), "_links": {"self": _href(f"{BASE}/{batch.batch_id}")}} for batch in page.batches
            ],
            "_links": links,
        }

    def _show(self, request: Request, _body: bytes, _token: Token, _directory: Directory) -> Form:
        _query(request, Nothing)
        with self._parser() as isolated:
            found = examine(self._wiring, isolated, _batch_id(request))
        if found is None:
            raise _unknown(request)
        return {**examined_form(found), "_links": {"self": _link(request), "parent": _href(BASE)}}

    def _replay_one(self, request: Request, body: bytes, token: Token, _directory: Directory) -> Form:
        asked = read_json(body, OneReplay)
        _query(request, Nothing)
        if not asked.preview:
            _check_admin(token)
        batches = Batches(self._wiring)
        entries = batches.find(_batch_id(request))
        if not entries:
            raise _unknown(request)
        if not any(batch.waits for batch in entries):
            return _decided(entries[0], preview_only=asked.preview)
        return self._replay(batches, entries, token, preview_only=asked.preview)

    def _replay_many(self, request: Request, body: bytes, token: Token, directory: Directory) -> Form:
        asked = read_json(body, ManyReplays)
        _query(request, Nothing)
        wanted, before = read_filter(directory, asked.filter, waiting=True), read_page_key(asked.before)
        if wanted.means_all and not asked.all:
            raise Refused(400, 'filter: name one, or say "all": true', reason="parameters")
        if not asked.preview:
            _check_admin(token)
        batches = Batches(self._wiring)
        page = batches.page(wanted, before, MOST_REPLAYED)
        taken = _bounded(page.batches)
        before = page.before if len(taken) == len(page.batches) else page_key(taken[-1])
        left = batches.page(wanted, before, MOST_COUNTED) if before is not None else None
        return {
            **self._replay(batches, taken, token, preview_only=asked.preview),
            "left": len(left.batches) if left else 0,
            "leftExact": left is None or left.before is None,
            "before": before,
        }

    def _discard(self, request: Request, body: bytes, token: Token, _directory: Directory) -> Form:
        asked = read_json(body, Discarding)
        _query(request, Nothing)
        _check_admin(token)
        batches = Batches(self._wiring)
        entries = batches.find(_batch_id(request))
        if not entries:
            raise _unknown(request)
        waiting = [batch for batch in entries if batch.waits]
        batches.discard(waiting, by=_name(token), why=asked.why)
        return {"items": [batch_form(batch) for batch in batches.find(_batch_id(request))]}

    def _replay(self, batches: Batches, entries: Sequence[KeptBatch], token: Token, *, preview_only: bool) -> Form:
        groups = _groups(entries)
        with self._parser() as isolated:
            planner = Planner(self._wiring, isolated)
            if preview_only:
                *_, found = preview(batches, planner, groups)
                return {"preview": True, **preview_form(found)}
            outcome = Outcome()
            for reached in replay(batches, planner, Replayer(self._wiring, _name(token)), groups):
                outcome = reached
                if self._closing:
                    break
        self._wake_ups.send(outcome.wake_ups)
        return {"preview": False, **outcome_form(outcome)}

    def _parser(self) -> IsolatedParser:
        """A process for the bodies of one request; started with the first of them, and gone with the last."""
        return IsolatedParser(stopping=lambda: self._closing)


def _query(request: Request, wanted: type[T]) -> T:
    return read_query(request.query_params.multi_items(), wanted)


def _batch_id(request: Request) -> str:
    return str(request.path_params["batch_id"])


def _unknown(request: Request) -> Refused:
    return Refused(404, f"There is no batch {_batch_id(request)!r} that died or was refused", reason="batch")


def _check_admin(token: Token) -> None:
    if token.role != "admin":
        raise Refused(
            403, "The token may look, and preview; replaying and discarding need the role admin", reason="role"
        )


def _name(token: Token) -> str:
    return f"api:{token.name}"


def _decided(batch: KeptBatch, *, preview_only: bool) -> Form:
    """What replaying a batch that somebody has decided about does: nothing, and why."""
    problem = f"it does not wait any more: it is {batch.status}"
    if preview_only:
        obstacle = Obstacle(1, batch.batch_id, problem)
        return {"preview": True, **preview_form(Preview(obstacles={"decided": obstacle}))}
    return {"preview": False, **outcome_form(Outcome(problems={batch.batch_id: problem}))}


def _groups(entries: Sequence[KeptBatch]) -> list[Group]:
    """Those that wait, by batch, in the order in which they were accepted."""
    groups: dict[str, Group] = {}
    for batch in reversed(entries):
        if batch.waits:
            groups.setdefault(batch.batch_id, Group(batch.batch_id, batch.position)).add(batch)
    return list(groups.values())


def _bounded(batches: Sequence[KeptBatch]) -> list[KeptBatch]:
    """The first of these, as many as one request may hold; one at least, if there is one."""
    taken: list[KeptBatch] = []
    size = 0
    for batch in batches:
        size += batch.size_bytes
        if taken and size > MOST_REPLAYED_BYTES:
            break
        taken.append(batch)
    return taken


def _link(request: Request, **changes: str) -> Form:
    parameters = [each for each in request.query_params.multi_items() if each[0] not in changes]
    parameters += changes.items()
    return _href(request.url.path + (f"?{urlencode(parameters)}" if parameters else ""))


def _href(href: str) -> Form:
    return {"href": href, "type": "application/json"}
