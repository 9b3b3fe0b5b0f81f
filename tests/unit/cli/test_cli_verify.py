"""`segsync verify` and `segsync rebuild`, on a real server that is state server and store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import pytest
import redis
from replay_builders import die, publish, reject
from servers import ValkeyServer, free_port, wait_until
from sync_builders import Installation
from typer.testing import CliRunner, Result

from worker.cli import rebuild as rebuild_module
from worker.cli.app import app
from worker.cli.progress import QUIET_SECONDS, wait_for_workers
from worker.errors import Misconfigured, Unavailable
from worker.log import keyspace
from worker.model import RedisStoreConfiguration, StoreRecord
from worker.records.stores import StoreRecords
from worker.stores import SegmentStore, open_store
from worker.stores.layout import context_hash
from worker.sync.drain import drain
from worker.sync.following import Standing


class RealInstallation(Installation):
    """Its store is the state server."""

    def _open(self, record: StoreRecord) -> SegmentStore:  # type: ignore[override]
        return open_store(record)


@dataclass
class Commands:
    installation: RealInstallation
    client: redis.Redis

    def run(self, *arguments: str, code: int = 0) -> Result:
        """Run `segsync …`."""
        result = CliRunner().invoke(app, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        said = self.run(*arguments, "--json", code=code).stdout
        # The workers of a test are in this process, and log there, too.
        [answer] = [line for line in said.splitlines() if line.startswith("{")]
        return json.loads(answer)

    def apply(self, *cohorts: str) -> None:
        for cohort in cohorts or ("beta", "gamma"):
            drain(self.installation.wiring, self.installation.segment(cohort), self.installation.store_id)

    def refs(self, person: str) -> set[str]:
        found: Any = self.client.smembers(f"launchdarkly:big_segment_include:{context_hash(person)}")
        return {ref.decode() for ref in found}

    def put_in(self, person: str, cohort: str = "beta") -> None:
        """Behind our back."""
        ref = self.installation.segment(cohort).ref
        self.client.sadd(f"launchdarkly:big_segment_include:{context_hash(person)}", ref)

    def take_out(self, person: str, cohort: str = "beta") -> None:
        ref = self.installation.segment(cohort).ref
        self.client.srem(f"launchdarkly:big_segment_include:{context_hash(person)}", ref)


@pytest.fixture
def commands(
    real_redis: redis.Redis, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> Iterator[Commands]:
    """Ann and bob are in one segment, cyd is in another."""
    installation = RealInstallation(real_redis)
    StoreRecords(real_redis).set(
        installation.store_id, configuration=RedisStoreConfiguration(host=valkey.host, port=valkey.port)
    )
    installation.wiring.directory.fresh(0)
    publish(installation, installation.manifest.parser)
    found = Commands(installation, real_redis)
    installation.accept("beta", add=("ann", "bob"))
    installation.accept("gamma", add=("cyd",))
    found.apply()
    monkeypatch.setenv("SEGSYNC_STATE_URL", valkey.url)
    monkeypatch.chdir(str(tmp_path))
    yield found
    installation.wiring.stores.close()


def test_where_nothing_is_wrong_everything_agrees(commands: Commands) -> None:
    said = commands.run("verify").output
    [row] = [line for line in said.splitlines() if "agrees" in line]
    assert row.replace("│", " ").split() == ["redis", *"2200003", "agrees"]
    assert "Bodies answered 400: 0 kept" in said


def test_what_waits_is_dead_or_was_refused_is_counted_as_that(commands: Commands) -> None:
    die(commands.installation, add=("dan",))
    reject(commands.installation, b"{}")
    commands.installation.accept("gamma", add=("eve",))
    found = commands.json("verify")
    [environment] = found["environments"]
    [store] = environment["stores"]
    assert (environment["accepted"], environment["dead"], environment["lost"]) == (4, 1, 0)
    assert (store["applied"], store["pending"], store["verdict"]) == (2, 1, "agrees")
    assert (found["rejected"]["kept"], found["rejected"]["waiting"]) == (1, 1)


def test_who_is_missing_and_who_should_not_be_in_is_found_and_repaired(commands: Commands) -> None:
    commands.take_out("ann")
    commands.put_in("eve")
    said = commands.run("verify", code=1).output
    assert "1 member missing, 1 member in it who should not be" in said
    assert "redis: rudderstack-beta: 1 member missing" in said
    assert "; repaired" in commands.run("verify", "--repair", code=1).output
    commands.apply()
    assert (commands.refs("ann"), commands.refs("eve")) == ({"rudderstack-beta.g1"}, set())
    commands.run("verify")


def test_a_batch_that_is_lost_is_found(commands: Commands) -> None:
    commands.client.xtrim(f"{keyspace.prefix(commands.installation.segment())}:log", 0)
    said = commands.run("verify", code=1).output
    assert "Lost: 1 of what was accepted are nowhere" in said
    assert "rudderstack-beta.g1: 1 batches are missing in the order in which they were accepted" in said


def test_one_segment_is_verified_and_no_other(commands: Commands) -> None:
    commands.take_out("cyd", "gamma")
    commands.run("verify", "--segment", "rudderstack-beta")
    commands.run("verify", "--segment", "rudderstack-gamma", code=1)
    with pytest.raises(Misconfigured, match="there is no segment nobody"):
        commands.run("verify", "--segment", "nobody")


def test_a_sample_says_that_it_is_one(commands: Commands) -> None:
    commands.put_in("eve")
    assert "agrees, by a sample" in commands.run("verify", "--sample", "1").output
    commands.take_out("ann")
    commands.run("verify", "--sample", "5", code=1)


def test_a_store_that_is_off_is_not_compared_and_one_that_is_away_is_told(commands: Commands) -> None:
    installation = commands.installation
    away = StoreRecords(commands.client).add(
        installation.environment_id, "second", RedisStoreConfiguration(host="127.0.0.1", port=free_port())
    )
    said = commands.json("verify", code=1)["environments"][0]["stores"]
    assert [store["verdict"].partition(":")[0] for store in said] == ["agrees", "away"]
    assert said[1]["pending"] == 2
    commands.run("verify", "--store", "redis")
    StoreRecords(commands.client).set(away.store_id, on=False)
    assert "off: not compared" in commands.run("verify").output


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed before", "noticed by comparing"])
def test_a_store_that_was_wiped_and_waits_for_a_person_is_told_in_one_line(commands: Commands, noticed: bool) -> None:
    installation = commands.installation
    StoreRecords(commands.client).set(installation.store_id, rebuild_when_wiped=False)
    commands.take_out("ann")
    commands.client.delete("launchdarkly:segsync_sentinel")
    installation.wiring.directory.fresh(0)
    if noticed:
        installation.accept("beta", add=("dan",))
        commands.apply("beta")
    assert (installation.wiring.incarnations.notes(installation.store_id).wiped_ms is not None) == noticed

    said = commands.run("verify", code=1).output
    [line] = [line for line in said.splitlines() if "was wiped (noticed " in line]
    assert line.startswith("store redis was wiped")
    assert line.endswith(f"and waits for `segsync rebuild --store {installation.store_id}`")
    assert "wiped: not compared" in said
    assert "try again" not in said
    [environment] = commands.json("verify", code=1)["environments"]
    assert (environment["stores"][0]["verdict"], environment["ok"]) == ("wiped: not compared", False)


def test_an_approximate_count_is_exact_after_a_comparison(commands: Commands) -> None:
    key = f"{keyspace.base(commands.installation.environment_id, 'rudderstack-beta')}:segment"
    commands.client.hset(key, "members_exact", "0")
    assert "The count of members of 1 segment is exact again." in commands.run("verify").output
    assert commands.client.hget(key, "members_exact") == b"1"


@contextmanager
def workers(commands: Commands) -> Iterator[None]:
    """Drain whatever waits, for as long as this is open."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            commands.apply()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_store_is_written_anew_and_whom_no_log_knows_of_is_removed(commands: Commands) -> None:
    commands.take_out("ann")
    commands.take_out("cyd", "gamma")
    commands.put_in("eve")
    with workers(commands):
        said = commands.run("rebuild", "--store", "redis").output
    assert "redis is written anew: 2 segments, 3 members" in said
    assert "1 member of whom no log knows removed" in said
    found = [commands.refs(person) for person in ("ann", "bob", "cyd", "eve")]
    assert found == [{"rudderstack-beta.g1"}, {"rudderstack-beta.g1"}, {"rudderstack-gamma.g1"}, set()]


def test_one_segment_is_written_anew_and_workers_are_woken_for_it(commands: Commands) -> None:
    commands.client.delete("segsync:celery:segsync.drain")
    commands.take_out("ann")
    commands.take_out("cyd", "gamma")
    with workers(commands):
        found = commands.json("rebuild", "--store", "redis", "--segment", "rudderstack-beta")
    assert (found["segments"], found["members"], found["missing"]) == (1, 2, 0)
    assert (commands.refs("ann"), commands.refs("cyd")) == ({"rudderstack-beta.g1"}, set())
    assert commands.client.llen("segsync:celery:segsync.drain") == 1


def test_cut_short_it_says_that_workers_go_on_and_run_again_it_goes_on_too(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rebuild_module, "wait_for_workers", interrupted)
        assert "the workers go on" in commands.run("rebuild", "--store", "redis", code=130).stderr
    commands.apply()
    result = commands.run("rebuild", "--store", "redis")
    assert "this goes on with the rebuild that was begun before" in result.stderr
    assert "2 segments" in result.stdout


class _Followed:
    """Says one standing after the other; an error is raised."""

    def __init__(self, *standings: Standing | Unavailable) -> None:
        self._standings = chain(standings, repeat(standings[-1]))

    def look(self) -> Standing:
        found = next(self._standings)
        if isinstance(found, Unavailable):
            raise found
        return found


OVER = Standing(2, 2, 0, 0)


def standing(done: int, sign: int) -> Standing:
    return Standing(done, 2, 5, sign)


def waited(capsys: pytest.CaptureFixture[str], followed: _Followed, *obstacles: str) -> str:
    """What is said to a person who waits, each look some ten seconds after the one before."""
    now = [0.0]

    def sleep(_: float) -> None:
        now[0] += 10

    wait_for_workers(followed, lambda _: None, lambda: obstacles, sleep, lambda: now[0])  # type: ignore[arg-type]
    return capsys.readouterr().err


def test_when_nothing_moves_for_half_a_minute_a_person_is_told_once_what_may_be_in_the_way(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stuck = [standing(0, 7)] * 9
    said = waited(capsys, _Followed(*stuck, OVER))
    assert said.splitlines() == [
        f"segsync: nothing has moved for {QUIET_SECONDS:g} s",
        "segsync: are workers running? `segsync worker` starts some",
    ]
    assert "store redis is away" in waited(capsys, _Followed(*stuck, OVER), "store redis is away")


def test_as_long_as_something_moves_nobody_is_told_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert waited(capsys, _Followed(*(standing(0, sign) for sign in range(20)), OVER)) == ""


def test_a_state_server_that_is_away_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    away = Unavailable("the state server is away", dependency="state")
    said = waited(capsys, _Followed(standing(0, 1), *[away] * 6, OVER))
    assert said == "segsync: the state server is away; this goes on when it is back\n"


def test_payloads_may_arrive_while_everything_is_verified(commands: Commands) -> None:
    over = threading.Event()

    def send() -> None:
        number = 0
        while not over.is_set():
            number += 1
            commands.installation.accept(
                "beta", add=(f"person-{number % 50}",), remove=(f"person-{(number + 7) % 50}",)
            )

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with workers(commands):
            for _ in range(10):
                found = commands.json("verify")
                assert found["environments"][0]["lost"] == 0
    finally:
        over.set()
        thread.join()
    wait_until(lambda: commands.json("verify")["environments"][0]["ok"])


def test_an_installation_without_a_store_is_counted_over_all_the_same(commands: Commands) -> None:
    StoreRecords(commands.client).remove(commands.installation.store_id)
    assert "default/production has no store; 2 batches were accepted" in commands.run("verify").output
