"""``/api/v2/batches`` over HTTP, in this process, on a real state server."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import redis
from replay_builders import apply, die, publish, reject
from servers import ValkeyServer, free_port
from starlette.testclient import TestClient
from sync_builders import Installation

from worker.api import batches as api
from worker.asgi import create_service
from worker.records.directory import Token, token_hash
from worker.records.tables import TOKENS, write_record
from worker.settings import Settings
from worker.sync.batches import Batches, BatchFilter

BASE = "/api/v2/batches"
READER = "a-reader-of-sixteen-or-more"


@pytest.fixture
def installation(real_redis: redis.Redis) -> Installation:
    installed = Installation(real_redis)
    publish(installed, installed.manifest.parser)
    reader = Token(token_hash=token_hash(READER), name="dashboard", role="reader", created_ms=0)
    write_record(real_redis, TOKENS, reader.token_hash, reader.model_dump_json())
    return installed


@pytest.fixture
def client(installation: Installation, valkey: ValkeyServer) -> Iterator[TestClient]:
    settings = Settings(state_url=valkey.url, durability="memory")
    headers = {"Authorization": str(installation.made.admin_token)}
    with TestClient(create_service(settings), headers=headers, raise_server_exceptions=False) as started:
        yield started


def get(client: TestClient, path: str = "", expected: int = 200, **parameters: Any) -> Any:
    answer = client.get(BASE + path, params=parameters or None)  # empty ones would take those of the path away
    assert answer.status_code == expected, answer.text
    return answer.json()


def post(client: TestClient, path: str, body: Any = None, status: int = 200, token: str = "") -> Any:
    headers = {"Authorization": token} if token else {}
    content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    answer = client.post(BASE + path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def waiting(installation: Installation) -> list[str]:
    return [batch.status for batch in Batches(installation.wiring).newest_first(BatchFilter())]


def test_what_waits_is_listed_with_all_that_is_known(client: TestClient, installation: Installation) -> None:
    die(installation, add=("ann",))
    position = reject(installation, installation.body(add=("bob",)))
    rejected, dead = get(client)["items"]
    assert rejected == {
        "id": "refused-1",
        "status": "rejected",
        "acceptedAt": int(position.split("-")[0]),
        "position": position,
        "integrationKey": "rudderstack",
        "environmentId": None,
        "segmentKey": None,
        "generation": None,
        "reason": "members",
        "message": "the add array is missing",
        "pointer": "/listData/plus",
        "attempts": 1,
        "bytes": len(installation.body(add=("bob",))),
        "decision": None,
        "_links": {"self": {"href": f"{BASE}/refused-1", "type": "application/json"}},
    }
    assert (dead["status"], dead["segmentKey"], dead["generation"]) == ("dead", "rudderstack-beta", 1)
    assert dead["environmentId"] == installation.environment_id


def test_pages_are_linked(client: TestClient, installation: Installation) -> None:
    for number in range(5):
        reject(installation, b"{}", f"refused-{number}")
    page = get(client, limit=2, integrationKey="rudderstack")
    seen = [batch["id"] for batch in page["items"]]
    while "next" in page["_links"]:
        answer = client.get(page["_links"]["next"]["href"])
        page = answer.json()
        seen += [batch["id"] for batch in page["items"]]
    assert seen == [f"refused-{number}" for number in reversed(range(5))]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"status": "rejected"}, ["refused-1"]),
        ({"status": "dead,rejected"}, ["refused-1", "dead"]),
        ({"status": "discarded"}, []),
        ({"reason": "cohort"}, ["dead"]),
        ({"segmentKey": "rudderstack-beta"}, ["dead"]),
        ({"environment": "production"}, ["dead"]),
        ({"environment": "default/production"}, ["dead"]),
        ({"integrationKey": "hightouch"}, []),
        ({"until": 1}, []),
        ({"since": 1}, ["refused-1", "dead"]),
    ],
)
def test_a_list_is_filtered(
    client: TestClient, installation: Installation, parameters: dict[str, Any], found: list[str]
) -> None:
    die(installation, add=("ann",))
    reject(installation, b"{}")
    listed = [batch["id"] for batch in get(client, **parameters)["items"]]
    assert ["refused-1" if batch_id == "refused-1" else "dead" for batch_id in listed] == found


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"since": "yesterday"}, "since"),
        ({"until": "-1"}, "until"),
        ({"until": str(2**70)}, "until"),
        ({"status": "lost"}, "status"),
        ({"status": ""}, "status"),
        ({"before": "x"}, "before"),
        ({"before": "1-x/y"}, "before"),
        ({"environment": "nowhere"}, "environment"),
        ({"integration": "rudderstack"}, "integration"),
        ({"reason": "x" * 2000}, "reason"),
    ],
)
def test_a_malformed_parameter_is_400_and_named(client: TestClient, parameters: dict[str, str], named: str) -> None:
    answer = get(client, expected=400, **parameters)
    assert answer["code"] == "invalid_request"
    assert named in answer["message"]


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (
            "?integration=x",
            "known: status, reason, integrationKey, environment, segmentKey, since, until, limit, before",
        ),
        ("/refused-1?limit=1", "known: none"),
    ],
)
def test_of_an_unknown_parameter_the_known_ones_are_told(client: TestClient, path: str, known: str) -> None:
    assert get(client, path, 400)["message"].endswith(known)


@pytest.mark.parametrize(
    ("path", "body", "known"),
    [
        ("/replay", {"dryRun": True}, "`dryRun`; known: filter, all, preview, before"),
        (
            "/replay",
            {"filter": {"integration": "x"}},
            "known: status, reason, integrationKey, environment, segmentKey, since, until",
        ),
        ("/refused-1/replay", {"all": True}, "`all`; known: preview"),
        ("/refused-1/discard", {"why": "x", "by": "me"}, "`by`; known: why"),
    ],
)
def test_of_an_unknown_field_the_known_ones_are_told(
    client: TestClient, path: str, body: dict[str, Any], known: str
) -> None:
    assert post(client, path, body, 400)["message"].endswith(known)


def test_a_repeated_status_means_any_of_them_on_every_page(client: TestClient, installation: Installation) -> None:
    for number in range(2):
        reject(installation, installation.body(add=("ann",)), f"refused-{number}")
    post(client, "/refused-0/replay", {"preview": False})
    post(client, "/refused-1/discard", {"why": "a test"})
    reject(installation, b"{}", "refused-2")
    page = get(client, "?status=replayed&status=discarded&limit=1")
    assert [batch["status"] for batch in page["items"]] == ["discarded"]
    page = client.get(page["_links"]["next"]["href"]).json()
    assert [batch["status"] for batch in page["items"]] == ["replayed"]


def test_another_parameter_is_said_once(client: TestClient) -> None:
    assert "'limit' is there more than once" in get(client, "?limit=1&limit=2", 400)["message"]


def test_a_batch_is_shown_with_its_outline_and_what_a_replay_would_do(
    client: TestClient, installation: Installation
) -> None:
    installation.accept(add=("cyd",))
    apply(installation)
    reject(installation, installation.body(add=("ann", "bob"), remove=("cyd",)))
    found = get(client, "/refused-1")
    assert [entry["status"] for entry in found["entries"]] == ["rejected"]
    assert found["outline"]["shape"]["keys"]["listData"]["keys"]["add"]["length"] == 2
    [target] = found["replay"]["segments"]
    assert (target["segmentKey"], target["added"], target["removed"]) == ("rudderstack-beta", 2, 1)
    assert found["replay"]["possible"]
    assert "ann" not in json.dumps(found["outline"])


def test_of_a_batch_that_nobody_can_parse_the_place_is_shown(client: TestClient, installation: Installation) -> None:
    reject(installation, json.dumps({"environmentId": installation.environment_id, "cohortId": []}).encode())
    found = get(client, "/refused-1")
    assert (found["replay"]["possible"], found["replay"]["reason"]) == (False, "cohort")
    assert found["replay"]["pointer"] == "/cohortId"
    reject(installation, b'{"a": ', "refused-2")
    assert get(client, "/refused-2")["outline"] == {
        "length": 6,
        "json": False,
        "cut": False,
        "shape": {"type": "object", "length": 0},
        "fault": "it ends too early",
        "faultAt": 6,
    }


def test_a_replay_is_a_preview_unless_it_is_said_otherwise(client: TestClient, installation: Installation) -> None:
    reject(installation, installation.body(add=("ann",)))
    for body in (None, {}, {"preview": True}):
        answer = post(client, "/refused-1/replay", body)
        assert (answer["preview"], answer["total"]["added"]) == (True, 1)
    assert waiting(installation) == ["rejected"]


def test_an_admin_replays_a_batch(client: TestClient, installation: Installation) -> None:
    reject(installation, installation.body(add=("ann",)))
    answer = post(client, "/refused-1/replay", {"preview": False})
    assert (answer["preview"], answer["replayed"], answer["problems"]) == (False, 1, [])
    assert answer["segments"][0]["segmentKey"] == "rudderstack-beta"
    apply(installation)
    assert installation.members("ann") == {"ann"}
    [batch] = get(client, status="replayed")["items"]
    assert batch["decision"]["by"] == "api:admin"


def test_a_replay_of_a_batch_that_does_not_wait_any_more_says_why_nothing_is_done(
    client: TestClient, installation: Installation
) -> None:
    reject(installation, installation.body(add=("ann",)))
    post(client, "/refused-1/replay", {"preview": False})
    again = post(client, "/refused-1/replay", {"preview": False})
    assert (again["batches"], again["replayed"]) == (0, 0)
    told = "it does not wait any more: it is replayed"
    assert again["problems"] == [{"id": "refused-1", "message": told}]
    previewed = post(client, "/refused-1/replay")
    assert previewed["obstacles"] == [{"reason": "decided", "count": 1, "id": "refused-1", "message": told}]
    assert previewed["replayable"] == 0


def test_workers_are_woken_for_what_is_replayed(
    client: TestClient, installation: Installation, real_redis: redis.Redis
) -> None:
    reject(installation, installation.body(add=("ann",)))
    post(client, "/refused-1/replay", {"preview": False})
    deadline = time.monotonic() + 10
    while not real_redis.llen("segsync:celery:segsync.drain"):
        assert time.monotonic() < deadline


def test_what_fits_a_filter_is_replayed_a_part_at_a_time_and_the_rest_is_counted(
    client: TestClient, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MOST_REPLAYED", 2)
    for number in range(5):
        reject(installation, installation.body(add=(f"person-{number}",)), f"refused-{number}")
    reject(installation, b"{}", "broken")
    asked: dict[str, Any] = {"filter": {"integrationKey": "rudderstack"}, "preview": False}
    left, replayed = [], 0
    while True:
        answer = post(client, "/replay", asked)
        left.append(answer["left"])
        replayed += answer["replayed"]
        if answer["before"] is None:
            break
        asked["before"] = answer["before"]
    assert (left, replayed) == ([4, 2, 0], 5)
    apply(installation)
    assert len(installation.members(*(f"person-{number}" for number in range(5)))) == 5


def test_so_many_bytes_are_replayed_by_one_request(
    client: TestClient, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MOST_REPLAYED_BYTES", 10)
    for number in range(3):
        reject(installation, installation.body(add=("ann",)), f"refused-{number}")
    answer = post(client, "/replay", {"all": True})
    assert (answer["batches"], answer["left"], answer["leftExact"]) == (1, 2, True)


def test_everything_is_replayed_only_when_that_is_said(client: TestClient, installation: Installation) -> None:
    reject(installation, installation.body(add=("ann",)))
    bodies: list[Any] = [None, {"filter": {}}, {"filter": {"status": "rejected"}}, {"preview": False}]
    for body in bodies:
        assert '"all": true' in post(client, "/replay", body, 400)["message"]
    assert post(client, "/replay", {"all": True})["batches"] == 1


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/replay", b"{", "body"),
        ("/replay", b"[]", "body"),
        ("/replay", b"\xff", "body"),
        ("/replay", b"[" * 60_000, "body"),
        ("/replay", {"all": "yes"}, "all"),
        ("/replay", {"filter": {"integration": "x"}}, "integration"),
        ("/replay", {"filter": {"status": "discarded"}}, "status"),
        ("/replay", {"filter": {"since": "1"}}, "since"),
        ("/replay", {"filter": {"reason": "\ud800"}}, "body"),
        ("/replay", {"all": True, "before": "x"}, "before"),
        ("/refused-1/replay", {"preview": "no"}, "preview"),
        ("/refused-1/discard", {}, "why"),
        ("/refused-1/discard", {"why": ""}, "why"),
        ("/refused-1/discard", {"why": 1}, "why"),
        ("/refused-1/replay?preview=false", None, "preview"),
    ],
)
def test_a_malformed_body_is_400_and_says_where(
    client: TestClient, installation: Installation, path: str, body: Any, named: str
) -> None:
    reject(installation, installation.body(add=("ann",)))
    answer = post(client, path, body, 400)
    assert answer["code"] == "invalid_request"
    assert named in answer["message"]
    assert waiting(installation) == ["rejected"]


def test_a_body_that_is_too_large_is_413(client: TestClient) -> None:
    assert post(client, "/replay", b" " * 70_000, 413)["code"] == "payload_too_large"


def test_discarding_says_who_and_why_and_is_for_good(client: TestClient, installation: Installation) -> None:
    die(installation, add=("ann",))
    [batch] = get(client)["items"]
    answer = post(client, f"/{batch['id']}/discard", {"why": "a test of the partner's"})
    assert answer["items"][0]["decision"]["by"] == "api:admin"
    assert answer["items"][0]["decision"]["why"] == "a test of the partner's"
    again = post(client, f"/{batch['id']}/discard", {"why": "again"})
    assert again["items"][0]["decision"]["why"] == "a test of the partner's"
    assert get(client)["items"] == []
    shown = get(client, f"/{batch['id']}")
    assert (shown["replay"], shown["outline"]["json"]) == (None, True)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_batch_that_is_not_there_is_404(client: TestClient, method: str) -> None:
    path = f"{BASE}/nobody" + ("/replay" if method == "POST" else "")
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get(f"{BASE}/*").status_code == 404
    assert client.post(f"{BASE}/nobody/discard", json={"why": "x"}).status_code == 404
    assert client.get(f"{BASE}/").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", BASE), ("POST", BASE), ("PUT", f"{BASE}/x"), ("GET", f"{BASE}/x/replay"), ("GET", f"{BASE}/x/discard")],
)
def test_another_method_is_405(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


REQUESTS = [
    ("GET", BASE),
    ("GET", f"{BASE}/x"),
    ("POST", f"{BASE}/replay"),
    ("POST", f"{BASE}/x/replay"),
    ("POST", f"{BASE}/x/discard"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@pytest.mark.parametrize("authorization", ["", "nonsense"])
def test_without_a_token_nothing_is_told(client: TestClient, method: str, path: str, authorization: str) -> None:
    answer = client.request(method, path, headers={"Authorization": authorization}, content=b"{")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_who_is_no_admin_may_look_and_preview_and_no_more(client: TestClient, installation: Installation) -> None:
    reject(installation, installation.body(add=("ann",)))
    for token in (READER, str(installation.made.writer_token)):
        for path in ("", "/refused-1"):
            assert client.get(BASE + path, headers={"Authorization": token}).status_code == 200
        assert post(client, "/refused-1/replay", token=token)["preview"]
        assert post(client, "/replay", {"all": True}, token=token)["preview"]
        for path, body in (
            ("/refused-1/replay", {"preview": False}),
            ("/replay", {"all": True, "preview": False}),
            ("/refused-1/discard", {"why": "x"}),
        ):
            assert post(client, path, body, 403, token)["code"] == "forbidden"
    assert waiting(installation) == ["rejected"]


def test_without_a_state_server_it_is_503() -> None:
    settings = Settings(state_url=f"redis://127.0.0.1:{free_port()}", durability="memory")
    with TestClient(create_service(settings), raise_server_exceptions=False) as client:
        answer = client.get(BASE, headers={"Authorization": "a-token-of-sixteen-characters"})
    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")


def test_with_too_many_requests_at_once_the_next_is_429(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_MOST_WAITING", 0)
    assert get(client, expected=429)["code"] == "rate_limited"


def test_the_receiver_is_reached_beside_it(client: TestClient, installation: Installation) -> None:
    answer = client.post("/api/v2/segment-targets/rudderstack", content=installation.body(add=("ann",)))
    assert answer.status_code == 204
    assert client.get("/readyz").status_code == 200


VALUES: list[Any] = [
    None, True, False, 0, -1, 2**63, 1.5, "", "x", "\x00", "\ud83d", "é", "*", "../x", "a/b", "%", [], {}, ["x"],
    {"a": 1}, "dead", "rejected", "1-1/x", "9" * 400, "refused-1", "members",
]  # fmt: skip
NAMES = (
    "status", "reason", "integrationKey", "environment", "segmentKey", "since", "until", "limit", "before", "filter",
    "all", "preview", "why", "\x00", "é",
)  # fmt: skip


def test_whatever_is_asked_is_answered_without_an_error_of_ours(client: TestClient, installation: Installation) -> None:
    dice = random.Random(4)
    reject(installation, installation.body(add=("ann",)))
    answers: Counter[int] = Counter()
    for _ in range(400):
        said: dict[str, Any] = {dice.choice(NAMES): dice.choice(VALUES) for _ in range(dice.randint(0, 3))}
        if dice.random() < 0.3:
            said["filter"] = {dice.choice(NAMES): dice.choice(VALUES)}
        batch_id = quote(str(dice.choice(VALUES)), safe="", errors="replace")
        method, path = dice.choice(
            [
                ("GET", BASE),
                ("GET", f"{BASE}/{batch_id}"),
                ("POST", f"{BASE}/replay"),
                ("POST", f"{BASE}/{batch_id}/replay"),
                ("POST", f"{BASE}/{batch_id}/discard"),
            ]
        )
        if method == "GET":
            query = urlencode({name: str(value) for name, value in said.items()}, errors="replace")
            answer = client.get(f"{path}?{query}")
        else:
            answer = client.post(path, content=json.dumps(said).encode(errors="replace"))
        assert answer.status_code in {200, 400, 404, 405}, (method, path, said, answer.text)
        answers[answer.status_code] += 1
        if answer.status_code != 200:
            assert set(answer.json()) >= {"code", "message"}
    assert set(answers) >= {200, 400, 404}
