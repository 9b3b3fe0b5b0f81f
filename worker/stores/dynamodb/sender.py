"""Changes on their way: several requests in flight, at the table's pace, window by window.

What DynamoDB has certainly not done, as it was throttled or in the way of a transaction, is sent again in here.
Nothing else is: after the first fault nothing more is sent, and the drain decides.

The members of a patch are written in its own order, which is random as hashes go. In hash order, writes that follow
each other would fall into one physical partition, which takes a thousand units a second, while the others wait.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from worker.model import MemberList, RefusedMember
from worker.stores.dynamodb.changes import Change, Changes
from worker.stores.dynamodb.client import IN_FLIGHT
from worker.stores.dynamodb.faults import Refusal, Told, is_conflict, is_throttled, refusal_of, verdicts_of
from worker.stores.dynamodb.pace import Pace
from worker.stores.segment_store import BeforeWindow

# What one transaction may hold, and what a member in it costs in write units.
_TOGETHER: Final = 100
_UNITS_TOGETHER: Final = 2.0
# A window ends after this time, whatever is left of it: at a slow pace the caller is asked all the same.
_WINDOW_S: Final = 1.0
# A transaction is no more than the table takes in this time: a larger one would have to wait for all that it needs.
_AT_ONCE_S: Final = 0.1
# A table that takes nothing at all for so long is away.
_PATIENCE_S: Final = 5.0
# A request that was too much waits this long at most, so that a table is not overrun before its pace is known.
_PAUSE_S: Final = 0.1
# How often a member may meet somebody else's transaction, and how often in company.
_MOST_CONFLICTS: Final = 10
_CONFLICTS_TOGETHER: Final = 3
# When so many are refused for a reason that we do not know, and nobody is taken, it is not for what they are.
_SUSPICIOUS: Final = 20


@dataclass(slots=True)
class Sent:
    """What became of changes.

    Attributes:
        refused: whom the table will not take.
        taken: how many changes are complete.
        unexplained: faults of members who were refused for a reason that may be anybody's; the first of them.
        throttled: the last fault of that kind.
    """

    added: Counter[MemberList] = field(default_factory=Counter)
    removed: Counter[MemberList] = field(default_factory=Counter)
    taken: int = 0
    refused: list[RefusedMember] = field(default_factory=list)
    unexplained: list[ClientError] = field(default_factory=list)
    throttled: ClientError | None = None


class Sender:
    """Sends one segment's changes."""

    def __init__(self, changes: Changes, executor: ThreadPoolExecutor, pace: Pace, *, window: int, told: Told) -> None:
        self._changes = changes
        self._executor = executor
        self._pace = pace
        self._window = window
        self._told = told
        self._lock = threading.Lock()
        self._waiting: deque[Change] = deque()
        self._faults: list[BotoCoreError | ClientError] = []
        self._until = 0.0
        self.sent = Sent()

    def send(self, changes: Iterator[Change], before_window: BeforeWindow) -> Sent:
        """Send them all; see ``WriteSession.write``. Returns or raises only when everything sent was answered."""
        started = self._pace.now()
        while True:
            self._waiting.extend(islice(changes, self._window - len(self._waiting)))
            if not self._waiting:
                return self.sent
            before_window()
            self._until = self._pace.now() + _WINDOW_S
            threads = min(IN_FLIGHT, len(self._waiting))
            for run in [self._executor.submit(self._run) for _ in range(threads)]:
                run.result()
            self._raise_faults(started)

    def _run(self) -> None:
        while not self._faults and (portion := self._next()):
            units = _UNITS_TOGETHER * len(portion) if len(portion) > 1 else 1.0
            sent_at = self._pace.take_turn(units, self._until)
            if sent_at is None or self._faults:
                self._put_back(portion)
                return
            try:
                if len(portion) > 1:
                    self._send_together(portion, units, sent_at)
                else:
                    self._send_one(portion[0], units, sent_at)
            except (BotoCoreError, ClientError) as fault:
                self._faults.append(fault)

    def _next(self) -> list[Change]:
        """What to send next: one change, or some that may go together."""
        most, rate = _TOGETHER, self._pace.rate
        if rate is not None:
            most = max(1, min(most, int(rate * _AT_ONCE_S / _UNITS_TOGETHER)))
        with self._lock:
            portion: list[Change] = []
            while self._waiting and len(portion) < most:
                if portion and not self._waiting[0].together:
                    break
                portion.append(self._waiting.popleft())
                if not portion[0].together:
                    break
            return portion

    def _put_back(self, portion: list[Change], *, last: bool = False) -> None:
        with self._lock:
            if last:
                self._waiting.extend(portion)
            else:
                self._waiting.extendleft(reversed(portion))

    def _send_one(self, change: Change, units: float, sent_at: float) -> None:
        try:
            complete = self._changes.send(change)
        except ClientError as fault:
            if is_throttled(fault):
                self._throttled(fault, [change], units, sent_at)
            elif is_conflict(fault):
                change.conflicts += 1
                if change.conflicts > _MOST_CONFLICTS:
                    raise
                self._put_back([change], last=True)
                _pause(change.conflicts)
            elif (refusal := refusal_of(fault)) is not None:
                self._pace.taken(units)
                self._refused(fault, refusal, change)
            else:
                raise
            return
        self._pace.taken(units)
        if complete:
            self._complete([change])
        else:
            self._put_back([change])

    def _send_together(self, portion: list[Change], units: float, sent_at: float) -> None:
        try:
            self._changes.send_together(portion)
        except ClientError as fault:
            verdicts = verdicts_of(fault, len(portion))
            if is_throttled(fault) or "throttled" in verdicts:
                self._throttled(fault, portion, units, sent_at)
                return
            if not verdicts:
                raise
            self._changes.count_cancelled(len(portion))
            self._pace.taken(units)
            for change, verdict in zip(portion, verdicts, strict=True):
                change.conflicts += verdict == "conflict"
                # By itself, a change tells for sure what is wrong with it, or makes do with what it finds.
                change.together = verdict != "alone" and change.conflicts < _CONFLICTS_TOGETHER
            self._put_back(portion, last=True)
            if "conflict" in verdicts:
                _pause(max(change.conflicts for change in portion))
            return
        self._pace.taken(units)
        self._complete(portion)

    def _throttled(self, fault: ClientError, portion: list[Change], units: float, sent_at: float) -> None:
        self.sent.throttled = fault
        self._put_back(portion)
        self._pace.refused(units, sent_at)
        _pause()

    def _complete(self, portion: list[Change]) -> None:
        with self._lock:
            self.sent.taken += len(portion)
            for change in portion:
                for of in change.changed:
                    (self.sent.added if of in change.wish.add else self.sent.removed)[of] += 1

    def _refused(self, fault: ClientError, refusal: Refusal, change: Change) -> None:
        with self._lock:
            lists = change.wish.add + change.wish.remove
            self.sent.refused += (RefusedMember(change.hashed, refusal.reason, of) for of in lists)
            if not refusal.is_the_items and len(self.sent.unexplained) < _SUSPICIOUS:
                self.sent.unexplained.append(fault)

    def _raise_faults(self, started: float) -> None:
        if self._faults:
            # Of several faults in flight, tell the one that leaves most open.
            told = [(self._told(fault, writes=True), fault) for fault in self._faults]
            error, fault = max(told, key=lambda pair: pair[0].fate_unknown)
            raise error from fault
        sent = self.sent
        if sent.throttled is not None and self._pace.now() - max(started, self._pace.taken_at) > _PATIENCE_S:
            self._pace.forget()
            raise self._told(sent.throttled, writes=True) from sent.throttled
        if not sent.taken and len(sent.unexplained) >= _SUSPICIOUS:
            raise self._told(sent.unexplained[0], writes=True) from sent.unexplained[0]


def _pause(times: int = 1) -> None:
    time.sleep(_PAUSE_S * times * random.uniform(0.5, 1))  # noqa: S311 - spread, not secret
