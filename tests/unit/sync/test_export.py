"""Exports: who is in a segment, as a file for a while; consistent under compaction, by one worker at a time."""

from __future__ import annotations

import pytest
import redis
from sync_builders import Installation

from worker.errors import Conflict, NotFound
from worker.log.append import Appends
from worker.log.changes import ManualChange, append_change
from worker.log.segments import read_segments
from worker.log.snapshots import Base
from worker.log.uploads import FileGone
from worker.sync import exports as exports_module
from worker.sync.compact import compact
from worker.sync.csv_keys import KeyReader
from worker.sync.deleting import delete_segment
from worker.sync.drain import drain
from worker.sync.exports import ExportRecord, export_file, read_export, run_export, start_export
from worker.sync.streaming import included_pages


class Killed(BaseException):
    """Nothing in the process gets to clean up after it."""


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client, retention_seconds=0)


def apply(installation: Installation) -> None:
    for _ in range(3):
        drain(installation.wiring, installation.segment(), installation.store_id)


def export(installation: Installation) -> ExportRecord:
    started = start_export(installation.wiring, installation.segment(), by="test")
    run_export(installation.wiring, started.export_id)
    return record(installation, started.export_id)


def record(installation: Installation, export_id: str) -> ExportRecord:
    found = read_export(installation.wiring, export_id)
    assert found is not None
    return found


def content(installation: Installation, exported: ExportRecord) -> bytes:
    return b"".join(export_file(installation.wiring, exported))


def test_an_export_has_the_snapshot_and_what_came_after_it(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    apply(installation)
    assert compact(installation.wiring, installation.segment(), force=True).outcome == "folded"
    installation.accept(add=("cyd",), remove=("ann",))
    apply(installation)
    found = export(installation)
    assert (found.status, found.members, found.size_bytes, found.by) == ("complete", 2, 10, "test")
    assert content(installation, found) == b"bob\r\ncyd\r\n"
    assert 0 < installation.client.ttl(found.file) <= installation.wiring.settings.export_retention_seconds


def test_an_empty_segment_has_an_empty_file(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.accept(remove=("ann",))
    apply(installation)
    found = export(installation)
    assert (found.status, found.members, content(installation, found)) == ("complete", 0, b"")


def test_those_who_are_excluded_are_not_exported(installation: Installation) -> None:
    installation.accept(add=("ann",))
    [segment] = read_segments(installation.client, installation.environment_id, ["rudderstack-beta"])
    append_change(
        Appends(installation.client),
        installation.environment_id,
        segment,
        ManualChange("by-hand", add_excluded=("bob",)),
        store_ids=[],
        not_after_ms=10**15,
    )
    apply(installation)
    assert content(installation, export(installation)) == b"ann\r\n"


def test_an_import_reads_what_an_export_wrote(installation: Installation) -> None:
    strange = ("a,b", 'say "hi"', "two\r\nlines", "one\nline", "one\rline", "żółw", "\ufdd0x", " led by a blank")
    installation.accept(add=strange)
    apply(installation)
    found = export(installation)
    assert found.members == len(strange)
    assert set(KeyReader(export_file(installation.wiring, found))) == set(strange)


def test_a_long_tail_is_read_in_portions(installation: Installation) -> None:
    for number in range(40):
        installation.accept(add=tuple(f"p{number * 10 + each:03}" for each in range(10)), remove=(f"p{number * 9:03}",))
    apply(installation)
    segment = installation.segment()
    whole = [key for page in included_pages(installation.wiring, segment) for key in page]
    assert whole
    assert [key for page in included_pages(installation.wiring, segment, most_changes=25) for key in page] == whole


def test_a_snapshot_that_is_replaced_meanwhile_is_read_anew(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    compact(installation.wiring, installation.segment(), force=True)
    read_chunk = Base.chunk

    def replaced_first(base: Base, number: int) -> bytes:
        monkeypatch.setattr(Base, "chunk", read_chunk)
        installation.accept(add=("bob",))
        apply(installation)
        assert compact(installation.wiring, installation.segment(), force=True).outcome == "folded"
        return read_chunk(base, number)

    monkeypatch.setattr(Base, "chunk", replaced_first)
    found = export(installation)
    assert content(installation, found) == b"ann\r\nbob\r\n"
    assert [key for key in installation.client.keys("*pieces*") if key != found.file.encode()] == []


def test_an_export_of_a_segment_that_is_deleted_fails(installation: Installation) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    started = start_export(installation.wiring, installation.segment(), by="test")
    delete_segment(
        installation.wiring, Appends(installation.client), installation.environment_id, "rudderstack-beta", by="test"
    )
    run_export(installation.wiring, started.export_id)
    found = record(installation, started.export_id)
    assert (found.status, found.message) == ("failed", "the segment was deleted")
    assert installation.client.keys("*pieces*") == []
    with pytest.raises(NotFound):
        start_export(installation.wiring, installation.segment(), by="test")


def test_a_worker_that_is_killed_is_followed_by_another(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    installation.accept(add=("ann",))
    apply(installation)
    export_id = start_export(installation.wiring, installation.segment(), by="test").export_id
    with monkeypatch.context() as patched:
        patched.setattr(exports_module, "included_pages", killed)
        with pytest.raises(Killed):
            run_export(installation.wiring, export_id)
    run_export(installation.wiring, export_id)
    assert record(installation, export_id).status == "in_progress"
    installation.client.hincrby(f"segsync:{{exports}}:job:{export_id}", "beat_ms", -20_001)
    assert installation.wiring.exports.due("in_progress") == []
    installation.client.hincrby(f"segsync:{{exports}}:job:{export_id}", "hinted_ms", -10_001)
    assert installation.wiring.exports.due("in_progress") == [export_id]
    run_export(installation.wiring, export_id)
    assert content(installation, record(installation, export_id)) == b"ann\r\n"


def test_a_file_whose_time_is_over_is_gone(installation: Installation) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    found = export(installation)
    installation.client.delete(found.file)
    with pytest.raises(FileGone):
        content(installation, found)


def test_one_export_of_a_segment_is_written_at_a_time(installation: Installation) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    first = start_export(installation.wiring, installation.segment(), by="test").export_id
    with pytest.raises(Conflict, match=first):
        start_export(installation.wiring, installation.segment(), by="another")
    assert installation.wiring.exports.open() == [first]
    run_export(installation.wiring, first)
    assert start_export(installation.wiring, installation.segment(), by="another").status == "in_progress"
