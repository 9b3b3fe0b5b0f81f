"""Reading tokens from the Authorization header."""

from __future__ import annotations

import base64

import pytest

from worker.receiver.credentials import read_token


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
