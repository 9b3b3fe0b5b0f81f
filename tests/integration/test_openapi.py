"""The OpenAPI document is true: schemathesis asks a receiver that runs, and finds no answer that is not documented.

Every operation of the document is asked, so routes that are added are covered without a word here. Where a path has a
parameter whose name ``made`` knows, most of the requests have a value that exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from management_api import ManagementApi, managed
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from servers import ValkeyServer, wait_until

SEED = 20240415
EXAMPLES = 4
MOST_SECONDS = 50
# Of paths with several parameters, some two thirds are about what exists.
PROBABILITY = 0.9
# What may be deleted; the rest is what the other requests are about.
VICTIMS = [f"victim-{number}" for number in range(20)]
STORES = "/integration-capabilities/big-segment-store/default/production/redis"
# On a slow machine the time is over before chance has brought each operation to success.
MOST_MISSED = 10
# Operations that no request can bring to success here: what they are about takes a worker, which does not run.
NOT_REACHED = {"getBigSegmentExportFile"}


@pytest.fixture(scope="module")
def api(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagementApi]:
    with managed(valkey, tmp_path_factory.mktemp("openapi")) as running:
        yield running


def made(api: ManagementApi) -> dict[str, list[str]]:
    """Values of path parameters that exist, by their names; of those that are to be deleted, ``victims/`` and that."""
    headers = {"LD-API-Version": "beta"}
    production = [{"key": "production", "name": "Production", "color": "417505"}]
    for key in VICTIMS:
        api.request("POST", "/projects", 201, json={"key": key, "name": key, "environments": production})
    for key in ("known", *VICTIMS):
        api.request("POST", "/segments/default/production", 201, json={"key": key, "name": key, "unbounded": True})
    stores = [
        api.request("POST", STORES, 201, json={"name": key, "config": {"host": "h", "prefix": key}}, headers=headers)
        for key in ("known", *VICTIMS)
    ]
    tokens = [api.request("POST", "/tokens", 201, json={"role": "reader"})["_id"] for _ in range(6)]
    segment = "/api/v2/segments/default/production/known"
    admin = {"Authorization": api.admin_token}
    imported = api.http.post(
        f"{segment}/imports", headers=admin, data={"mode": "merge"}, files={"file": ("f.csv", b"ann\n", "text/csv")}
    )
    exported = api.http.post(f"{segment}/exports", headers=admin)
    partner = {"Authorization": api.writer_token}
    body = {"environmentId": api.environment_id, "batch": [{"cohortId": "c", "cohortName": "C", "value": True}]}
    rejected = api.http.post("/api/v2/segment-targets/segment-audiences", headers=partner, json=body)
    assert rejected.status_code == 400
    batches = wait_until(lambda: api.request("GET", "/batches", 200)["items"], 10, "a rejected batch")
    return {
        "projectKey": ["default"],
        "environmentKey": ["production"],
        "integrationKey": ["redis"],
        "integrationId": [stores[0]["_id"]],
        "segmentKey": ["known"],
        "contextKey": ["ann"],
        "importID": [imported.headers["location"].rpartition("/")[2]],
        "exportID": [exported.headers["location"].rpartition("/")[2]],
        "id": [batches[0]["id"]],
        "tokens": [tokens[0]],
        "victims/projectKey": VICTIMS,
        "victims/segmentKey": VICTIMS,
        "victims/integrationId": [store["_id"] for store in stores[1:]],
        "victims/tokens": tokens[1:],
    }


@schemathesis.hook("filter_query")
def fits_a_request_line(_context: schemathesis.HookContext, query: dict[str, Any] | None) -> bool:
    """The HTTP server itself refuses, in plain text, an address of more than 64 KiB."""
    return len(str(query or "").encode()) < 4000


def configured(api: ManagementApi) -> SchemathesisConfig:
    known = made(api)

    def mostly(name: str, values: str, probability: float = PROBABILITY) -> dict[str, Any]:
        return {f"path.{name}": {"dictionary": values, "probability": probability}}

    parameters = [mostly(name, name) for name in known if "/" not in name and name != "tokens"]
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "headers": {"Authorization": api.admin_token, "LD-API-Version": "beta"},
            "max-time": MOST_SECONDS,
            "cache": {"enabled": False},  # it would lie in the working directory, and be of another service
            "generation": {"max-examples": EXAMPLES, "database": "none", "mode": "all"},
            "dictionaries": {name.replace("/", "-"): {"values": values} for name, values in known.items()},
            "parameters": {name: value for each in parameters for name, value in each.items()},
            "phases": {
                "stateful": {"enabled": False},
                # What it reads in one answer it would delete with the next request.
                **{
                    phase: {"extra-data-sources": {"responses": False}} for phase in ("examples", "coverage", "fuzzing")
                },
            },
            # What names and ids are is more than a schema can say, so what fits one may be refused; of what is read,
            # that is so where a query speaks of records.
            "checks": {"positive_data_acceptance": {"enabled": False}},
            "operations": [
                {
                    "include-method": "GET",
                    "exclude-operation-id": ["getBatches", "getSegments"],
                    "checks": {"positive_data_acceptance": {"enabled": True}},
                },
                {
                    "include-operation-id": ["deleteProject", "deleteEnvironment"],
                    "parameters": mostly("projectKey", "victims-projectKey"),
                },
                {
                    "include-operation-id": "deleteSegment",
                    "parameters": mostly("segmentKey", "victims-segmentKey"),
                },
                {
                    "include-operation-id": "deleteBigSegmentStoreIntegration",
                    "parameters": mostly("integrationId", "victims-integrationId"),
                },
                {"include-operation-id": "getToken", "parameters": mostly("id", "tokens")},
                {"include-operation-id": "deleteToken", "parameters": mostly("id", "victims-tokens")},
            ],
        }
    )


def _is_mistaken(document: dict[str, Any], check: Any, case: Any) -> bool:
    """A body that is said to break its schema, and does not: what was put wrong in one branch fits another."""
    of_body = check.name == "negative_data_rejection" and "Invalid component: in body" in str(
        check.failure_info.failure
    )
    if not of_body or case.media_type != "application/json":
        return False
    body = document["paths"][case.path][case.method.lower()]["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.validator_for({**body, "components": document["components"]})
    return bool(validator.is_valid(case.body))


@pytest.mark.timeout(MOST_SECONDS + 120)
def test_every_answer_to_whatever_is_asked_is_as_the_document_says(api: ManagementApi) -> None:
    schema = schemathesis.openapi.from_url(f"{api.url}/api/v2/openapi.json", config=configured(api))
    failures: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    statuses: Counter[tuple[str, int]] = Counter()
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            asked[str(event.label)] += len(event.recorder.cases)
            for interaction in event.recorder.interactions.values():
                if interaction.response is not None:
                    statuses[str(event.label), interaction.response.status_code] += 1
            for case_id, checks in event.recorder.checks.items():
                for check in checks:
                    case = event.recorder.cases[case_id].value
                    if check.failure_info is not None and not _is_mistaken(schema.raw_schema, check, case):
                        failures[
                            f"{event.label}: {check.name}: {case.as_curl_command()}\n{check.failure_info.failure}"
                        ] += 1
        elif isinstance(event, (NonFatalError, FatalError)):
            failures[f"error: {event}"] += 1
    assert not failures, "\n\n".join(list(failures)[:30])
    operations = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, item in schema.raw_schema["paths"].items()
        for method, operation in item.items()
    }
    assert operations.keys() <= asked.keys()
    succeeded = {operations[label] for label, status in statuses if status < 300 and label in operations}
    assert len(set(operations.values()) - succeeded - NOT_REACHED) <= MOST_MISSED, succeeded
    assert {status for _, status in statuses} >= {200, 201, 204, 400, 401, 404, 405}
