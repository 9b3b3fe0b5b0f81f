"""Access tokens: shown once, kept as hashes, removed; and when each was last used."""

from __future__ import annotations

import pytest
import redis

from worker.errors import Conflict, Misconfigured, NotFound, Unavailable
from worker.model import RedisStoreConfiguration
from worker.records.directory import Statement, token_hash
from worker.records.records import Records
from worker.records.tables import TOKENS, write_record
from worker.records.tokens import USE_SECONDS, TokenRecords

STATEMENT = Statement(effect="allow", actions=("updateIncluded",), resources=("proj/*:env/staging:segment/*",))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def tokens(redis_client: redis.Redis) -> TokenRecords:
    return TokenRecords(redis_client)


def test_a_token_is_shown_once_and_only_its_hash_is_kept(tokens: TokenRecords, redis_client: redis.Redis) -> None:
    made, plain = tokens.add("partner", role="writer", description="of a partner", service=True)
    kept = repr(redis_client.hgetall(TOKENS))
    assert plain not in kept
    assert made.hint == plain[-4:]
    assert Records(redis_client).directory().token(plain) == made
    assert Records(redis_client).directory().token_by_id(made.id) == made


def test_two_tokens_are_never_alike(tokens: TokenRecords) -> None:
    found = {tokens.add("", role="reader")[1] for _ in range(20)}
    assert len(found) == 20
    assert min(map(len, found)) >= 40


def test_a_token_may_be_given_with_statements(tokens: TokenRecords, redis_client: redis.Redis) -> None:
    made, plain = tokens.add("partner", inline_role=[STATEMENT], plain="a-token-of-some-length")
    assert plain == "a-token-of-some-length"
    found = Records(redis_client).directory().token(plain)
    assert found == made
    assert (made.role, made.inline_role, made.may_write) == (None, (STATEMENT,), True)


def test_what_cannot_be_a_token_is_refused(tokens: TokenRecords, redis_client: redis.Redis) -> None:
    tokens.add("first", role="reader", plain="a-token-of-some-length")
    with pytest.raises(Conflict, match="this very token"):
        tokens.add("second", role="admin", plain="a-token-of-some-length")
    for plain in ("", "short", "with spaces in the middle"):
        with pytest.raises(Misconfigured, match="visible ASCII"):
            tokens.add("other", role="reader", plain=plain)
    with pytest.raises(Misconfigured, match="either a role or an inline role"):
        tokens.add("none")
    with pytest.raises(Misconfigured, match="either a role or an inline role"):
        tokens.add("both", role="reader", inline_role=[STATEMENT])
    with pytest.raises(Misconfigured, match="name is"):
        tokens.add("a\nb", role="reader")
    assert len(Records(redis_client).directory().tokens) == 1


def test_a_removed_token_is_unknown_and_so_is_its_use(tokens: TokenRecords, redis_client: redis.Redis) -> None:
    made, plain = tokens.add("partner", role="writer")
    tokens.note_use(made.id)
    tokens.tell_uses()
    assert tokens.remove(made.id) == made
    assert Records(redis_client).directory().token(plain) is None
    assert tokens.last_used() == {}
    with pytest.raises(NotFound):
        tokens.remove(made.id)


def test_a_removed_token_does_not_come_back_with_the_next_start(
    tokens: TokenRecords, redis_client: redis.Redis
) -> None:
    records, given = Records(redis_client), "a-writer-token-of-a-deployment"
    store = RedisStoreConfiguration(host="one")
    made = records.bootstrap(environment_id=None, store_configuration=store, writer_token=given)
    assert made.writer_token == given
    found = records.directory().token(given)
    assert found is not None
    tokens.remove(found.id)

    assert records.bootstrap(environment_id=None, store_configuration=store, writer_token=given).writer_token is None
    assert records.directory().token(given) is None

    tokens.add("again", role="writer", plain=given)
    assert records.bootstrap(environment_id=None, store_configuration=store, writer_token=given).writer_token == given


def test_what_a_token_may_do_can_be_changed(tokens: TokenRecords, redis_client: redis.Redis) -> None:
    made, plain = tokens.add("partner", role="admin")
    tokens.set(made.id, inline_role=[STATEMENT])
    found = Records(redis_client).directory().token(plain)
    assert found is not None
    assert (found.role, found.inline_role) == (None, (STATEMENT,))


def test_tokens_of_older_versions_are_read_and_can_be_removed(tokens: TokenRecords, redis_client: redis.Redis) -> None:
    plain = "an-older-token-of-some-length"
    old = f'{{"token_hash": "{token_hash(plain)}", "name": "writer", "role": "writer", "created_ms": 1}}'
    write_record(redis_client, TOKENS, token_hash(plain), old)
    found = Records(redis_client).directory().token(plain)
    assert found is not None
    assert (found.hint, len(found.id), found.may_write) == ("", 24, True)
    tokens.remove(found.id)
    assert Records(redis_client).directory().tokens == {}


def test_a_use_is_told_once_a_minute_and_changes_no_version(redis_client: redis.Redis) -> None:
    clock = Clock()
    tokens = TokenRecords(redis_client, clock)
    version = Records(redis_client).version()
    tokens.note_use("t")
    assert tokens.last_used() == {}
    tokens.tell_uses()
    first = tokens.last_used()["t"]

    redis_client.zrem("segsync:token_uses", "t")
    clock.now += USE_SECONDS - 1
    tokens.note_use("t")
    tokens.tell_uses()
    assert tokens.last_used() == {}

    clock.now += 1
    tokens.note_use("t")
    tokens.tell_uses()
    assert tokens.last_used()["t"] >= first
    assert Records(redis_client).version() == version


def test_a_use_never_moves_backwards(tokens: TokenRecords, redis_client: redis.Redis) -> None:
    redis_client.zadd("segsync:token_uses", {"t": 10**15})
    tokens.note_use("t")
    tokens.tell_uses()
    assert tokens.last_used() == {"t": 10**15}


def test_a_use_that_could_not_be_told_is_told_with_the_next(
    fake_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = TokenRecords(fake_redis)
    tokens.note_use("t")

    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(fake_redis, "zadd", away)
        with pytest.raises(Unavailable):
            tokens.tell_uses()
    tokens.note_use("t")
    tokens.tell_uses()
    assert list(tokens.last_used()) == ["t"]
