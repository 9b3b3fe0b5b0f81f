"""Imports: a file in, one entry of the log out; one worker at a time, and nothing half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from sync_builders import Installation

from worker.errors import Conflict, NotFound, Unavailable
from worker.log import keyspace
from worker.log.append import Appends
from worker.log.import_records import ImportRecord
from worker.log.imports import ImportMode
from worker.log.jobs import Claim
from worker.sync import imports as imports_module
from worker.sync.deleting import close_deleted, delete_segment
from worker.sync.drain import drain
from worker.sync.imports import FileTooLarge, read_import, run_import, settle_imports, start_import


class Killed(BaseException):
    """Nothing in the process gets to clean up after it."""


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    installed = Installation(redis_client)
    installed.accept(add=("ann", "bob"))
    return installed


def start(installation: Installation, content: bytes, mode: ImportMode = "merge") -> str:
    return start_import(
        installation.wiring, installation.segment(), [content], mode=mode, file_name="people.csv", by="test"
    ).import_id


def record(installation: Installation, import_id: str) -> ImportRecord:
    found = read_import(installation.wiring, import_id)
    assert found is not None
    return found


def apply(installation: Installation) -> None:
    for _ in range(4):
        drain(installation.wiring, installation.segment(), installation.store_id)


def members(installation: Installation, *people: str) -> str:
    """Those of them who are in, in a row."""
    return " ".join(person for person in people if installation.store.included(person))


def its_worker_is_gone(client: redis.Redis, import_id: str) -> None:
    """Twenty seconds pass."""
    client.hincrby(f"segsync:{{imports}}:job:{import_id}", "beat_ms", -20_001)


def test_a_merge_adds_who_is_in_the_file(installation: Installation) -> None:
    import_id = start(installation, b"cyd,x\nann\ncyd\n")
    found = record(installation, import_id)
    assert (found.status, found.file_name, found.size_bytes, found.by) == ("preparing", "people.csv", 14, "test")
    due = run_import(installation.wiring, import_id)
    assert [wake_up.store_id for wake_up in due] in ([], [installation.store_id])
    found = record(installation, import_id)
    assert (found.status, found.lines, found.keys) == ("in_progress", 3, 2)
    assert found.stores == {installation.store_id: 0.0}
    apply(installation)
    assert members(installation, "ann", "bob", "cyd") == "ann bob cyd"
    assert record(installation, import_id).stores == {installation.store_id: 1.0}
    settle_imports(installation.wiring)
    found = record(installation, import_id)
    assert (found.status, found.message, found.finished_ms > 0) == ("complete", "", True)


def test_a_replace_takes_out_exactly_those_who_are_not_in_the_file(installation: Installation) -> None:
    run_import(installation.wiring, start(installation, b"bob\ncyd\n", "replace"))
    installation.accept(add=("dan",))
    apply(installation)
    assert members(installation, "ann", "bob", "cyd", "dan") == "bob cyd dan"


def test_what_is_wrong_with_the_file_stops_it_and_changes_nothing(installation: Installation) -> None:
    import_id = start(installation, b"bob\n,\n", "replace")
    assert run_import(installation.wiring, import_id) == []
    found = record(installation, import_id)
    assert (found.status, found.message) == ("stopped", "line 2: the first column, the context key, is empty")
    apply(installation)
    assert members(installation, "ann", "bob") == "ann bob"
    assert installation.client.keys("*pieces*") == []
    assert installation.client.keys("*:import:*") == []


def test_a_file_without_keys_empties_no_segment(installation: Installation) -> None:
    import_id = start(installation, b"\n\n", "replace")
    run_import(installation.wiring, import_id)
    assert record(installation, import_id).message == "the file has no keys; nothing was changed"


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(redis_client: redis.Redis) -> None:
    installed = Installation(redis_client, import_bytes=1024)
    installed.accept(add=("ann",))
    with pytest.raises(FileTooLarge, match="larger than 1,024 bytes"):
        start(installed, b"x" * 1025)
    assert redis_client.keys("segsync:{imports}*") == []


def test_a_cut_upload_leaves_nothing(installation: Installation) -> None:
    def cut() -> Iterator[bytes]:
        yield b"x" * 600_000
        raise ConnectionError

    with pytest.raises(ConnectionError):
        start_import(installation.wiring, installation.segment(), cut(), mode="merge", file_name="", by="test")
    assert installation.client.keys("segsync:{imports}*") == []


def test_a_full_server_takes_no_file(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports_module, "memory_share", lambda _: 0.9)
    with pytest.raises(Unavailable, match="nearly full"):
        start(installation, b"ann\n")


def test_a_file_that_too_few_replicas_have_is_not_accepted(real_redis: redis.Redis) -> None:
    installed = Installation(real_redis, durability="replica")
    installed.accept(add=("ann",))
    with pytest.raises(Unavailable, match="0 of 1 replicas have it"):
        start(installed, b"cyd\n")


def test_one_import_of_a_segment_is_read_at_a_time(installation: Installation) -> None:
    first = start(installation, b"cyd\n")
    with pytest.raises(Conflict, match=first):
        start(installation, b"dan\n")
    run_import(installation.wiring, first)
    second = start(installation, b"dan\n")  # it comes after the first in the log, whatever the stores do
    run_import(installation.wiring, second)
    apply(installation)
    settle_imports(installation.wiring)
    assert {record(installation, each).status for each in (first, second)} == {"complete"}
    assert members(installation, "cyd", "dan") == "cyd dan"


def test_an_import_is_for_the_generation_that_it_was_asked_for(installation: Installation) -> None:
    with pytest.raises(NotFound):
        start_import(
            installation.wiring,
            installation.segment()._replace(generation=2),
            [b"cyd\n"],
            mode="merge",
            file_name="",
            by="test",
        )


@pytest.mark.parametrize("comes_back", [False, True])
def test_an_import_of_a_segment_that_is_deleted_before_it_is_read_stops(
    installation: Installation, comes_back: bool
) -> None:
    import_id = start(installation, b"cyd\n")
    delete_segment(
        installation.wiring, Appends(installation.client), installation.environment_id, "rudderstack-beta", by="test"
    )
    if comes_back:
        installation.accept(add=("dan",))
    run_import(installation.wiring, import_id)
    assert record(installation, import_id).status == "stopped"
    assert record(installation, import_id).message == "the segment was deleted"
    assert installation.wiring.imports.busy(f"{installation.environment_id}/rudderstack-beta") is None


def test_an_import_that_is_being_written_stops_when_its_segment_is_deleted(installation: Installation) -> None:
    import_id = start(installation, b"cyd\n")
    run_import(installation.wiring, import_id)
    delete_segment(
        installation.wiring, Appends(installation.client), installation.environment_id, "rudderstack-beta", by="test"
    )
    apply(installation)
    installation.client.hset(
        f"{keyspace.prefix(installation.segment())}:cursor:{installation.store_id}", "advanced_ms", "0"
    )
    assert close_deleted(installation.wiring) == 1
    settle_imports(installation.wiring)
    assert (record(installation, import_id).status, members(installation, "ann", "cyd")) == ("stopped", "")
    assert installation.client.keys("*:g1:*") == []


def test_a_worker_that_is_killed_while_it_reads_is_followed_by_another(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_id = start(installation, b"cyd\n")
    with monkeypatch.context() as patched:
        patched.setattr(imports_module, "KeyReader", killed)
        with pytest.raises(Killed):
            run_import(installation.wiring, import_id)
    assert run_import(installation.wiring, import_id) == []  # its lease is not over
    assert record(installation, import_id).status == "preparing"
    its_worker_is_gone(installation.client, import_id)
    run_import(installation.wiring, import_id)
    assert record(installation, import_id).status == "in_progress"


def test_a_worker_that_is_killed_after_the_append_appends_nothing_twice(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_id = start(installation, b"cyd\n", "replace")
    with monkeypatch.context() as patched:
        patched.setattr(Claim, "wait", killed)
        with pytest.raises(Killed):
            run_import(installation.wiring, import_id)
    installation.accept(add=("dan",))
    installation.client.delete(f"segsync:{{{installation.environment_id}/rudderstack-beta}}:g1:recent")
    its_worker_is_gone(installation.client, import_id)
    run_import(installation.wiring, import_id)
    apply(installation)
    settle_imports(installation.wiring)
    assert record(installation, import_id).status == "complete"
    assert members(installation, "ann", "bob", "cyd", "dan") == "cyd dan"


def test_a_file_that_ends_every_worker_is_given_up(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    import_id = start(installation, b"cyd\n")
    monkeypatch.setattr(imports_module, "KeyReader", killed)
    for _ in range(imports_module.MOST_ATTEMPTS):
        with pytest.raises(Killed):
            run_import(installation.wiring, import_id)
        its_worker_is_gone(installation.client, import_id)
    run_import(installation.wiring, import_id)
    assert record(installation, import_id).message == "5 workers ended while they read it"


def test_a_worker_that_is_told_to_stop_gives_the_import_back(installation: Installation) -> None:
    import_id = start(installation, b"cyd\n" * 10_000)
    asked = iter([False, False, True])
    run_import(installation.wiring, import_id, stopping=lambda: next(asked))
    assert installation.wiring.imports.due("preparing") == [import_id]
    run_import(installation.wiring, import_id)
    assert record(installation, import_id).status == "in_progress"


def test_an_import_whose_file_is_lost_stops(installation: Installation) -> None:
    import_id = start(installation, b"cyd\n")
    installation.client.delete(installation.wiring.imports.pieces_key(import_id))
    run_import(installation.wiring, import_id)
    assert record(installation, import_id).message == "what was uploaded is gone"


def killed(*_: object, **__: object) -> Callable[[], None]:
    raise Killed


def test_an_import_waits_where_nobody_knows_what_the_log_had_before(installation: Installation) -> None:
    head = f"{keyspace.prefix(installation.segment())}:head"
    drain(installation.wiring, installation.segment(), installation.store_id)
    installation.client.hset(head, "trimmed", "1-0")  # as an older version left it
    run_import(installation.wiring, start(installation, b"cyd\n"))
    with pytest.raises(Unavailable, match="kept no snapshot"):
        drain(installation.wiring, installation.segment(), installation.store_id)
    assert installation.members("ann", "bob", "cyd") == {"ann", "bob"}
