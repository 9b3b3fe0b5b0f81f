"""Manifest files and the catalog: what is taken, what is ignored, and that a broken one harms nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from parser_documents import SPLIT

from worker.errors import Misconfigured
from worker.manifest.catalog import bundled_directory, load_catalog
from worker.manifest.manifest import BrokenManifest, Manifest, read_manifest


def manifest_json(**capability: Any) -> bytes:
    return json.dumps(
        {"name": "Acme", "capabilities": {"syncedSegment": {"requestParser": SPLIT} | capability}}
    ).encode()


def faults(content: bytes) -> list[tuple[str, str]]:
    manifest = read_manifest("acme", content)
    assert isinstance(manifest, BrokenManifest)
    return [(fault.pointer, fault.message) for fault in manifest.faults]


def test_only_the_request_parser_is_required() -> None:
    manifest = read_manifest("acme", json.dumps({"capabilities": {"syncedSegment": {"requestParser": SPLIT}}}).encode())

    assert isinstance(manifest, Manifest)
    assert (manifest.key, manifest.name, manifest.json_response_body) == ("acme", "acme", None)


def test_other_fields_of_the_framework_are_ignored() -> None:
    document = json.loads(manifest_json())
    document |= {"icons": {"square": "x.svg"}, "formVariables": [], "supportEmail": "help@acme.example"}
    document["capabilities"]["auditLogEventsHook"] = {"endpoint": {}}

    assert isinstance(read_manifest("acme", b"\xef\xbb\xbf" + json.dumps(document).encode()), Manifest)


def test_a_manifest_s_decoder_reads_by_its_parser() -> None:
    manifest = read_manifest("acme", manifest_json())
    assert isinstance(manifest, Manifest)

    payload = manifest.decoder.decode(b'{"environmentId":"e","cohortId":"c","cohortName":"C","add":[{"id":"u"}]}')

    assert payload.cohorts[0].members == {"u": True}
    assert manifest.decoder is manifest.decoder


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_json_is_one_fault(content: bytes) -> None:
    assert [pointer for pointer, _ in faults(content)] == [""]


@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b"null", b'{"capabilities":[]}', b'{"capabilities":{"syncedSegment":{}}}']
)
def test_a_manifest_without_a_request_parser_says_where_it_belongs(content: bytes) -> None:
    assert faults(content) == [("/capabilities/syncedSegment/requestParser", "is required")]


def test_every_fault_is_told_with_its_pointer_in_the_manifest() -> None:
    parser = SPLIT | {"cohortIdPath": "nowhere", "contextKind": "user"}

    found = faults(manifest_json(requestParser=parser, jsonResponseBody="{{#if x}}"))

    assert [pointer for pointer, _ in found] == [
        "/capabilities/syncedSegment/requestParser/cohortIdPath",
        "/capabilities/syncedSegment/requestParser/contextKind",
        "/capabilities/syncedSegment/jsonResponseBody",
    ]


def test_a_response_body_must_be_a_string() -> None:
    assert faults(manifest_json(jsonResponseBody={"ok": True})) == [
        ("/capabilities/syncedSegment/jsonResponseBody", "must be a string: a Handlebars template")
    ]


def test_the_twelve_public_integrations_and_mixpanel_s_webhook_are_bundled_and_usable() -> None:
    catalog = load_catalog()

    assert len(catalog) == 13
    assert "mixpanel" in catalog
    assert all(isinstance(manifest, Manifest) for manifest in catalog.values())


def test_tealium_s_removals_do_not_match() -> None:
    tealium = load_catalog()["tealium-synced-segments"]

    assert isinstance(tealium, Manifest)
    assert tealium.parser.array_inclusion is not None
    assert tealium.parser.array_inclusion.matcher == "^add_member$"
    assert "remove_member" in (bundled_directory() / "tealium-synced-segments.json").read_text()


def test_both_layouts_load_and_the_overlay_hides_the_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "amplitude.json").write_bytes(manifest_json())
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "manifest.json").write_bytes(manifest_json())
    (tmp_path / "acme" / "assets").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "README.md").write_text("not a manifest")
    (tmp_path / ".hidden.json").write_text("not a manifest")

    catalog = load_catalog(tmp_path)

    assert len(catalog) == 14
    assert [catalog[key].key for key in ("acme", "amplitude")] == ["acme", "amplitude"]
    assert [m.name for m in catalog.values() if isinstance(m, Manifest)].count("Acme") == 2


def test_a_broken_manifest_takes_no_other_down(tmp_path: Path) -> None:
    (tmp_path / "amplitude.json").write_text("{")
    (tmp_path / "unreadable.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "acme.json").write_bytes(manifest_json())

    catalog = load_catalog(tmp_path)

    broken = {key for key, manifest in catalog.items() if isinstance(manifest, BrokenManifest)}
    assert broken == {"amplitude", "unreadable"}
    assert isinstance(catalog["acme"], Manifest)


def test_a_key_in_both_layouts_at_once_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "acme.json").write_bytes(manifest_json())
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "manifest.json").write_bytes(manifest_json())

    assert isinstance(load_catalog(tmp_path)["acme"], BrokenManifest)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_an_overlay_that_cannot_be_listed_is_a_wrong_setting(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Misconfigured, match=name):
        load_catalog(tmp_path / name)
