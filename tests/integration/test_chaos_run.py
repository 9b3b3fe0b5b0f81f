"""A short run of `make chaos`, and proof that its checker sees what is done to real logs and stores."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from chaos.history import History
from chaos.installation import ENVIRONMENT_ID, Installation, installed
from chaos.load import Demand, Load
from chaos.logs import LogReader
from chaos.run import check, run

LOG = f"segsync:{{{ENVIRONMENT_ID}/chaos-split-c1}}:g1"
Entries = list[tuple[bytes, dict[bytes, bytes]]]


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_reordered_while_everything_is_killed_frozen_and_restarted(tmp_path: Path) -> None:
    done = run(5, 40, tmp_path / "chaos")

    assert done.all_problems() == []
    assert done.accepted > 300
    assert min(done.counts[name] for name in ("kills", "pauses", "restarts", "manifests broken")) > 0
    assert done.replayed > 0
    assert done.proofs > 0


def remove_an_entry(state: redis.Redis, store: redis.Redis) -> None:
    [(position, _)] = cast("Entries", state.xrange(f"{LOG}:log", count=1))
    state.xdel(f"{LOG}:log", position)


def bury_an_entry(state: redis.Redis, store: redis.Redis) -> None:
    [(position, _)] = cast("Entries", state.xrange(f"{LOG}:log", count=1))
    state.hset(f"{LOG}:dead", position, '{"status":"dead"}')


def swap_the_first_and_the_last(state: redis.Redis, store: redis.Redis) -> None:
    entries = cast("Entries", state.xrange(f"{LOG}:log"))
    entries[0], entries[-1] = (entries[0][0], entries[-1][1]), (entries[-1][0], entries[0][1])
    state.delete(f"{LOG}:log")
    for position, fields in entries:
        state.xadd(f"{LOG}:log", cast("Any", fields), id=position.decode())


def remove_a_member(state: redis.Redis, store: redis.Redis) -> None:
    key = next(store.scan_iter("launchdarkly:big_segment_include:*"))
    store.spop(key)


def add_a_member(state: redis.Redis, store: redis.Redis) -> None:
    key = next(store.scan_iter("launchdarkly:big_segment_include:*"))
    store.sadd(key, "chaos-split-c1.g7")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An installation after three seconds of load without a storm."""
    history = History()
    with installed(tmp_path_factory.mktemp("chaos") / "quiet") as installation:
        token = installation.deployment.writer_token
        demand = Demand(installation.urls, ENVIRONMENT_ID, token, seed=1, senders=4, per_second=100, faulty=False)
        load = Load(history, demand)
        load.start()
        time.sleep(3)
        load.stop(20)
        installation.deployment.wait_until_applied()
        yield installation, history


def test_after_a_quiet_run_nothing_is_found(quiet: tuple[Installation, History]) -> None:
    installation, history = quiet
    with installation.state.client() as state:
        logs = LogReader(ENVIRONMENT_ID).logs(state)
    assert check(installation, history, 1, logs).problems() == []
    assert sum(map(len, logs.entries.values())) > 100


@pytest.mark.parametrize(
    ("break_it", "names"),
    [
        (remove_an_entry, {"lost", "other"}),
        (bury_an_entry, {"lost"}),
        (swap_the_first_and_the_last, {"disordered", "unexpected"}),
        (remove_a_member, {"wrong"}),
        (add_a_member, {"wrong"}),
    ],
)
def test_what_is_done_to_a_log_or_a_store_is_found_out(
    quiet: tuple[Installation, History], break_it: Callable[[redis.Redis, redis.Redis], None], names: set[str]
) -> None:
    installation, history = quiet
    with installation.state.client() as state, installation.stores["b"].client() as store:
        before = [(client, {key: client.dump(key) for key in client.scan_iter("*")}) for client in (state, store)]
        break_it(state, store)
        verdict = check(installation, history, 1, LogReader(ENVIRONMENT_ID).logs(state))
        for client, keys in before:
            client.flushall()
            for key, dumped in keys.items():
                # The installation lives, and may have written it again.
                client.restore(key, 0, cast("bytes", dumped), replace=True)
    promises = ("lost", "unexpected", "doubled", "disordered", "wrong", "other")
    found = {name for name in promises if getattr(verdict, name)}
    # What is done to an entry may change memberships as well, and the member count.
    assert names <= found <= {*names, "wrong", "other"}
