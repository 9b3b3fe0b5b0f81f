"""After a full run, no secret and no token stands in the state server, in a log, an answer or what was printed."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from management_api import SETTINGS, ManagementApi, managed
from servers import DURABLE, ValkeyServer, wait_until

R = "/api/v2/integration-capabilities/big-segment-store"


def secret(name: str) -> str:
    """A text that nothing else holds, and that nobody would compress away."""
    return f"{name}-{secrets.token_hex(16)}"


class Run:
    """A full run, with everything that anybody was told in it."""

    def __init__(self, api: ManagementApi) -> None:
        self.api = api
        self.told: list[str] = []
        self.secrets: dict[str, str] = {"admin": api.admin_token, "writer": api.writer_token}

    def ask(self, method: str, path: str, *, token: str | None = None, expected: int, **options: Any) -> Any:
        """One request; its answer is kept, headers and all, but for a new token, which is shown this once."""
        headers = {
            "Authorization": self.api.admin_token if token is None else token,
            "LD-API-Version": "beta",
            **options.pop("headers", {}),
        }
        answer: httpx2.Response = self.api.http.request(method, path, headers=headers, **options)
        assert answer.status_code == expected, f"{method} {path}: {answer.status_code} {answer.text}"
        body = answer.json() if answer.content and "json" in answer.headers.get("content-type", "") else {}
        text = answer.text
        if (method, path, expected) == ("POST", "/api/v2/tokens", 201):
            text = text.replace(body["token"], "")
        self.told.append(f"{answer.headers!r} {text}")
        return body

    def command(self, *arguments: str) -> None:
        self.told.append(self.api.deployment.command(*arguments))


@pytest.fixture
def run(start_valkey: Callable[..., ValkeyServer], tmp_path: Path) -> Iterator[Run]:
    state = start_valkey(DURABLE, password=secret("state"))
    settings = {**SETTINGS, "SEGSYNC_LOG_LEVEL": "debug"}
    with managed(state, tmp_path, settings) as api:
        api.deployment.start("worker")
        api.deployment.start("scheduler")
        yield Run(api)


def stores(run: Run) -> None:
    """Stores of each kind, made, changed, read, refused and removed."""
    base = f"{R}/default/production"
    known = run.secrets
    for name in ("redis", "patched", "wrong", "conflicting", "sentinel", "launchdarkly"):
        known[name] = secret(name)
    config = {"host": "127.0.0.1", "port": "1", "username": "default", "password": known["redis"], "prefix": "a"}
    made = run.ask("POST", f"{base}/redis", expected=201, json={"name": "one", "on": True, "config": config})
    here = f"{base}/redis/{made['_id']}"
    run.ask("GET", here, expected=200)
    run.ask("GET", R, expected=200)
    run.ask("PATCH", here, expected=200, json=[{"op": "replace", "path": "/config", "value": made["config"]}])
    for operations, expected in (
        ([{"op": "replace", "path": "/config/password", "value": known["patched"]}], 200),
        ([{"op": "test", "path": "/config/password", "value": known["patched"]}], 409),
        ([{"op": "copy", "from": "/config/password", "path": "/name"}], None),
        ([{"op": "replace", "path": "/config/pasword", "value": known["wrong"]}], None),
        ([{"op": "replace", "path": "/config/port", "value": known["wrong"]}], 400),
    ):
        answer = run.api.http.patch(
            here, json=operations, headers={"Authorization": run.api.admin_token, "LD-API-Version": "beta"}
        )
        run.told.append(answer.text)
        assert expected in {None, answer.status_code}, answer.text
        assert answer.status_code < 500
    conflicting = {**config, "password": known["conflicting"]}
    run.ask("POST", f"{base}/redis", expected=409, json={"config": conflicting})
    run.ask("POST", f"{base}/redis", expected=400, json={"config": {**config, "host": 3, "password": known["wrong"]}})
    dynamo = {"tableName": "t", "region": "eu-west-1", "roleArn": "arn:aws:iam::123456789012:role/r"}
    table = run.ask("POST", f"{base}/dynamodb", expected=201, json={"name": "t", "on": False, "config": dynamo})
    run.ask("DELETE", f"{base}/dynamodb/{table['_id']}", expected=204)
    run.command(
        *("store", "add", "federal", "--launchdarkly-project", "p", "--launchdarkly-environment", "e"),
        *("--launchdarkly-uri", "http://127.0.0.1:1", "--access-token", known["launchdarkly"]),
    )
    run.command(
        *("store", "add", "sentinels", "--redis-url"),
        f"redis+sentinel://:{known['sentinel']}@127.0.0.1:1/mymaster?sentinel_password={known['sentinel']}",
    )
    run.command("store", "list")
    run.command("store", "show", "federal")
    run.command("keys", "rotate")


def tokens(run: Run) -> None:
    """Tokens made, used, misspelled, removed."""
    for name in ("guess", "basic", "file"):
        run.secrets[name] = secret(name)
    made = run.ask("POST", "/api/v2/tokens", expected=201, json={"name": "made", "role": "writer"})
    run.secrets["made"] = made["token"]
    run.ask("GET", "/api/v2/tokens", expected=200)
    run.ask("GET", "/api/v2/projects", token=made["token"], expected=200)
    run.ask("POST", "/api/v2/tokens", token=made["token"], expected=403, json={"name": "more", "role": "admin"})
    run.ask("GET", "/api/v2/projects", token=run.secrets["guess"], expected=401)
    basic = base64.b64encode(f"user:{run.secrets['basic']}".encode()).decode()
    run.secrets["basic, encoded"] = basic
    run.ask("GET", "/api/v2/projects", token=f"Basic {basic}", expected=401)
    run.ask("GET", "/api/v2/nowhere", token=made["token"], expected=404)
    declared = run.api.deployment.directory / "segsync.toml"
    (declared.parent / "token").write_text(run.secrets["file"])
    declared.write_text('[tokens.declared]\nrole = "reader"\nvalue = { file = "token" }\n')
    run.command("apply", "-f", str(declared))
    (declared.parent / "token").unlink()
    run.command("token", "list")
    run.ask("DELETE", f"/api/v2/tokens/{made['_id']}", expected=204)


def payloads(run: Run) -> None:
    """Payloads that are accepted, refused and not let in."""
    body = {
        "environmentId": run.api.environment_id, "cohortId": "c", "cohortName": "C", "contextKind": "user",
        "listData": {"add": [{"id": "ann"}], "remove": []},
    }  # fmt: skip
    path = "/api/v2/segment-targets/rudderstack"
    run.ask("POST", path, token=run.api.writer_token, expected=204, json=body)
    run.ask("POST", path, token=f"Bearer {run.api.writer_token}", expected=204, json=body)
    run.ask("POST", path, token=run.api.writer_token, expected=400, json={**body, "listData": {"add": 3}})
    run.ask("POST", path, token=run.secrets["guess"], expected=401, json=body)
    member = "/api/v2/segments/default/production/rudderstack-c/contexts/ann"
    wait_until(lambda: run.ask("GET", member, expected=200)["included"])
    # What lies at a closed port is tried, and told of.
    wait_until(lambda: "circuit.opened" in run.api.deployment.logs())
    run.ask("GET", R, expected=200)
    for address in ("/readyz", "/healthz", "/api/v2/batches", "/api/v2/openapi.json", "/api/v2/versions"):
        run.ask("GET", address, expected=200)


def content(client: redis.Redis) -> Iterator[str]:
    """Everything in the state server, key by key, and as the server itself writes it down."""
    read: dict[str, Callable[[bytes], object]] = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1),
        "stream": client.xrange,
    }
    for key in client.scan_iter(count=1000):
        kind: Any = client.type(key)
        yield f"{key!r} {read[kind.decode()](key)!r}"


def test_no_secret_and_no_token_is_anywhere_after_a_full_run(run: Run) -> None:
    run.secrets["state"] = run.api.deployment.state.password
    stores(run)
    tokens(run)
    payloads(run)
    deployment = run.api.deployment
    with deployment.state.client(decode_responses=False) as client:
        places = {"the state server": "\n".join(content(client))}
    deployment.stop()
    deployment.state.stop()
    written = [path for path in deployment.state.directory.rglob("*") if path.is_file() and path.suffix != ".log"]
    assert written, "the state server writes its data down"
    places |= {f"the state server's {path.name}": path.read_bytes().decode("latin-1") for path in written}
    places["logs"] = deployment.logs()
    places["answers"] = "\n".join(run.told)
    assert "drain.done" in places["logs"]
    assert "fernet:" in places["the state server"]
    assert len(run.secrets) > 12
    found = [(name, place) for name, text in run.secrets.items() for place, held in places.items() if text in held]
    assert found == []
    # And nothing of it in another spelling.
    for name, text in run.secrets.items():
        spelled = (base64.b64encode(text.encode()).decode(), json.dumps(text)[1:-1], text.encode().hex())
        assert not [(name, place) for place, held in places.items() for each in spelled if each in held]
