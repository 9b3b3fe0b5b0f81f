"""Every form of a Redis URL: what it tells, that it is written as it is read, and that a wrong one is not repeated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from worker.model import RedisStoreConfiguration
from worker.redis_url import split_address

_HOSTS = st.sampled_from(["localhost", "redis.example", "10.0.0.7", "::1", "2001:db8::17"])
_PORTS = st.integers(1, 65535)
# No URL can hold a lone surrogate.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_PATHS = st.lists(st.text("abc d%é?#", min_size=1, max_size=5), min_size=1, max_size=3).map(
    lambda parts: "/".join(["", *parts])
)


def _node(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@st.composite
def configurations(draw: st.DrawFn) -> RedisStoreConfiguration:
    mode = draw(st.sampled_from(["standalone", "cluster", "sentinel", "socket"]))
    fields: dict[str, Any] = {
        "username": draw(st.just("") | _TEXTS),
        "password": SecretStr(draw(st.just("") | _TEXTS)),
    }
    if mode != "cluster":
        fields["database"] = draw(st.integers(0, 99))
    if mode == "socket":
        return RedisStoreConfiguration(**fields, unixSocket=draw(_PATHS))
    fields |= {"mode": mode, "host": draw(_HOSTS), "port": draw(_PORTS)}
    if mode != "standalone":
        fields["nodes"] = tuple(map(_node, draw(st.lists(st.tuples(_HOSTS, _PORTS), max_size=3))))
    if mode == "sentinel":
        fields["service"] = draw(_TEXTS)
        fields["sentinelUsername"] = draw(st.just("") | _TEXTS)
        fields["sentinelPassword"] = SecretStr(draw(st.just("") | _TEXTS))
    if draw(st.booleans()):
        fields["tlsEnabled"] = True
        fields["tlsCheckHostname"] = draw(st.booleans())
        fields["tlsCaFile"] = draw(st.just("") | _TEXTS)
        if draw(st.booleans()):
            fields["tlsCertFile"], fields["tlsKeyFile"] = draw(_TEXTS), draw(_TEXTS)
    return RedisStoreConfiguration(**fields)


@given(configurations())
def test_a_url_that_was_written_reads_as_what_it_was_written_from(configuration: RedisStoreConfiguration) -> None:
    assert RedisStoreConfiguration.from_url(configuration.url.get_secret_value(), configuration.prefix) == configuration


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://redis.example", {"host": "redis.example", "port": 6379, "mode": "standalone", "database": 0}),
        ("redis://h:7000/3", {"host": "h", "port": 7000, "database": 3}),
        ("redis://:p%40ss@h", {"username": "", "password": SecretStr("p@ss")}),
        ("redis://ann:p@[::1]:7000", {"username": "ann", "host": "::1", "port": 7000}),
        ("rediss://h?ssl_ca_certs=/etc/ca.pem", {"tlsEnabled": True, "tlsCaFile": "/etc/ca.pem"}),
        ("rediss://h?ssl_check_hostname=False", {"tlsCheckHostname": False}),
        ("rediss://h?ssl_certfile=c&ssl_keyfile=k", {"tlsCertFile": "c", "tlsKeyFile": "k"}),
        ("redis+cluster://a,b:7001", {"mode": "cluster", "host": "a", "port": 6379, "nodes": ("b:7001",)}),
        ("rediss+cluster://[::1],[::2]", {"mode": "cluster", "nodes": ("[::2]:6379",), "tlsEnabled": True}),
        (
            "redis+sentinel://a,b/the%20store/2?sentinel_password=s",
            {"mode": "sentinel", "port": 26379, "nodes": ("b:26379",), "service": "the store", "database": 2},
        ),
        ("unix:///run/redis.sock?db=2", {"unixSocket": "/run/redis.sock", "database": 2}),
        ("unix://ann:p@/run/redis.sock", {"unixSocket": "/run/redis.sock", "username": "ann"}),
    ],
)
def test_a_url_tells(url: str, told: dict[str, object]) -> None:
    found = RedisStoreConfiguration.from_url(url)
    assert {name: getattr(found, name) for name in told} == told


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nothing",
        "http://secret@h",
        "redis://secret@",
        "redis://:secret@h:port",
        "redis://:secret@h:99999",
        "redis://:secret@h:0",
        "redis://:secret@h/one",
        "redis://:secret@h/-1",
        "redis://:secret#word@h",
        "redis://:secret@a,b",
        "redis://:secret@h?unheard_of=1",
        "redis://:secret@h?db=1",
        "rediss://:secret@h?ssl_check_hostname=perhaps",
        "redis://:secret@h?ssl_ca_certs=/ca.pem",
        "rediss://:secret@h?ssl_certfile=/c.pem",
        "redis+cluster://:secret@a,b/1",
        "redis+cluster://:secret@a,,b",
        "redis+sentinel://:secret@a,b",
        "redis+sentinel://:secret@a//1",
        "redis+elsewhere://:secret@h",
        "unix://:secret@host/path",
        "unix://:secret@/",
        "redis://:secret@[::1",
    ],
)
def test_what_is_no_such_url_is_told_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        RedisStoreConfiguration.from_url(url)
    assert not isinstance(raised.value, ValidationError)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("address", ["", "h:0", "h:x", "a@b", "h/path", ":7000", "h:70000"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        split_address(address, 6379)


def test_the_text_of_a_configuration_shows_where_it_is_and_no_secret() -> None:
    for url in (
        "redis://u:secret@h/1",
        "redis+cluster://:secret@a,b",
        "redis+sentinel://:secret@a/svc?sentinel_password=secret",
        "unix://:secret@/s",
    ):
        configuration = RedisStoreConfiguration.from_url(url)
        assert "secret" not in str(configuration) + repr(configuration)
