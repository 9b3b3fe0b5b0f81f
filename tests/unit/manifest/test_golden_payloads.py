"""Every bundled manifest against the bodies its partner sends, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.manifest.catalog import bundled_directory, load_catalog
from worker.manifest.examples import Change, example, example_keys
from worker.manifest.manifest import Manifest
from worker.model import Payload

GOLDEN = Path(__file__).parents[2] / "golden"
CATALOG = load_catalog()
KEYS = sorted(path.stem for path in bundled_directory().glob("*.json"))


def manifest_of(key: str) -> Manifest:
    manifest = CATALOG[key]
    assert isinstance(manifest, Manifest)
    return manifest


def described(payload: Payload) -> dict[str, Any]:
    return {
        "environmentId": payload.environment_id,
        "contextKind": payload.context_kind,
        "cohorts": [
            {
                "cohortId": cohort.cohort_id,
                "cohortName": cohort.name,
                "cohortUrl": cohort.url,
                "add": [member for member, added in cohort.members.items() if added],
                "remove": [member for member, added in cohort.members.items() if not added],
            }
            for cohort in payload.cohorts
        ],
    }


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("direction", ["add", "remove"])
def test_a_golden_body_means_what_is_written_beside_it(key: str, direction: str) -> None:
    golden = json.loads((GOLDEN / key / f"{direction}.json").read_text())

    payload = manifest_of(key).decoder.decode(json.dumps(golden["body"]).encode())

    assert described(payload) == golden["expected"]


@pytest.mark.parametrize("key", KEYS)
def test_a_golden_body_takes_the_fast_way(key: str) -> None:
    body = json.dumps(json.loads((GOLDEN / key / "add.json").read_text())["body"]).encode()
    decoder = manifest_of(key).decoder

    assert decoder._fast is not None
    assert decoder._fast.read(body) == decoder._exact.read(body)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("add", "remove"), [(["m1", "m2"], []), ([], ["m1", "m2"]), (["m1"], ["m2"])])
def test_example_bodies_say_the_change_they_were_made_from(key: str, add: list[str], remove: list[str]) -> None:
    change = Change("env-1", "123", "Cohort", add, remove)

    said: dict[str, bool] = {}
    for body in example(key, change):
        payload = manifest_of(key).decoder.decode(json.dumps(body).encode())
        assert (payload.environment_id, payload.context_kind) == ("env-1", "user")
        assert [(cohort.cohort_id, cohort.name) for cohort in payload.cohorts] == [("123", "Cohort")]
        said |= payload.cohorts[0].members

    assert said == dict.fromkeys(add, True) | dict.fromkeys(remove, False)


def test_every_bundled_manifest_has_an_example() -> None:
    assert example_keys() == KEYS


def test_every_bundled_manifest_has_golden_bodies() -> None:
    assert sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()) == KEYS
    assert len(KEYS) == 12
