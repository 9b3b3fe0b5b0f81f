"""Who uploads: the right is asked before the file is read, and no slow or many uploads hold the API up."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from management_api import ManagementApi, managed
from servers import ValkeyServer

from worker.api.uploads import GRACE_SECONDS, MOST_AT_ONCE

G = "/segments/default/production"
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nann\n'


@pytest.fixture
def api(valkey: ValkeyServer, tmp_path: Path) -> Iterator[ManagementApi]:
    with managed(valkey, tmp_path) as running:
        running.request("POST", G, 201, json={"key": "s", "name": "S"})
        yield running


def begin(api: ManagementApi, token: str) -> socket.socket:
    """An upload of a megabyte that stops after its first bytes."""
    parts = urlsplit(api.url)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=60)
    head = (
        f"POST /api/v2{G}/s/imports HTTP/1.1\r\nHost: h\r\nAuthorization: {token}\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    connection.sendall(head.encode() + FORM)
    return connection


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(65536).split(b" ")[1])


def partner(api: ManagementApi, segment_key: str) -> str:
    resource = f"proj/default:env/production:segment/{segment_key}"
    statement = {"effect": "allow", "actions": ["updateIncluded"], "resources": [resource]}
    return str(api.request("POST", "/tokens", 201, json={"inlineRole": [statement]})["token"])


def test_who_may_not_import_is_refused_before_the_file_is_read(api: ManagementApi) -> None:
    reader = str(api.request("POST", "/tokens", 201, json={"role": "reader"})["token"])
    for token, expected in ((reader, 403), (partner(api, "another"), 403), ("segsync-" + "0" * 40, 401)):
        began = time.monotonic()
        with begin(api, token) as connection:
            assert status_of(connection) == expected
        assert time.monotonic() - began < GRACE_SECONDS


def test_few_uploads_are_read_at_once_slow_ones_are_cut_and_the_api_answers_meanwhile(api: ManagementApi) -> None:
    token = partner(api, "s")
    form = {"data": {"mode": "merge"}, "files": {"file": ("f", b"ann\n")}}
    with ExitStack() as stack:
        slow = [stack.enter_context(begin(api, token)) for _ in range(MOST_AT_ONCE)]
        refused = stack.enter_context(begin(api, token))
        assert status_of(refused) == 429
        api.request("GET", G, 200)
        assert [status_of(connection) for connection in slow] == [400] * MOST_AT_ONCE
    api.request("POST", f"{G}/s/imports", 204, token=token, **form)
