from __future__ import annotations

import socket
import ssl

import hiredis
import pytest
import redis
from redis._parsers.base import BaseParser

from worker.stores.redis.faults import unavailable

WHERE = "store.example:6379"


def parse_error(reply: str) -> Exception:
    error: Exception = BaseParser.parse_error(reply)
    return error


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM: it is out of memory"),
        ("READONLY You can't write against a read only replica.", "READONLY: it is a read-only replica"),
        ("NOAUTH Authentication required.", "NOAUTH: it wants a password"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS: it refuses the username"),
        ("ERR invalid password", "WRONGPASS: it refuses the username or password"),
        ("NOPERM User ann has no permissions to run the 'sadd' command", "NOPERM: its user lacks a permission"),
        ("ERR ACL failure in script: User ann has no permissions to run 'set'", "NOPERM: its user lacks a permission"),
        ("LOADING Redis is loading the dataset in memory", "LOADING: it is loading its data"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "MISCONF: it cannot save to disk"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE: a key of the layout"),
        ("MOVED 3999 127.0.0.1:6381", "MOVED: it is a node of a cluster"),
        ("ERR DB index is out of range", "ERR: it does not know a command or its database number"),
        ("NEWFANGLED nobody knows this one yet", "NEWFANGLED: see the documentation"),
        ("ERR max number of clients reached", "max number of clients reached"),
    ],
)
def test_an_error_reply_says_where_what_and_what_to_do(reply: str, told: str) -> None:
    error = unavailable(parse_error(reply), WHERE)
    assert WHERE in str(error)
    assert told in str(error)
    assert error.dependency == "store"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "transient"),
        ("LOADING Redis is loading the dataset in memory", "transient"),
        ("BUSY Redis is busy running a script.", "transient"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "transient"),
        ("NOREPLICAS Not enough good replicas to write.", "transient"),
        ("ERR max number of clients reached", "transient"),
        ("NEWFANGLED nobody knows this one yet", "transient"),
        ("READONLY You can't write against a read only replica.", "configuration"),
        ("MASTERDOWN Link with MASTER is down", "configuration"),
        ("NOAUTH Authentication required.", "configuration"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "configuration"),
        ("ERR invalid password", "configuration"),
        ("DENIED Redis is running in protected mode", "configuration"),
        ("NOPERM User ann has no permissions to run the 'sadd' command", "configuration"),
        ("ERR DB index is out of range", "configuration"),
        ("ERR unknown command 'EVAL'", "configuration"),
        ("MOVED 3999 127.0.0.1:6381", "configuration"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "configuration"),
        ("CLUSTERDOWN The cluster is down", "configuration"),
    ],
)
def test_a_refusal_says_how_soon_to_try_again_whoever_has_read_it(fault: str, kind: str) -> None:
    for of_a_member in (True, False):
        assert unavailable(parse_error(fault), WHERE, of_a_member=of_a_member).fault == kind
    if not fault.startswith(("ERR max", "ERR invalid")):  # those come before a bulk write can begin
        assert unavailable(hiredis.ReplyError(fault), WHERE, of_a_member=True).fault == kind


@pytest.mark.parametrize(
    ("fault", "alone", "among_nodes"),
    [
        ("MOVED 3999 127.0.0.1:6381", "configuration", "transient"),
        ("ASK 3999 127.0.0.1:6381", "configuration", "transient"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "configuration", "transient"),
        ("CLUSTERDOWN The cluster is down", "configuration", "transient"),
        ("READONLY You can't write against a read only replica.", "configuration", "transient"),
        ("MASTERDOWN Link with MASTER is down", "configuration", "transient"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "configuration", "configuration"),
        ("NOAUTH Authentication required.", "configuration", "configuration"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "transient", "transient"),
    ],
)
def test_what_one_server_is_set_up_wrongly_for_passes_by_itself_among_several(
    fault: str, alone: str, among_nodes: str
) -> None:
    assert unavailable(hiredis.ReplyError(fault), WHERE).fault == alone
    assert unavailable(hiredis.ReplyError(fault), WHERE, among_nodes=True).fault == among_nodes


def test_a_node_of_a_cluster_says_how_the_url_of_a_cluster_begins() -> None:
    for reply in ("MOVED 3999 127.0.0.1:6381", "CLUSTERDOWN The cluster is down", "CROSSSLOT Keys in request"):
        assert "redis+cluster://" in str(unavailable(parse_error(reply), WHERE))


def test_a_key_of_another_type_is_one_contexts_trouble_or_the_whole_stores() -> None:
    spoilt = parse_error("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert unavailable(spoilt, WHERE, of_a_member=True).fault == "item"
    assert unavailable(spoilt, WHERE).fault == "configuration"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (TimeoutError("timed out"), "transient"),
        (redis.TimeoutError("Timeout reading from socket"), "transient"),
        (redis.exceptions.MaxConnectionsError("Too many connections"), "transient"),
        (redis.ConnectionError("Connection closed by server."), "transient"),
        (ConnectionRefusedError(111, "refused"), "transient"),
        (hiredis.ProtocolError("Protocol error, got 'H' as reply type byte"), "transient"),
        (ssl.SSLCertVerificationError(1, "Hostname mismatch"), "configuration"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "transient"),
    ],
    ids=repr,
)
def test_a_connection_that_fails_says_how_soon_to_try_again(fault: Exception, kind: str) -> None:
    assert unavailable(fault, WHERE, of_a_member=True).fault == kind


def test_an_error_reply_of_a_bulk_write_says_the_same() -> None:
    through_redis_py = unavailable(parse_error("OOM command not allowed"), WHERE)
    assert str(unavailable(hiredis.ReplyError("OOM command not allowed"), WHERE)) == str(through_redis_py)


def test_the_text_of_an_error_reply_is_not_repeated_for_it_may_quote_arguments() -> None:
    error = unavailable(parse_error("ERR unknown command 'X', with args beginning with: 'secret'"), WHERE)
    assert "secret" not in str(error)


@pytest.mark.parametrize("fault", [TimeoutError("timed out"), redis.TimeoutError("Timeout reading from socket")])
def test_a_timeout_is_told_as_one(fault: Exception) -> None:
    assert "no answer in time" in str(unavailable(fault, WHERE))


@pytest.mark.parametrize("fault", [ConnectionRefusedError(111, "refused"), redis.ConnectionError("refused")])
def test_a_connection_that_cannot_be_had_is_told_with_its_reason(fault: Exception) -> None:
    assert "refused" in str(unavailable(fault, WHERE))


def test_an_unknown_fate_is_told_and_carried() -> None:
    error = unavailable(TimeoutError(), WHERE, fate_unknown=True)
    assert error.fate_unknown
    assert "may still land" in str(error)
