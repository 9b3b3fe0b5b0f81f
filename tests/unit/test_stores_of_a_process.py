"""The stores that a process has open: opened once, anew when the record changes."""

from __future__ import annotations

from worker.model import RedisStoreConfiguration, StoreRecord
from worker.records.directory import Directory
from worker.stores.memory import MemoryStore
from worker.wiring import Stores


class Opened(MemoryStore):
    """A store in memory that knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Process:
    """Stores over a directory that the test changes."""

    def __init__(self) -> None:
        self.directory = Directory(stores=[record()])
        self.opened: list[Opened] = []
        self.stores = Stores(lambda: self.directory, self._open)

    def _open(self, _: StoreRecord) -> Opened:
        self.opened.append(Opened())
        return self.opened[-1]


def record(version: int = 1, *, on: bool = True) -> StoreRecord:
    configuration = RedisStoreConfiguration(host="in-memory")
    return StoreRecord(
        store_id="s1", environment_id="env", name="s", on=on, version=version, configuration=configuration
    )


def test_a_store_is_opened_once() -> None:
    process = Process()
    assert process.stores.get("s1") is process.stores.get("s1")
    assert len(process.opened) == 1


def test_a_store_whose_record_changed_is_closed_and_opened_anew() -> None:
    process = Process()
    process.stores.get("s1")
    process.directory = Directory(stores=[record(version=2)])
    assert process.stores.get("s1") is process.opened[1]
    assert process.opened[0].closed


def test_a_store_that_is_off_or_gone_is_closed_and_not_given() -> None:
    process = Process()
    for directory in (Directory(stores=[record(on=False)]), Directory()):
        process.directory = Directory(stores=[record()])
        process.stores.get("s1")
        process.directory = directory
        assert process.stores.get("s1") is None
    assert [store.closed for store in process.opened] == [True, True]
