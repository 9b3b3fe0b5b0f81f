"""Access tokens: made, shown once, removed; and when each was last used."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import redis

from worker.errors import Conflict, Misconfigured, NotFound
from worker.records.change import change_records
from worker.records.directory import Directory, Token, token_hash
from worker.records.keys import check_name
from worker.records.rights import Role, Statement
from worker.records.tables import REVOKED, TOKENS, USES, Writes
from worker.state import state_errors

# Tokens are kept as plain hashes, which only keeps long ones secret; and they must pass through a header as they are.
_SHORTEST: Final = 16
_LONGEST: Final = 512
_TOKEN: Final = re.compile(rf"[\x21-\x7e]{{{_SHORTEST},{_LONGEST}}}")
_LONGEST_DESCRIPTION: Final = 4096
_HINT: Final = 4
# How exactly it is known when a token was last used: a process tells once in so long.
USE_SECONDS: Final = 60.0


class TokenRecords:
    """Adds and removes tokens, and notes their use. Running receivers follow within seconds. Safe between threads."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}
        self._waiting: dict[str, int] = {}

    def add(
        self,
        name: str,
        *,
        role: Role | None = None,
        inline_role: Sequence[Statement] = (),
        description: str = "",
        service: bool = False,
        api_version: int | None = None,
        plain: str | None = None,
    ) -> tuple[Token, str]:
        """Make a token.

        Args:
            name: for people; "" for none. Several tokens may have one name.
            role: what it may do, unless ``inline_role`` says it.
            inline_role: what it may do, in statements.
            description: for people.
            service: whether it is a program's.
            api_version: the version of the API that its user asks for.
            plain: the token itself; None: a new one, of 160 random bits.

        Returns:
            Its record, and the token: kept nowhere, so this is the only time that anybody can be told.

        Raises:
            Misconfigured: it has neither role nor statements, or both; or the token, the name or the description given
                cannot be one.
            Conflict: there is this very token already.
            Unavailable: the state server is away; it was made, and nobody knows it, or not.
        """
        _check_rights(role, inline_role)
        if name:
            check_name("a token's name", name)
        if len(description) > _LONGEST_DESCRIPTION:
            raise Misconfigured(f"a token's description is {_LONGEST_DESCRIPTION} characters at the most")
        text = f"segsync-{secrets.token_hex(20)}" if plain is None else plain
        check_token("a", text)
        made = new_token(
            text,
            name=name,
            role=role,
            inline_role=inline_role,
            description=description,
            service=service,
            api_version=api_version,
        )

        def decide(directory: Directory) -> tuple[Token, Writes]:
            if made.token_hash in directory.tokens:
                raise Conflict("there is this very token already; choose another")
            return made, lambda pipe: queue_token(pipe, made)

        return change_records(self._client, decide), text

    def set(self, token_id: str, *, role: Role | None = None, inline_role: Sequence[Statement] = ()) -> Token:
        """Change what a token may do; the token itself stays. It takes effect within five seconds.

        Raises:
            NotFound: there is no such token.
            Misconfigured: it would have neither role nor statements, or both.
            Unavailable: the state server is away; it was changed or not.
        """
        _check_rights(role, inline_role)
        rights = {"role": role, "inline_role": tuple(inline_role)}

        def decide(directory: Directory) -> tuple[Token, Writes | None]:
            known = _known(directory, token_id)
            changed = known.model_copy(update=rights)
            return changed, None if changed == known else lambda pipe: queue_token(pipe, changed)

        return change_records(self._client, decide)

    def remove(self, token_id: str) -> Token:
        """Remove a token: nobody can use it any more, within five seconds.

        Nor does the next start make it again, of `segsync up` or of a deployment that runs `segsync init` with it; who
        adds it by hand does.

        Returns:
            What was removed.

        Raises:
            NotFound: there is no such token.
            Unavailable: the state server is away; it was removed or not.
        """

        def decide(directory: Directory) -> tuple[Token, Writes]:
            found = _known(directory, token_id)

            def queue(pipe: Any) -> None:
                pipe.hdel(TOKENS, found.token_hash)
                pipe.sadd(REVOKED, found.token_hash)
                pipe.zrem(USES, found.id)

            return found, queue

        return change_records(self._client, decide)

    def note_use(self, token_id: str) -> None:
        """Note that a token is used now; asks nobody. ``tell_uses`` tells."""
        now = self._clock()
        if now - self._told.get(token_id, -USE_SECONDS) >= USE_SECONDS:
            with self._lock:
                self._told[token_id] = now
                self._waiting[token_id] = int(time.time() * 1000)

    def tell_uses(self) -> None:
        """Tell what was noted, in one round trip; nobody is asked where nothing was.

        Raises:
            Unavailable: the state server is away; those uses are forgotten, and the next ones told again.
        """
        with self._lock:
            uses, self._waiting = self._waiting, {}
        if not uses:
            return
        try:
            with state_errors():
                # Never backwards: clocks differ, and whoever tells may have waited.
                self._client.zadd(USES, uses, gt=True)
        except BaseException:
            for token_id in uses:
                self._told.pop(token_id, None)
            raise

    def last_used(self) -> dict[str, int]:
        """When each token was last used, within a minute or two (epoch ms), by id; of those never used, nothing.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("list[tuple[bytes, float]]", self._client.zrange(USES, 0, -1, withscores=True))
        return {token_id.decode(): int(used_ms) for token_id, used_ms in found}


def new_token(
    plain: str,
    *,
    name: str,
    role: Role | None,
    inline_role: Sequence[Statement] = (),
    description: str = "",
    service: bool = False,
    api_version: int | None = None,
) -> Token:
    """The record of a token that is about to be made; parameters as those of ``TokenRecords.add``."""
    return Token(
        token_hash=token_hash(plain),
        name=name,
        role=role,
        created_ms=int(time.time() * 1000),
        token_id=secrets.token_hex(12),
        description=description,
        inline_role=tuple(inline_role),
        hint=plain[-_HINT:],
        service=service,
        api_version=api_version,
    )


def is_revoked(client: redis.Redis, token_hash: str) -> bool:
    """Whether the token with that hash was removed, and not added since.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        return bool(client.sismember(REVOKED, token_hash))


def check_token(whose: str, plain: str) -> None:
    """Refuse what would not be secret, or not pass through a header.

    Raises:
        Misconfigured: see there; the token is not repeated.
    """
    if not _TOKEN.fullmatch(plain):
        raise Misconfigured(f"{whose} token is {_SHORTEST} to {_LONGEST} visible ASCII characters, without spaces")


def queue_token(pipe: Any, token: Token) -> None:
    """Queue what writes a token."""
    pipe.hset(TOKENS, token.token_hash, token.model_dump_json())
    pipe.srem(REVOKED, token.token_hash)


def _known(directory: Directory, token_id: str) -> Token:
    found = directory.token_by_id(token_id)
    if found is None:
        raise NotFound("there is no such token")
    return found


def _check_rights(role: Role | None, inline_role: Sequence[Statement]) -> None:
    if (role is None) == (not inline_role):
        raise Misconfigured("a token has either a role or an inline role")
