"""Bodies that were answered 400, kept for a person to look at, to replay once the manifest is mended, or to discard.

A partner drops for good what was answered 400, so nobody else has it any more. They lie in one hash slot, apart from
the logs, under a quota and a retention of their own:

    segsync:{rejected}:index      zset    batch id -> when it was refused, ms
    segsync:{rejected}:body:ID    hash    one of them; see rejected_batch.py
    segsync:{rejected}:bytes      string  what all of them take
    segsync:{rejected}:counter    string  how many were ever numbered: it makes their positions unique
    segsync:{rejected}:totals     hash    kept, replayed, discarded, expired, dropped: see ``RejectedTotals``
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
import structlog

from worker.log.position import ms_of, order
from worker.log.rejected_batch import (
    HEAD,
    Decision,
    Refusal,
    RejectedBatch,
    RejectedBody,
    Status,
    pack_refusal,
    unpack_head,
)
from worker.log.scripts import run_pipeline, script
from worker.state import refused, state_errors

BASE = "segsync:{rejected}"

# How many bodies one script removes: the state server does nothing else meanwhile.
_AT_ONCE = 500
_PAGE = 200
_PROBLEMS = {"expired": "it came too late", "too large": "it alone is larger than SEGSYNC_REJECTED_BYTES"}
_COUNTED = ("kept", "replayed", "discarded", "expired", "dropped")

_log = structlog.get_logger(__name__)


@dataclass(slots=True, frozen=True)
class RejectedTotals:
    """How many bodies were ever kept, and what became of them; each is counted as one thing besides ``kept``.

    Attributes:
        expired: removed when their retention was over, undecided.
        dropped: removed before that, undecided, to make room for later ones.
        bytes: what those that are there take, decided ones included.
    """

    kept: int
    replayed: int
    discarded: int
    expired: int
    dropped: int
    bytes: int

    @property
    def waiting(self) -> int:
        """Those that are there and that nobody has decided about."""
        return self.kept - self.replayed - self.discarded - self.expired - self.dropped


class RejectedBodies:
    """The kept bodies of all environments."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def keep(self, refusals: Sequence[Refusal], *, quota_bytes: int, not_after_ms: int) -> list[str | None]:
        """Keep bodies, in one round trip; the oldest make room where the quota asks for it.

        What makes room before a person has decided about it is counted and logged (``rejected.dropped``).

        Args:
            refusals: what to keep, in order.
            quota_bytes: what all of them together may take.
            not_after_ms: by the state server's clock; nothing is kept later.

        Returns:
            The position of each; None for one that was not kept, which is logged (``rejected.not_kept``).

        Raises:
            Unavailable: the state server is away; some may be kept.
        """
        positions: dict[str, str] = {}
        waiting = list(refusals)
        while waiting:
            replies = self._keep(waiting, quota_bytes, not_after_ms)
            again: list[Refusal] = []
            for refusal, reply in zip(waiting, replies, strict=True):
                if isinstance(reply, Exception):
                    _log_not_kept(refusal, str(refused(reply)))
                    continue
                outcome, *rest = (part.decode() for part in reply)
                if outcome == "kept":
                    positions[refusal.batch_id] = rest.pop(0)
                elif outcome == "again":
                    again.append(refusal)
                else:
                    _log_not_kept(refusal, _PROBLEMS[outcome])
                if rest:
                    _log.warning(
                        "rejected.dropped", count=len(rest), batch_ids=rest[:100], setting="SEGSYNC_REJECTED_BYTES"
                    )
            waiting = again
        return [positions.get(refusal.batch_id) for refusal in refusals]

    def _keep(self, refusals: Sequence[Refusal], quota_bytes: int, not_after_ms: int) -> list[Any]:
        def queue(pipe: Any) -> None:
            for refusal in refusals:
                pipe.evalsha(
                    script("rejected_keep").sha,
                    1,
                    BASE,
                    refusal.batch_id,
                    quota_bytes,
                    not_after_ms,
                    _AT_ONCE,
                    *pack_refusal(refusal),
                )

        return run_pipeline(self._client, queue, "rejected_keep")

    def list(
        self,
        *,
        before: str | None = None,
        limit: int = 100,
        integration_key: str | None = None,
        environment_id: str | None = None,
        reason: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        status: Status | None = None,
    ) -> Sequence[RejectedBatch]:
        """The latest of those that fit every filter given, the latest first.

        Args:
            before: the position of the last one of the page before.
            limit: how many at the most.
            integration_key: of this integration.
            environment_id: of this environment; "" for those whose body does not say one.
            reason: with this slug.
            since_ms: refused then or later.
            until_ms: refused before that.
            status: of this status.

        Raises:
            Unavailable: the state server is away.
        """
        wanted = {
            "integration_key": integration_key,
            "environment_id": environment_id,
            "reason": reason,
            "status": status,
        }
        filters = {name: value for name, value in wanted.items() if value is not None}
        page: list[RejectedBatch] = []
        for batch in self._latest(before, since_ms, until_ms):
            if len(page) == limit:
                break
            if all(getattr(batch, name) == value for name, value in filters.items()):
                page.append(batch)
        return page

    def _latest(self, before: str | None, since_ms: int | None, until_ms: int | None) -> Iterator[RejectedBatch]:
        """All of a time, the latest first. A millisecond is read whole: within one, the index knows no order."""
        highest = "+inf" if until_ms is None else f"({until_ms}"
        if before is not None and (until_ms is None or ms_of(before) < until_ms):
            highest = str(ms_of(before))
        lowest = "-inf" if since_ms is None else str(since_ms)
        count = _PAGE
        while True:
            with state_errors():
                found = cast(
                    "list[tuple[bytes, float]]",
                    self._client.zrevrangebyscore(
                        f"{BASE}:index", highest, lowest, start=0, num=count, withscores=True, score_cast_func=float
                    ),
                )
            complete = found
            if len(found) == count:
                last_ms = found[-1][1]
                complete = [item for item in found if item[1] != last_ms]
                if not complete:
                    count *= 2
                    continue
            batches = self._heads([batch_id.decode() for batch_id, _ in complete])
            for batch in sorted(batches, key=lambda each: order(each.position), reverse=True):
                if before is None or order(batch.position) < order(before):
                    yield batch
            if len(found) < count:
                return
            highest, count = f"({complete[-1][1]:.0f}", _PAGE

    def _heads(self, batch_ids: Sequence[str]) -> Iterator[RejectedBatch]:
        """Those that are still there, without their bodies."""
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            for batch_id in batch_ids:
                pipe.hmget(f"{BASE}:body:{batch_id}", HEAD)
            replies = cast("list[list[bytes | None]]", pipe.execute())
        for batch_id, values in zip(batch_ids, replies, strict=True):
            if values[0] is not None:
                yield RejectedBatch(**unpack_head(batch_id, values))

    def read(self, batch_id: str) -> RejectedBody | None:
        """One of them with its body; None when it is not there (any more).

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            *values, codec, data = cast(
                "list[bytes | None]", self._client.hmget(f"{BASE}:body:{batch_id}", (*HEAD, "codec", "body"))
            )
        if codec is None or data is None:
            return None
        return RejectedBody(**unpack_head(batch_id, values), codec=codec, data=data)

    def mark(self, batch_id: str, status: Decision, by: str, why: str = "") -> bool:
        """Decide what becomes of one that nobody has decided about; its body stays until its retention is over.

        Returns:
            Whether this call decided it: False when it was decided before, or is not there.

        Raises:
            Unavailable: the state server is away; it may be decided.
        """
        return bool(script("rejected_mark")(self._client, BASE, batch_id, status, by, why))

    def expire(self, before_ms: int) -> int:
        """Remove those that were refused before that time, each with a line in the log; returns how many.

        Raises:
            Unavailable: the state server is away; what was removed stays removed.
        """
        count = 0
        while removed := script("rejected_expire")(self._client, BASE, before_ms, _AT_ONCE):
            for start in range(0, len(removed), 6):
                batch_id, position, status, integration, environment, reason = (
                    part.decode() for part in removed[start : start + 6]
                )
                count += 1
                log = _log.warning if status == "rejected" else _log.info
                log(
                    "rejected.expired",
                    batch_id=batch_id,
                    position=position,
                    status=status,
                    integration=integration,
                    environment_id=environment,
                    reason=reason,
                )
        return count

    def totals(self) -> RejectedTotals:
        """How many there were, and what became of them.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(f"{BASE}:totals")
            pipe.get(f"{BASE}:bytes")
            found, held = cast("tuple[dict[bytes, bytes], bytes | None]", pipe.execute())
        return RejectedTotals(**{name: int(found.get(name.encode(), 0)) for name in _COUNTED}, bytes=int(held or 0))


def _log_not_kept(refusal: Refusal, problem: str) -> None:
    log_not_kept(problem, batch_id=refusal.batch_id, integration=refusal.integration_key, length=refusal.length)


def log_not_kept(problem: str, **facts: object) -> None:
    """Say that a body was answered 400 and is gone."""
    _log.warning("rejected.not_kept", problem=problem, **facts)
