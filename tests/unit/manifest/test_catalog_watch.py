"""A catalog that follows its files: changes are seen at the next look, what takes an endpoint away at the one after."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from parser_documents import INCLUSION, SPLIT

from worker.errors import Misconfigured
from worker.manifest.catalog import CatalogWatch
from worker.manifest.manifest import BrokenManifest, Manifest


def text(parser: dict[str, Any] = SPLIT) -> str:
    return json.dumps({"name": "Acme", "capabilities": {"syncedSegment": {"requestParser": parser}}})


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "acme.json").write_text(text())
    return tmp_path


def test_a_look_at_unchanged_files_changes_nothing(overlay: Path) -> None:
    watch = CatalogWatch(overlay)
    before = watch.current["acme"]

    assert watch.look() == []
    assert watch.current["acme"] is before


def test_a_changed_manifest_is_taken_at_the_next_look_and_the_others_stay(overlay: Path) -> None:
    watch = CatalogWatch(overlay)
    other = watch.current["amplitude"]
    (overlay / "acme.json").write_text(text(INCLUSION))

    assert watch.look() == ["acme"]
    acme = watch.current["acme"]
    assert isinstance(acme, Manifest)
    assert acme.parser.mode == "array inclusion"
    assert watch.current["amplitude"] is other


def test_a_change_that_leaves_size_and_date_alone_is_seen(overlay: Path) -> None:
    watch = CatalogWatch(overlay)
    file = overlay / "acme.json"
    stat = file.stat()
    file.write_text(text().replace("/environmentId", "/environmentID"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert file.stat().st_size == stat.st_size
    assert watch.look() == ["acme"]


def test_new_manifests_of_both_layouts_are_taken_at_the_next_look(overlay: Path) -> None:
    watch = CatalogWatch(overlay)
    (overlay / "second.json").write_text(text())
    (overlay / "third").mkdir()
    (overlay / "third" / "manifest.json").write_text(text())

    assert watch.look() == ["second", "third"]
    assert isinstance(watch.current["third"], Manifest)


def test_a_manifest_becomes_broken_at_the_second_look_and_is_mended_at_the_next(overlay: Path) -> None:
    watch = CatalogWatch(overlay)
    (overlay / "acme.json").write_text("{")

    assert watch.look() == []
    assert isinstance(watch.current["acme"], Manifest)
    assert watch.look() == ["acme"]
    assert isinstance(watch.current["acme"], BrokenManifest)
    assert watch.look() == []

    (overlay / "acme.json").write_text(text())
    assert watch.look() == ["acme"]
    assert isinstance(watch.current["acme"], Manifest)


def test_a_file_that_is_still_being_written_is_waited_for(overlay: Path) -> None:
    watch = CatalogWatch(overlay)
    whole = text(INCLUSION)
    for length in (0, 10, 50):
        (overlay / "acme.json").write_text(whole[:length])
        assert watch.look() == []
    (overlay / "acme.json").write_text(whole)

    assert watch.look() == ["acme"]
    assert isinstance(watch.current["acme"], Manifest)


def test_a_manifest_that_is_gone_for_a_moment_stays(overlay: Path) -> None:
    (overlay / "other.json").write_text(text())
    watch = CatalogWatch(overlay)
    (overlay / "acme.json").rename(overlay / "acme.bak")
    assert watch.look() == []
    (overlay / "acme.bak").rename(overlay / "acme.json")

    assert watch.look() == []
    assert isinstance(watch.current["acme"], Manifest)


def test_a_manifest_that_is_gone_at_two_looks_goes_and_uncovers_the_bundled_one(overlay: Path) -> None:
    (overlay / "amplitude.json").write_text(text())
    (overlay / "other.json").write_text(text())
    watch = CatalogWatch(overlay)
    (overlay / "acme.json").unlink()
    (overlay / "amplitude.json").unlink()

    assert watch.look() == []
    assert watch.look() == ["acme", "amplitude"]
    assert "acme" not in watch.current
    amplitude = watch.current["amplitude"]
    assert isinstance(amplitude, Manifest)
    assert amplitude.name == "Amplitude"


@pytest.mark.parametrize("left", [(), (".gitkeep",), ("golden",), ("lost+found",)])
def test_an_overlay_with_no_manifest_left_in_it_is_not_believed(overlay: Path, left: tuple[str, ...]) -> None:
    watch = CatalogWatch(overlay)
    (overlay / "acme.json").unlink()
    for name in left:
        (overlay / name).mkdir()

    for _ in range(3):
        with pytest.raises(Misconfigured, match="if that is meant, restart"):
            watch.look()
    assert isinstance(watch.current["acme"], Manifest)


def test_what_was_doubted_before_a_look_that_failed_is_doubted_anew(overlay: Path) -> None:
    (overlay / "other.json").write_text(text())
    watch = CatalogWatch(overlay)
    (overlay / "acme.json").unlink()
    assert watch.look() == []
    (overlay / "other.json").rename(overlay / "other")
    with pytest.raises(Misconfigured):
        watch.look()
    (overlay / "other").rename(overlay / "other.json")

    assert watch.look() == []
    assert watch.look() == ["acme"]


def test_a_directory_that_cannot_be_entered_makes_its_manifest_broken_and_no_other(
    overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("amplitude", "lost+found"):
        (overlay / name).mkdir()

    def stat(path: Path, **_: Any) -> os.stat_result:
        if path.parent.name in {"amplitude", "lost+found"}:
            raise PermissionError(13, "Permission denied", str(path))
        return os.stat(path)  # noqa: PTH116

    # The tests may run as root, whom nothing forbids.
    monkeypatch.setattr(Path, "stat", stat)
    catalog = CatalogWatch(overlay).current

    assert isinstance(catalog["acme"], Manifest)
    assert isinstance(catalog["amplitude"], BrokenManifest)
    assert "lost+found" not in catalog


def test_a_new_manifest_that_is_broken_is_named_at_the_second_look(overlay: Path) -> None:
    watch = CatalogWatch(overlay)
    (overlay / "fourth.json").write_text("{}")

    assert watch.look() == []
    assert watch.look() == ["fourth"]
    assert isinstance(watch.current["fourth"], BrokenManifest)


def test_while_the_directory_cannot_be_listed_everything_stays(overlay: Path) -> None:
    watch = CatalogWatch(overlay)
    away = overlay.rename(overlay.with_name("away"))

    with pytest.raises(Misconfigured, match="cannot list"):
        watch.look()
    assert isinstance(watch.current["acme"], Manifest)

    away.rename(overlay)
    assert watch.look() == []
