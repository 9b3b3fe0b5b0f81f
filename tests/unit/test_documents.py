"""What the documents show is tried: their examples come to what stands beside them, and their links lead somewhere."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic.alias_generators import to_camel

from worker.manifest.catalog import load_catalog
from worker.manifest.cohorts import LONGEST_COHORT_TEXT, MAX_COHORTS
from worker.manifest.golden import Golden, read_golden
from worker.manifest.json_text import MAX_NESTING
from worker.manifest.lint.finding import Finding
from worker.manifest.lint.lint import lint
from worker.manifest.manifest import Manifest, read_manifest
from worker.manifest.request_parser import ArrayInclusion, MemberArrayParser, RequestParser
from worker.manifest.response.bounds import LARGEST_ANSWER_BYTES, LARGEST_OPENED_BYTES, MOST_STEPS
from worker.manifest.response.template import ResponseFacts
from worker.receiver.explanation import Accepted, explain
from worker.receiver.golden_run import Failure, GoldenRun, compare

ROOT = Path(__file__).parents[2]
ABOUT_MANIFESTS = ROOT / "manifests" / "README.md"
ABOUT_GOLDEN = ROOT / "tests" / "golden" / "README.md"
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "deploy").glob("*.md"), ABOUT_MANIFESTS, ABOUT_GOLDEN]

_JSON_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)]+)\)")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=[str(file.relative_to(ROOT)) for file in DOCUMENTS])


def blocks(document: Path) -> list[str]:
    return _JSON_BLOCK.findall(document.read_text())


def acme(block: str) -> Manifest:
    manifest = read_manifest("acme", block.encode())
    assert isinstance(manifest, Manifest), manifest
    return manifest


def golden(block: str) -> Golden:
    found = read_golden(block.encode())
    assert isinstance(found, Golden), found
    return found


EXAMPLES = [
    (acme(manifest), golden(payload))
    for manifest, payload in pairwise(blocks(ABOUT_MANIFESTS))
    if "capabilities" in json.loads(manifest)
]

each_example = pytest.mark.parametrize(
    ("manifest", "payload"), EXAMPLES, ids=[manifest.parser.mode for manifest, _ in EXAMPLES]
)


@each_document
def test_lines_have_at_most_120_characters(document: Path) -> None:
    assert [line for line in document.read_text().splitlines() if len(line) > 120] == []


@each_document
def test_links_lead_to_files_and_headings_that_there_are(document: Path) -> None:
    text = document.read_text()
    headings = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    links = [link for link in _LINK.findall(text) if not link.startswith("https://")]

    assert [link for link in links if link.startswith("#") and link[1:] not in headings] == []
    assert [link for link in links if not link.startswith("#") and not (document.parent / link).exists()] == []


def test_there_is_an_example_for_each_mode() -> None:
    assert [manifest.parser.mode for manifest, _ in EXAMPLES] == ["boolean", "split arrays", "array inclusion"]


@each_example
def test_an_example_has_no_findings(manifest: Manifest, payload: Golden) -> None:
    assert lint(manifest) == []


@each_example
def test_an_example_comes_to_what_stands_beside_it(manifest: Manifest, payload: Golden) -> None:
    assert list(compare(manifest, payload)) == []


def test_what_explain_is_said_to_print_is_what_it_prints() -> None:
    [shown] = [block for block in map(json.loads, blocks(ABOUT_MANIFESTS)) if "response" in block]
    manifest, payload = EXAMPLES[0]

    assert json.loads(msgspec.json.encode(explain(manifest, payload.body))) == shown


def test_a_page_that_is_no_manifest_lies_among_the_bundled_ones_and_is_passed_over() -> None:
    assert ABOUT_MANIFESTS.is_file()
    assert "README" not in load_catalog()


def names_of(text: str) -> set[str]:
    return set(re.findall(r'[`"{]([\w]+)[`"]', text))


FIELDS: list[tuple[str, list[str]]] = [
    *(
        (model.__name__, [field.alias or name for name, field in model.model_fields.items()])
        for model in (RequestParser, ArrayInclusion, MemberArrayParser)
    ),
    ("ResponseFacts", [to_camel(field.name) for field in dataclasses.fields(ResponseFacts)]),
    ("Finding", ["manifest", *Finding._fields]),
    ("Accepted", list(Accepted.__struct_encode_fields__)),
    ("GoldenRun", [to_camel(name) for name in GoldenRun.__struct_fields__ if name != "hidden"]),
    ("Failure", list(Failure.__struct_fields__)),
]


@pytest.mark.parametrize(("of", "names"), FIELDS, ids=[of for of, _ in FIELDS])
def test_every_property_variable_and_json_name_is_on_the_page(of: str, names: list[str]) -> None:
    assert set(names) - names_of(ABOUT_MANIFESTS.read_text()) == set()


BOUNDS: list[tuple[str, Any]] = [
    ("at most {:,} characters each", LONGEST_COHORT_TEXT),
    ("at most {:,} cohorts", MAX_COHORTS),
    ("at most {} deep", MAX_NESTING),
    ("looks up at most {:,} values", MOST_STEPS),
    ("at most {} KiB at a time", LARGEST_OPENED_BYTES // 1024),
    ("at most {} MiB", LARGEST_ANSWER_BYTES // 1024**2),
]


@pytest.mark.parametrize(("sentence", "bound"), BOUNDS)
def test_bounds_are_those_that_hold(sentence: str, bound: int) -> None:
    assert sentence.format(bound) in ABOUT_MANIFESTS.read_text().replace("\n", " ").replace("  ", " ")


def test_the_example_of_a_golden_payload_holds_for_the_integration_that_it_is_for() -> None:
    [block] = blocks(ABOUT_GOLDEN)
    [key] = re.findall(r"This one is for `([\w-]+)`", ABOUT_GOLDEN.read_text())
    manifest = load_catalog()[key]
    assert isinstance(manifest, Manifest)

    assert list(compare(manifest, golden(block))) == []
    assert golden(block).policy == "reject"
