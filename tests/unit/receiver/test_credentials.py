"""Reading tokens from the Authorization header."""

from __future__ import annotations

import base64

import pytest

from worker.receiver.credentials import Authenticator, read_token
from worker.receiver.refusals import Refused
from worker.records.directory import Directory, Token, token_hash

_TOKEN = Token(token_hash=token_hash("abc-123"), name="a", role="writer", created_ms=0)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("abc-123", "abc-123"),
        ("  abc-123  ", "abc-123"),
        ("Bearer abc-123", "abc-123"),
        ("bearer   abc-123", "abc-123"),
        ("Basic " + base64.b64encode(b"user:abc-123").decode(), "abc-123"),
        ("Basic " + base64.b64encode(b":abc:123").decode(), "abc:123"),
        ("Basic !!!", None),
        ("Basic \xe9", None),
        ("Basic \xe9\xff=", None),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), None),
        ("Basic " + base64.b64encode(b"no colon").decode(), None),
        ("Digest abc", None),
        ("", None),
        (None, None),
    ],
)
def test_a_token_is_read_from(header: str | None, token: str | None) -> None:
    assert read_token(header) == token


def test_a_token_is_known_again_and_no_longer_once_the_records_are_without_it() -> None:
    authenticator = Authenticator()
    records = Directory(version="1", tokens={_TOKEN.token_hash: _TOKEN})
    assert authenticator.authenticate(records, "Bearer abc-123") == _TOKEN
    assert authenticator.authenticate(records, "Bearer abc-123") is _TOKEN
    with pytest.raises(Refused, match="Invalid"):
        authenticator.authenticate(Directory(version="2"), "Bearer abc-123")


def test_one_token_spelled_in_many_ways_is_known_in_each_and_remembered_in_some() -> None:
    authenticator = Authenticator()
    records = Directory(version="1", tokens={_TOKEN.token_hash: _TOKEN})
    for spaces in range(3000):
        assert authenticator.authenticate(records, "Bearer" + " " * (spaces + 1) + "abc-123") == _TOKEN
    assert len(authenticator._known) <= 1000
