from __future__ import annotations

from worker.model import SegmentPatch
from worker.stores.memory import MemoryStore
from worker.stores.segment_store import Sentinel


def test_a_wiped_store_has_forgotten_everything_and_can_be_claimed_anew() -> None:
    store = MemoryStore()
    with store.session() as session:
        session.write(SegmentPatch("beta.g1", ["ann"], []), lambda: None)
    store.set_synchronized_on(17, store.claim("ours", 1))
    store.wipe()
    assert (store.included("ann"), store.synchronized_on(), store.sentinel()) == (set(), None, None)
    assert not store.set_synchronized_on(18, Sentinel("ours", 2))
    assert store.claim("new", 3) == Sentinel("new", 3)


def test_a_session_tells_the_process_that_it_was_checked_out_from() -> None:
    store = MemoryStore()
    with store.session() as before:
        store.process = "restarted"
    with store.session() as after:
        assert (before.process, after.process) == ("memory", "restarted")
