"""What becomes of the entries that a drain reads: parsed here or apart, dead, or left for the brake; and its lease."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, cast

import msgspec
import pytest
import redis
from made_builders import change_by_hand
from sync_builders import Installation

from worker.errors import LeaseLost, Unavailable
from worker.log import keyspace
from worker.log.lease import DrainLog, Lease
from worker.log.segments import read_segments
from worker.log.upkeep import StoreStatus
from worker.manifest.decoder import decoder_from_text
from worker.model import MemberPolicy, Payload
from worker.records.brake import LEAST_JUDGED
from worker.records.brake_states import BrakeState
from worker.stores import memory
from worker.stores.memory import MemoryStore
from worker.sync import drain as drain_module
from worker.sync import fold as fold_module
from worker.sync import judge as judge_module
from worker.sync import reading as reading_module
from worker.sync.drain import Drained, drain
from worker.sync.isolation import ParserCrashed, ParserInterrupted
from worker.sync.judge import MOST_CRASHES
from worker.sync.members import read_in_pieces

BAD = b"{not json"


class Apart:
    """Stands for parsers in processes of their own: what they were given, and which bodies bring them down.

    ``fates``: body -> what happens to whoever parses it, one time after the other, and from then on nothing.
    """

    def __init__(self) -> None:
        self.parsed: list[bytes] = []
        self.fates: dict[bytes, list[Exception]] = {}

    def __call__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def parse(
        self, parser_text: str, body: bytes, policy: MemberPolicy, *, meanwhile: Callable[[], object] | None
    ) -> Payload:
        self.parsed.append(body)
        assert meanwhile is not None
        meanwhile()
        if self.fates.get(body):
            raise self.fates[body].pop(0)
        return decoder_from_text(parser_text).decode(body, policy)

    def close(self) -> None:
        pass


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Apart:
    made = Apart()
    monkeypatch.setattr(judge_module, "IsolatedParser", made)
    return made


def run(installation: Installation) -> Drained:
    return drain(installation.wiring, installation.segment(), installation.store_id, budget_seconds=60.0)


def status(installation: Installation) -> StoreStatus:
    segment = installation.segment()
    [found] = installation.wiring.upkeep.statuses(
        segment.environment_id, [segment.segment_key], [installation.store_id]
    )
    return found.stores[installation.store_id]


def take(installation: Installation) -> Lease:
    lease = installation.wiring.drain_log.take(
        installation.segment(), installation.store_id, connection="another's", incarnation=incarnation(installation)
    )
    assert isinstance(lease, Lease)
    return lease


def incarnation(installation: Installation) -> str:
    found = installation.client.hget(keyspace.INCARNATIONS, installation.store_id)
    return found.decode() if isinstance(found, bytes) else ""


def lose_a_worker(installation: Installation) -> None:
    """A drain stands still until its lease is taken away."""
    take(installation)
    held = status(installation)
    installation.wiring.upkeep.expire(installation.segment(), installation.store_id, held.lease, held.beat)


def dead(installation: Installation) -> dict[str, Any]:
    """What is known of each dead entry."""
    found = cast("dict[bytes, bytes]", installation.client.hgetall(f"{keyspace.prefix(installation.segment())}:dead"))
    return {entry_id.decode(): msgspec.json.decode(letter) for entry_id, letter in found.items()}


def crash() -> ParserCrashed:
    return ParserCrashed("was killed by SIGSEGV")


def test_after_a_lease_expired_entries_are_parsed_apart_until_all_of_them_could_be(
    installation: Installation, apart: Apart
) -> None:
    installation.accept(add=("ann",))
    run(installation)
    assert apart.parsed == []
    installation.accept(add=("bob",))
    lose_a_worker(installation)
    assert run(installation).outcome == "applied"
    assert apart.parsed == [installation.body(add=("bob",))]
    installation.accept(add=("cyd",))
    assert run(installation).outcome == "applied"
    assert len(apart.parsed) == 1
    assert installation.members("ann", "bob", "cyd") == {"ann", "bob", "cyd"}


def test_a_drain_that_did_not_get_through_leaves_its_log_suspect(installation: Installation, apart: Apart) -> None:
    installation.accept(add=("ann",))
    lose_a_worker(installation)
    installation.store.failure = Unavailable("full", dependency="store", fate_unknown=False)
    assert run(installation).outcome == "away"
    installation.wiring.circuits.reset(installation.store_id)
    run(installation)
    assert len(apart.parsed) == 2


def test_a_batch_that_kills_its_parser_three_times_is_dead_and_the_others_apply(
    installation: Installation, apart: Apart
) -> None:
    killer = installation.body(add=("eve",))
    apart.fates[killer] = [crash() for _ in range(10)]
    installation.accept(add=("ann",))
    installation.accept_body(killer)
    installation.accept(add=("bob",))
    lose_a_worker(installation)
    assert run(installation).dead == 1
    assert apart.parsed.count(killer) == MOST_CRASHES == 3
    [letter] = dead(installation).values()
    assert (letter["reason"], letter["attempts"]) == ("crashed", 3)
    assert installation.members("ann", "bob", "eve") == {"ann", "bob"}


def test_a_batch_that_killed_its_parser_twice_and_then_does_not_lives(installation: Installation, apart: Apart) -> None:
    apart.fates[installation.body(add=("ann",))] = [crash(), crash()]
    installation.accept(add=("ann",))
    lose_a_worker(installation)
    assert run(installation).dead == 0
    assert installation.members("ann") == {"ann"}


def test_what_a_batch_has_killed_is_counted_over_all_drains(installation: Installation, apart: Apart) -> None:
    killer = installation.body(add=("eve",))
    stopped = ParserInterrupted("the worker is told to stop")
    apart.fates[killer] = [crash(), stopped, crash(), stopped, crash(), stopped]
    installation.accept_body(killer)
    lose_a_worker(installation)
    assert [run(installation).outcome for _ in range(3)] == ["stopped", "stopped", "applied"]
    assert len(dead(installation)) == 1


def test_a_worker_that_is_told_to_stop_counts_nothing(installation: Installation, apart: Apart) -> None:
    killer = installation.body(add=("eve",))
    apart.fates[killer] = [ParserInterrupted("the worker is told to stop") for _ in range(5)]
    installation.accept_body(killer)
    lose_a_worker(installation)
    assert [run(installation).outcome for _ in range(6)] == ["stopped"] * 5 + ["applied"]
    assert dead(installation) == {}


def test_the_lease_is_renewed_while_a_body_is_parsed_apart(
    installation: Installation, apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.accept(add=("ann",))
    lose_a_worker(installation)
    renewed: list[int] = []
    monkeypatch.setattr(Lease, "renew", lambda _: renewed.append(len(apart.parsed)))
    run(installation)
    assert renewed == [0, 1, 1], "before it, while it is parsed, and before the write"


def test_the_lease_is_renewed_before_each_entry_and_each_window(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    change = MemoryStore.change

    def read(*arguments: Any) -> Iterable[Mapping[str, bool]]:
        steps.append("entry")
        return read_in_pieces(*arguments)

    def write(*arguments: Any) -> object:
        if arguments[-1] != "excluded":  # both lists are one window
            steps.append("window")
        return change(*arguments)

    monkeypatch.setattr(judge_module, "read_in_pieces", read)
    monkeypatch.setattr(MemoryStore, "change", write)
    monkeypatch.setattr(memory, "WINDOW", 1)
    monkeypatch.setattr(Lease, "renew", lambda _: steps.append("renewed"))
    installation.accept(add=("ann",))
    installation.accept(add=("bob",))
    run(installation)
    assert steps == ["renewed", "entry"] * 2 + ["renewed", "window"] * 2


def test_the_cursor_moves_only_over_what_is_in_the_store(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.accept(add=("ann",))
    seen: list[set[str]] = []
    call = DrainLog.call

    def looked(log: DrainLog, name: str, *arguments: Any) -> Any:
        if name == "advance":
            seen.append(installation.members("ann"))
        return call(log, name, *arguments)

    monkeypatch.setattr(DrainLog, "call", looked)
    run(installation)
    assert seen == [{"ann"}]


def engage(installation: Installation) -> None:
    brakes = installation.wiring.brakes
    assert any(brakes.died(installation.environment_id, "rudderstack") for _ in range(LEAST_JUDGED))


def let_the_time_come(installation: Installation) -> None:
    """The next probe of a brake may come."""
    for field, text in cast("dict[bytes, bytes]", installation.client.hgetall("segsync:brakes")).items():
        record: dict[str, Any] = msgspec.json.decode(text)
        installation.client.hset("segsync:brakes", field, msgspec.json.encode({**record, "next_probe_ms": 1}))


def brakes(installation: Installation) -> list[BrakeState]:
    return list(installation.wiring.brakes.list())


def exact(installation: Installation) -> bool:
    """Whether the segment's counts of members are exact."""
    segment = installation.segment()
    [found] = read_segments(installation.wiring.client, segment.environment_id, [segment.segment_key])
    return found.members_exact


def untouched(installation: Installation) -> bool:
    """Whether the log waits as it did, with nobody at it and nothing that could still land."""
    found = status(installation)
    return (found.ahead, found.lease, found.marks) == (True, "", ())


def test_while_an_integration_is_braked_its_batches_wait(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.accept_body(BAD)
    engage(installation)
    assert run(installation).outcome == "braked"
    assert installation.members("ann") == set()
    assert dead(installation) == {}
    assert untouched(installation)


def test_the_batch_that_engages_the_brake_is_not_dead(installation: Installation) -> None:
    for _ in range(LEAST_JUDGED + 5):
        installation.accept_body(BAD)
    assert run(installation).outcome == "braked"
    assert len(dead(installation)) == LEAST_JUDGED - 1
    assert untouched(installation)


def test_a_brake_that_comes_on_after_a_part_was_written_leaves_all_of_the_step_to_be_done_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module.fold, "__kwdefaults__", {"first_names": 1, "last_names": 1, "most_names": 1})
    installation.accept(add=("ann", "bob"))
    for _ in range(LEAST_JUDGED + 5):
        installation.accept_body(BAD)
    done = run(installation)
    assert (done.outcome, done.batches) == ("braked", 0)
    assert installation.members("ann", "bob") == {"ann", "bob"}
    assert untouched(installation)
    assert not exact(installation)
    installation.wiring.brakes.release(installation.environment_id, "rudderstack")
    assert run(installation).outcome == "applied"
    assert len(dead(installation)) == LEAST_JUDGED + 5
    assert installation.members("ann", "bob") == {"ann", "bob"}


def test_a_batch_that_died_is_found_again(installation: Installation) -> None:
    installation.accept_body(BAD)
    run(installation)
    [found] = installation.wiring.dead_letters.newest_first()
    assert (found.segment, found.letter.reason) == (installation.segment(), "malformed")


def test_a_suspect_batch_whose_parser_cannot_be_had_waits(installation: Installation, apart: Apart) -> None:
    installation.accept_body(installation.body(add=("ann",)), digest="unknown")
    lose_a_worker(installation)
    with pytest.raises(Unavailable):
        run(installation)
    assert dead(installation) == {}
    assert status(installation).ahead


def test_where_half_of_the_batches_live_no_brake_is_engaged(installation: Installation) -> None:
    for number in range(LEAST_JUDGED):
        installation.accept(add=(f"p{number}",))
        installation.accept_body(BAD)
    done = run(installation)
    assert (done.outcome, done.dead) == ("applied", LEAST_JUDGED)


@pytest.mark.parametrize("living", [0, 1, 2])
def test_a_brake_stays_on_until_most_of_what_waits_would_live(installation: Installation, living: int) -> None:
    engage(installation)
    let_the_time_come(installation)
    installation.accept_body(BAD)
    for number in range(living):
        installation.accept(add=(f"p{number}",))
    done = run(installation)
    if living == 2:
        assert (done.outcome, done.dead) == ("applied", 1)
        assert brakes(installation) == []
    else:
        assert done.outcome == "braked"
        assert dead(installation) == {}
        assert [brake.probes for brake in brakes(installation)] == [1]
        assert untouched(installation)


def test_a_probe_that_fails_lets_nothing_through_that_would_live(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "PAGE_ENTRIES", 1)
    engage(installation)
    let_the_time_come(installation)
    installation.accept(add=("ann",))
    installation.accept_body(BAD)
    assert run(installation).outcome == "braked"
    assert installation.members("ann") == set()
    assert untouched(installation)


def test_a_probe_parses_apart_and_one_that_is_cut_short_gives_its_turn_back(
    installation: Installation, apart: Apart
) -> None:
    engage(installation)
    let_the_time_come(installation)
    body = installation.body(add=("ann",))
    apart.fates[body] = [ParserInterrupted("the worker is told to stop")]
    installation.accept_body(body)
    assert run(installation).outcome == "stopped"
    assert apart.parsed == [body]
    assert [brake.due for brake in brakes(installation)] == [True]
    assert run(installation).outcome == "applied"
    assert apart.parsed == [body, body]


def bury(installation: Installation) -> None:
    """The first batch that waits has died already, of another store's drain."""
    lease = take(installation)
    [entry] = lease.read(most_bytes=1, most_entries=1)
    installation.client.hset(f"{keyspace.prefix(installation.segment())}:dead", entry.entry_id, '{"status":"dead"}')
    lease.release(clean=True)


def test_what_is_dead_already_is_no_probe_of_a_brake(installation: Installation) -> None:
    engage(installation)
    let_the_time_come(installation)
    installation.accept_body(BAD)
    bury(installation)
    installation.accept(add=("ann",))
    assert run(installation).outcome == "applied"
    assert brakes(installation) == []


def test_what_people_changed_is_no_probe_of_a_brake_and_waits_for_its_turn(installation: Installation) -> None:
    engage(installation)
    let_the_time_come(installation)
    installation.accept()
    for _ in range(3):
        change_by_hand(installation, add=("ann",))
    installation.accept_body(BAD)
    assert run(installation).outcome == "braked"
    assert installation.store.included("ann") == set()


def test_a_probe_that_found_nothing_to_try_gives_its_turn_back(installation: Installation) -> None:
    engage(installation)
    let_the_time_come(installation)
    installation.accept_body(BAD)
    bury(installation)
    run(installation)
    assert [brake.due for brake in brakes(installation)] == [True]


def open_circuit(installation: Installation) -> None:
    """The store was away, and may be tried again."""
    installation.wiring.circuits.failed(installation.store_id, Unavailable("no answer", dependency="store"))
    installation.client.hincrby(f"segsync:circuit:{{{installation.store_id}}}", "retry_at_ms", -10_000_000)


def circuit(installation: Installation) -> tuple[bool, bool]:
    """Whether the store's circuit is open, and whether it may be tried."""
    found = installation.wiring.circuits.read([installation.store_id])[installation.store_id]
    return found.open, found.due


def test_a_circuit_closes_when_a_write_succeeded_and_not_when_nothing_was_written(installation: Installation) -> None:
    open_circuit(installation)
    installation.accept()
    assert run(installation).outcome == "applied"
    assert circuit(installation) == (True, True)
    installation.accept(add=("ann",))
    assert run(installation).outcome == "applied"
    assert circuit(installation) == (False, False)


def test_a_circuit_stays_open_when_a_drain_ends_before_anything_of_its_write_was_sent(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_circuit(installation)
    installation.accept(add=("ann",))

    def lost(*_: object) -> None:
        raise LeaseLost("somebody else has it")

    monkeypatch.setattr(drain_module._Run, "_before_window", lost)
    assert run(installation).outcome == "lost"
    assert installation.members("ann") == set()
    assert circuit(installation) == (True, True)


def test_who_finds_nothing_to_do_gives_the_turn_to_try_a_store_back(installation: Installation) -> None:
    installation.accept(add=("ann",))
    run(installation)
    open_circuit(installation)
    assert run(installation).outcome == "idle"
    assert circuit(installation) == (True, True)


def test_that_the_state_server_lacks_a_parser_says_nothing_of_the_store(installation: Installation) -> None:
    installation.accept_body(installation.body(add=("ann",)), digest="unknown")
    with pytest.raises(Unavailable):
        run(installation)
    assert circuit(installation) == (False, False)
    assert untouched(installation)


def test_a_worker_that_is_told_to_stop_takes_no_lease(installation: Installation) -> None:
    installation.accept(add=("ann",))
    before = status(installation)
    done = drain(installation.wiring, installation.segment(), installation.store_id, stopping=lambda: True)
    assert (done.outcome, done.wake_up_due) == ("stopped", True)
    assert status(installation) == before


def test_a_write_that_takes_longer_than_a_stopping_worker_has_is_left_and_nothing_of_it_is_taken_for_applied(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "WINDOW", 1)
    installation.accept(add=("ann", "bob", "cyd", "dan"))
    now, written = [1000.0], MemoryStore.change

    def slowly(*arguments: Any) -> object:
        now[0] += 1.5
        return written(*arguments)

    monkeypatch.setattr(MemoryStore, "change", slowly)
    done = drain(
        installation.wiring,
        installation.segment(),
        installation.store_id,
        clock=lambda: now[0],
        stopping=lambda: now[0] > 1000.0,
    )
    assert (done.outcome, done.wake_up_due) == ("stopped", True)
    assert 0 < len(installation.members("ann", "bob", "cyd", "dan")) < 4
    assert status(installation).marks == ()
    run(installation)
    assert installation.members("ann", "bob", "cyd", "dan") == {"ann", "bob", "cyd", "dan"}
