"""Work that takes round trips to the state server, without the server: who makes them drives it.

The receiver makes them from its event loop, everybody else through redis-py; what is asked, and what the replies mean,
is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import redis
from redis.exceptions import NoScriptError

from worker.errors import Unavailable
from worker.log.scripts import script
from worker.state import state_errors

T = TypeVar("T")
Command = tuple[str | bytes | int, ...]
# Yields the commands of one round trip, gets their replies, error replies in their places, or the Unavailable of a
# server that was away (what was asked may have been done), and so on; returns what came of it all.
Steps = Generator[list[Command], list[Any], T]


class Exchange(Generic[T]):
    """One piece of such work, under way.

    Attributes:
        commands: what to ask now; empty when all is done.
        outcome: what came of it, then.
    """

    outcome: T

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.commands: list[Command] = []
        self._go_on(partial(next, steps))

    def tell(self, replies: list[Any] | Unavailable) -> None:
        """Go on with what the server said, or with why it said nothing.

        Raises:
            Unavailable: the work cannot do without an answer.
        """
        if isinstance(replies, Unavailable):
            self._go_on(partial(self._steps.throw, replies))
        else:
            self._go_on(partial(self._steps.send, replies))

    def _go_on(self, go_on: Callable[[], list[Command]]) -> None:
        try:
            self.commands = go_on()
        except StopIteration as end:
            self.commands, self.outcome = [], end.value


def through(client: redis.Redis, steps: Steps[T]) -> T:
    """Do such work through redis-py.

    Raises:
        Unavailable: the state server is away; what was asked last may have been done.
    """
    exchange = Exchange(steps)
    while exchange.commands:
        try:
            replies = _ask(client, exchange.commands)
        except Unavailable as error:
            exchange.tell(error)
        else:
            exchange.tell(replies)
    return exchange.outcome


def knowing(names: Sequence[str], commands: list[Command]) -> Steps[list[Any]]:
    """Ask for something that takes these scripts; a server that does not know them is told, and asked once more.

    What is asked must bear that.
    """
    replies = yield commands
    if _lacks_scripts(replies):
        yield [("SCRIPT", "LOAD", script(name).text) for name in names]
        replies = yield commands
    return replies


def _ask(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    with state_errors(), client.pipeline(transaction=False) as pipe:
        # Replies as they are: within a transaction, QUEUED is no number.
        pipe.response_callbacks = {}  # type: ignore[assignment]
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute(raise_on_error=False)


def _lacks_scripts(replies: Sequence[Any]) -> bool:
    """Whether one of the replies, or of those within a transaction's, says so."""
    within = [reply for reply in replies if isinstance(reply, list)]
    return any(NoScriptError in map(type, each) for each in (replies, *within))
