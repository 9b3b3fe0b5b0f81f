"""The Lua scripts of this folder, and how they are called: by digest, loaded once when the server lacks them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

from worker.state import state_errors

_FOLDER = Path(__file__).parent / "lua"
_BEGIN = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)
_COMMENT = re.compile(r"--.*")


class Script:
    """One Lua file behind what it uses of the prelude."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = _with_prelude((_FOLDER / f"{name}.lua").read_text())
        # What the server calls it; EVALSHA takes nothing else.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, base: str, *arguments: Any) -> Any:
        """Run it on one segment.

        Raises:
            Unavailable: the state server is away, or refused.
        """
        with state_errors():
            try:
                return client.evalsha(self.sha, 1, base, *arguments)
            except NoScriptError:
                return client.eval(self.text, 1, base, *arguments)


def _with_prelude(text: str) -> str:
    """A script behind those definitions of the prelude that it names, and that those name.

    Each is made anew by every call: all of them take 3 µs, a tenth of a simple script.
    """
    prelude = _COMMENT.sub("", (_FOLDER / "_prelude.lua").read_text())
    begins = list(_BEGIN.finditer(prelude))
    ends = [*(begin.start() for begin in begins[1:]), len(prelude)]
    for begin, end in reversed(list(zip(begins, ends, strict=True))):
        if re.search(rf"\b{begin[1]}\b", _COMMENT.sub("", text)):
            text = prelude[begin.start() : end] + text
    return text


@cache
def script(name: str) -> Script:
    """The script of that name."""
    return Script(name)


def run_pipeline(client: redis.Redis, queue: Callable[[Any], None], *names: str) -> list[Any]:
    """Run the commands that ``queue`` queues in one round trip, the scripts ``names`` among them by digest.

    A server that does not know the scripts is told them, and everything is run once more: what ``queue`` queues must
    bear that. Other error replies are returned in their places, not raised.

    Raises:
        Unavailable: the state server is away; what was queued may have been done.
    """
    with state_errors(), client.pipeline(transaction=False) as pipe:
        queue(pipe)
        replies: list[Any] = pipe.execute(raise_on_error=False)
        if any(isinstance(reply, NoScriptError) for reply in _flat(replies)):
            for name in names:
                client.script_load(script(name).text)
            queue(pipe)
            replies = pipe.execute(raise_on_error=False)
        return replies


def _flat(replies: list[Any]) -> Iterator[Any]:
    """The replies, and those within a transaction's."""
    for reply in replies:
        yield from reply if isinstance(reply, list) else [reply]
