"""The OpenAPI document is true: schemathesis asks a receiver that runs, and finds no answer that is not documented.

Every operation of the document is asked, so routes that are added are covered without a word here. Where a path has a
parameter that is named in ``KNOWN``, half of the requests have a value that exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from management_api import ManagementApi, managed
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from servers import ValkeyServer

SEED = 20240415
EXAMPLES = 4
MOST_SECONDS = 75
# Projects and environments that may be deleted; the others are what the rest of the requests are about.
VICTIMS = [f"victim-{number}" for number in range(20)]
KNOWN = {
    "projectKey": ["default"],
    "environmentKey": ["production"],
    "integrationKey": ["redis", "dynamodb"],
    "segmentKey": ["rudderstack-known"],
    "contextKey": ["ann"],
}


@pytest.fixture(scope="module")
def api(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagementApi]:
    with managed(valkey, tmp_path_factory.mktemp("openapi")) as running:
        for key in VICTIMS:
            environments = [{"key": "production", "name": "Production", "color": "417505"}]
            running.request("POST", "/projects", 201, json={"key": key, "name": key, "environments": environments})
        yield running


@schemathesis.hook("filter_query")
def fits_a_request_line(_context: schemathesis.HookContext, query: dict[str, Any] | None) -> bool:
    """The HTTP server itself refuses, in plain text, an address of more than 64 KiB."""
    return len(str(query or "").encode()) < 4000


def configured(api: ManagementApi) -> SchemathesisConfig:
    victim_tokens = [api.request("POST", "/tokens", 201, json={"role": "reader"})["_id"] for _ in range(5)]
    known = {**KNOWN, "id": [api.request("GET", "/tokens", 200)["items"][0]["_id"]]}
    dictionaries: dict[str, Any] = {name: {"values": entries} for name, entries in known.items()}
    dictionaries |= {"victims": {"values": VICTIMS}, "victim-tokens": {"values": victim_tokens}}
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "headers": {"Authorization": api.admin_token, "LD-API-Version": "beta"},
            "max-time": MOST_SECONDS,
            "generation": {"max-examples": EXAMPLES, "database": "none", "mode": "all"},
            "dictionaries": dictionaries,
            "parameters": {f"path.{name}": {"dictionary": name, "probability": 0.5} for name in known},
            "phases": {
                "stateful": {"enabled": False},
                # What it reads in one answer it would delete with the next request.
                "fuzzing": {"extra-data-sources": {"responses": False}},
                "coverage": {"extra-data-sources": {"responses": False}},
                "examples": {"extra-data-sources": {"responses": False}},
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
                    "parameters": {"path.projectKey": {"dictionary": "victims", "probability": 0.9}},
                },
                {
                    "include-operation-id": "deleteToken",
                    "parameters": {"path.id": {"dictionary": "victim-tokens", "probability": 0.9}},
                },
            ],
        }
    )


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
                    if check.failure_info is not None:
                        case = event.recorder.cases[case_id].value
                        failures[
                            f"{event.label}: {check.name}: {case.as_curl_command()}\n{check.failure_info.failure}"
                        ] += 1
        elif isinstance(event, (NonFatalError, FatalError)):
            failures[f"error: {event}"] += 1
    assert not failures, "\n\n".join(list(failures)[:30])
    documented = {f"{method.upper()} {path}" for path, item in schema.raw_schema["paths"].items() for method in item}
    assert documented <= asked.keys()
    assert {status for _, status in statuses} >= {200, 201, 204, 400, 401, 404, 405}
