"""`segsync batches` and `segsync brake`, on a real state server, with a store in memory."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import redis
from replay_builders import altered_parser, apply, die, publish, reject
from servers import ValkeyServer
from sync_builders import Installation
from typer.testing import CliRunner, Result

from worker.cli import batch_decisions
from worker.cli.app import app
from worker.cli.batch_filters import read_time
from worker.cli.progress import wait_for_workers
from worker.cli.store_facts import moment
from worker.errors import Misconfigured, Unavailable
from worker.model import StoreRecord
from worker.sync.batches import Batches, BatchFilter


@dataclass
class Commands:
    installation: Installation

    def run(self, *arguments: str, stdin: str | None = None, code: int = 0) -> Result:
        """Run `segsync …`."""
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def statuses(self) -> dict[str, str]:
        found = Batches(self.installation.wiring).newest_first(BatchFilter())
        return {batch.batch_id: batch.status for batch in found}


@pytest.fixture
def installation(real_redis: redis.Redis) -> Installation:
    installed = Installation(real_redis)
    publish(installed, installed.manifest.parser)
    return installed


@pytest.fixture
def commands(
    installation: Installation, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> Commands:
    monkeypatch.setenv("SEGSYNC_STATE_URL", valkey.url)
    monkeypatch.chdir(str(tmp_path))
    return Commands(installation)


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_decisions, "can_be_asked", lambda: True)


def test_what_waits_is_listed(commands: Commands, installation: Installation) -> None:
    assert commands.run("batches", "list").output == "There are none.\n"
    die(installation, add=("ann",))
    reject(installation, b"{}")
    table = commands.run("batches", "list").output
    for text in ("refused-1", "rejected", "dead", "rudderstack-beta", "the add array is missing", "cohort"):
        assert text in table
    assert [batch["status"] for batch in commands.json("batches", "list")["items"]] == ["rejected", "dead"]


def test_pages_of_a_list_follow_one_another(commands: Commands, installation: Installation) -> None:
    for number in range(5):
        reject(installation, b"{}", f"refused-{number}")
    first = commands.run("batches", "list", "--limit", "3").output
    [before] = re.findall(r"More: --before (\S+)", first)
    rest = commands.json("batches", "list", "--limit", "3", "--before", before)
    assert ([batch["id"] for batch in rest["items"]], rest["before"]) == (["refused-1", "refused-0"], None)
    with pytest.raises(Misconfigured, match="--before takes"):
        commands.run("batches", "list", "--before", "x")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--status", "rejected"], ["rejected"]),
        (["--status", "rejected", "--status", "dead"], ["rejected", "dead"]),
        (["--status", "replayed"], []),
        (["--reason", "cohort"], ["dead"]),
        (["--segment", "rudderstack-beta"], ["dead"]),
        (["--integration", "hightouch"], []),
        (["--environment", "production"], ["dead"]),
        (["--since", "2h"], ["rejected", "dead"]),
        (["--until", "2h"], []),
        (["--until", "2020-01-01"], []),
    ],
)
def test_a_list_is_filtered(
    commands: Commands, installation: Installation, options: list[str], found: list[str]
) -> None:
    die(installation, add=("ann",))
    reject(installation, b"{}")
    assert [batch["status"] for batch in commands.json("batches", "list", *options)["items"]] == found


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--status", "lost"], "there are dead, rejected"),
        (["--since", "yesterday"], "is no time"),
        (["--until", "3 d"], "is no time"),
        (["--environment", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_a_filter_is_told_in_one_line(commands: Commands, options: list[str], problem: str) -> None:
    with pytest.raises(Misconfigured, match=problem):
        commands.run("batches", "list", *options)


def test_times_are_ago_or_iso_8601() -> None:
    now = 1_000_000_000_000
    assert read_time("90m", now) == now - 5_400_000
    assert read_time("1w", now) == now - 604_800_000
    assert read_time("2001-09-09T01:46:40", 0) == now
    assert read_time("2001-09-09T03:46:40+02:00", 0) == now


def test_a_batch_is_shown_without_its_values(commands: Commands, installation: Installation) -> None:
    installation.accept(add=("cyd",))
    apply(installation)
    reject(installation, installation.body(add=("ann", "bob"), remove=("cyd",)))
    said = commands.run("batches", "show", "refused-1").output
    assert "refused     " in said
    assert "reason       members: the add array is missing" in said
    assert "failed at    /listData/plus" in said
    assert "      add: array of 2: 2 object" in said
    assert "  rudderstack-beta: 2 added, 1 removed, 0 unchanged, 0 left alone" in said
    assert "ann" not in said
    shown = commands.json("batches", "show", "refused-1")
    assert (shown["id"], shown["replay"]["possible"]) == ("refused-1", True)
    with pytest.raises(Misconfigured, match="there is no batch 'nobody'"):
        commands.run("batches", "show", "nobody")


def test_why_a_batch_cannot_be_replayed_is_shown(commands: Commands, installation: Installation) -> None:
    die(installation, add=("ann",))
    publish(installation, altered_parser(installation, "/cohortId", "/nowhere"))
    [batch] = commands.json("batches", "list")["items"]
    said = commands.run("batches", "show", batch["id"]).output
    assert "is not possible: " in said
    assert "/nowhere" in said


def test_a_replay_shows_a_preview_asks_and_does_it(
    commands: Commands, installation: Installation, at_a_terminal: None
) -> None:
    die(installation, add=("ann", "bob"))
    installation.accept(remove=("ann",))
    apply(installation)
    result = commands.run("batches", "replay", "--integration", "rudderstack", stdin="y\n")
    assert "1 batch would be replayed" in result.stdout
    [row] = [line for line in result.stdout.splitlines() if "rudderstack-beta" in line]
    assert re.findall(r"\d+", row.partition("rudderstack-beta")[2]) == ["1", "1", "0", "0", "1"]
    assert "1 batch replayed, into 1 segment" in result.stdout
    apply(installation)
    assert installation.members("ann", "bob") == {"bob"}
    assert "batch.replayed" not in result.output


def test_a_preview_says_which_segments_batches_come_to_and_leave_and_how_many_members_it_leaves_out(
    commands: Commands, installation: Installation
) -> None:
    die(installation, add=("ann",))
    body = json.loads(installation.body(add=("bob",)))
    body["listData"]["add"].append({"name": "has no id"})
    reject(installation, json.dumps(body).encode())
    publish(installation, altered_parser(installation, "/cohortId", "/cohortName"))
    commands.run("policy", "skip", "rudderstack")
    said = commands.run("batches", "replay", "--all", "--dry-run").stdout
    assert "these segments get batches that died in others:\n  rudderstack-Beta: 1 batch\n" in said
    assert "not theirs any more:\n  rudderstack-beta: 1 batch\n" in said
    assert "1 member cannot be read, and would be left out" in said
    preview = commands.json("batches", "replay", "--all", "--dry-run")["preview"]
    assert [(each["segmentKey"], each["batches"]) for each in preview["leaving"]] == [("rudderstack-beta", 1)]
    assert preview["leftOut"] == 1


def test_who_does_not_agree_replays_nothing(
    commands: Commands, installation: Installation, at_a_terminal: None
) -> None:
    reject(installation, installation.body(add=("ann",)))
    said = commands.run("batches", "replay", "--all", stdin="n\n", code=1)
    assert said.stderr.endswith("Nothing was replayed.\n")
    assert "--yes" not in said.stderr
    assert commands.statuses() == {"refused-1": "rejected"}


def test_without_a_terminal_a_replay_is_a_preview_until_yes_is_said(
    commands: Commands, installation: Installation
) -> None:
    reject(installation, installation.body(add=("ann",)))
    result = commands.run("batches", "replay", "--all", code=1)
    assert "1 batch would be replayed" in result.stdout
    assert "--yes" in result.stderr
    commands.run("batches", "replay", "--all", "--dry-run")
    assert commands.statuses() == {"refused-1": "rejected"}
    commands.run("batches", "replay", "--all", "--yes", "--by", "ops")
    assert commands.statuses() == {"refused-1": "replayed"}
    [batch] = commands.json("batches", "list", "--status", "replayed")["items"]
    assert batch["decision"]["by"] == "ops"


def test_what_is_replayed_wakes_workers(
    commands: Commands, installation: Installation, real_redis: redis.Redis
) -> None:
    reject(installation, installation.body(add=("ann",)))
    commands.run("batches", "replay", "refused-1", "--yes")
    assert real_redis.llen("segsync:celery:segsync.drain") == 1


def test_batches_are_replayed_by_their_ids_and_no_others(commands: Commands, installation: Installation) -> None:
    for number in range(3):
        reject(installation, installation.body(add=(f"person-{number}",)), f"refused-{number}")
    answer = commands.json("batches", "replay", "refused-2", "refused-0", "--dry-run")
    assert (answer["preview"]["batches"], answer["outcome"]) == (2, None)
    commands.run("batches", "replay", "refused-2", "refused-0", "--yes")
    assert commands.statuses() == {"refused-0": "replayed", "refused-1": "rejected", "refused-2": "replayed"}
    again = commands.run("batches", "replay", "refused-2", "--yes")
    assert "refused-2 does not wait any more: it is replayed" in again.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "--all means all of them"),
        (["--status", "dead"], "--all means all of them"),
        (["--status", "discarded", "--all"], "only dead and rejected"),
        (["nobody"], "there is no batch 'nobody'"),
        (["refused-1", "--all"], "not both"),
        (["refused-1", "--reason", "members"], "not both"),
    ],
)
@pytest.mark.parametrize("command", ["replay", "discard"])
def test_which_batches_are_meant_must_be_said(
    commands: Commands, installation: Installation, command: str, options: list[str], problem: str
) -> None:
    reject(installation, b"{}")
    with pytest.raises(Misconfigured, match=problem):
        commands.run("batches", command, *options, "--yes")


def test_what_cannot_be_replayed_is_listed_with_its_reason_and_ends_with_1(
    commands: Commands, installation: Installation
) -> None:
    reject(installation, installation.body(add=("ann",)), "good")
    reject(installation, b"{}", "bad")
    result = commands.run("batches", "replay", "--all", "--yes", code=1)
    assert "1 of 2 batches would be replayed" in result.stdout
    assert "1 batch cannot be replayed: environment, as bad: " in result.stdout
    assert "1 batch could not be replayed:\n  bad: " in result.stdout
    answer = commands.json("batches", "replay", "--all", "--yes", code=1)
    assert answer["preview"]["obstacles"][0]["reason"] == "environment"
    assert commands.statuses() == {"good": "replayed", "bad": "rejected"}


def test_nothing_to_replay_is_a_success(commands: Commands) -> None:
    assert "0 batches would be replayed" in commands.run("batches", "replay", "--all").output


def test_json_of_a_replay_is_its_preview_and_its_outcome(commands: Commands, installation: Installation) -> None:
    reject(installation, installation.body(add=("ann",)))
    answer = commands.json("batches", "replay", "--all", code=1)
    assert (answer["preview"]["total"]["added"], answer["outcome"]) == (1, None)
    answer = commands.json("batches", "replay", "--all", "--yes")
    assert (answer["outcome"]["replayed"], answer["outcome"]["problems"]) == (1, [])


def test_waiting_ends_when_the_stores_that_are_on_have_applied_it(
    commands: Commands, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    reject(installation, installation.body(add=("ann",)))
    looks: list[float] = []

    def work(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            apply(installation)

    monkeypatch.setattr(batch_decisions, "wait_for_workers", partial(wait_for_workers, sleep=work))
    commands.run("batches", "replay", "--all", "--yes", "--wait")
    assert len(looks) == 3
    assert installation.members("ann") == {"ann"}


def test_discarding_asks_and_records_who_and_why(
    commands: Commands, installation: Installation, at_a_terminal: None
) -> None:
    die(installation, add=("ann",))
    reject(installation, b"{}")
    refused = commands.run("batches", "discard", "--all", stdin="a test\nn\n", code=1)
    assert refused.stderr.endswith("Nothing was discarded.\n")
    assert "Abort" not in refused.stderr
    assert set(commands.statuses().values()) == {"dead", "rejected"}
    said = commands.run("batches", "discard", "--all", "--by", "alice", stdin="a test\ny\n")
    assert "2 batches discarded" in said.stdout
    for batch in commands.json("batches", "list", "--status", "discarded")["items"]:
        assert (batch["decision"]["by"], batch["decision"]["why"]) == ("alice", "a test")


def test_discarding_without_a_terminal_needs_a_reason_and_yes(commands: Commands, installation: Installation) -> None:
    reject(installation, b"{}")
    with pytest.raises(Misconfigured, match="say why"):
        commands.run("batches", "discard", "--all", "--yes")
    with pytest.raises(Misconfigured, match="--yes"):
        commands.run("batches", "discard", "--all", "--why", "a test")
    assert commands.json("batches", "discard", "refused-1", "--why", "a test", "--yes") == {"discarded": 1}
    [batch] = commands.json("batches", "list", "--status", "discarded")["items"]
    assert batch["decision"]["by"].startswith("cli:")


def test_a_name_of_a_machine_without_names_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", nobody)
    assert batch_decisions.user_name() == "cli:unknown"


def engage(installation: Installation) -> None:
    for number in range(20):
        installation.wiring.brakes.died(installation.environment_id, "rudderstack", reason=f"reason-{number}")


def test_a_brake_is_listed_and_released(commands: Commands, installation: Installation) -> None:
    assert commands.run("brake", "list").output == "No brake is on.\n"
    engage(installation)
    assert "rudderstack in default/production is braked since " in commands.run("brake", "list").output
    [state] = commands.json("brake", "list", "--environment", "production")
    assert (state["integrationKey"], state["environment"]) == ("rudderstack", "default/production")
    released = commands.run("brake", "release", "rudderstack").output
    assert released == "rudderstack in default/production is drained again; it begins within seconds.\n"
    assert commands.json("brake", "list") == []
    with pytest.raises(Misconfigured, match="no brake is on for 'rudderstack'"):
        commands.run("brake", "release", "rudderstack")


def test_a_release_that_lets_batches_die_says_until_when_and_is_listed(
    commands: Commands, installation: Installation
) -> None:
    engage(installation)
    released = commands.run("brake", "release", "rudderstack", "--let-die-minutes", "30").output
    told = re.search(r"is drained again, within seconds, and is not braked until (.* UTC), however many", released)
    assert told is not None
    engage(installation)
    [state] = commands.json("brake", "list")
    assert (state["integrationKey"], state["environment"]) == ("rudderstack", "default/production")
    assert state["sinceMs"] is None
    assert moment(state["letDieUntilMs"]) == told[1]
    listed = commands.run("brake", "list").output
    assert f"rudderstack in default/production is not braked until {told[1]}" in listed
    assert "`segsync brake release rudderstack` ends that" in listed


def test_a_second_release_ends_the_time_in_which_batches_may_die(
    commands: Commands, installation: Installation
) -> None:
    engage(installation)
    commands.run("brake", "release", "rudderstack", "--let-die-minutes", "30")
    again = commands.json("brake", "release", "rudderstack", "--let-die-minutes", "60")
    [state] = commands.json("brake", "list")
    assert again["released"][0]["wasOn"] is False
    assert again["released"][0]["letDieUntilMs"] == state["letDieUntilMs"]
    assert "is braked again as soon as most" in commands.run("brake", "release", "rudderstack").output
    assert commands.run("brake", "list").output == "No brake is on.\n"
    engage(installation)
    assert [state["letDieUntilMs"] for state in commands.json("brake", "list")] == [None]


def test_lists_of_segments_and_stores_tell_what_holds_batches_back(
    commands: Commands, installation: Installation
) -> None:
    installation.accept(add=("ann",))
    assert "braked" not in commands.run("segments").output
    engage(installation)
    store: StoreRecord = installation.made.store
    installation.wiring.circuits.failed(store.store_id, Unavailable("it hung up", dependency="store"))
    segments = commands.run("segments").output
    assert "rudderstack in default/production is braked since " in segments
    assert f"store {store.name} is away since " in segments
    stores = commands.run("store", "list").output
    assert "is braked since " in stores
    assert "away: it hung up" in stores
