"""The apply path: batches that wait in the log, to membership in the store."""

from __future__ import annotations

from statistics import median

from worker.cli.bench.applying import BATCH_MEMBERS, applying
from worker.cli.bench.installation import StoreKeeps
from worker.cli.bench.measuring import Plan, Result, alternate, over
from worker.cli.bench.payloads import people
from worker.cli.bench.references import limit_name

_SCALED_SEGMENTS = 8


def apply_rates(plan: Plan) -> list[Result]:
    """``apply_vs_limit`` and ``apply_vs_redis_py``, and what they come from; the store is a Redis as people run one."""
    members = people(plan.sized(500_000, 200_000))
    with applying(members, store="everysec") as here:
        ours, limit = alternate(plan, here.by_segsync, here.by_encoded_commands, turns=plan.sized(3, 2))
        beside, plain = alternate(plan, here.by_segsync, here.by_plain_python)
    said = f"{median(ours):,.0f} members/s of {limit_name()}'s {median(limit):,.0f}; store with appendfsync everysec"
    return [
        over("apply_vs_limit", ours, limit, said=said),
        over("apply_vs_redis_py", beside, plain, said=f"json, jsonpointer, redis-py: {median(plain):,.0f} members/s"),
        Result("apply_members", median(ours), "members/s", ours, f"batches of {BATCH_MEMBERS:,}, one worker process"),
        Result("apply_payloads", median(ours) / BATCH_MEMBERS, "payloads/s", [rate / BATCH_MEMBERS for rate in ours]),
    ]


def apply_elsewhere(plan: Plan) -> list[Result]:
    """The same where the store syncs each write, as the server of ``segsync up``, and where it keeps no file at all."""
    members, results = people(plan.sized(200_000, 60_000)), list[Result]()
    kept: dict[StoreKeeps, str] = {"as state": "fsync", "no": "no_file"}
    for store, name in kept.items():
        with applying(members, store=store) as here:
            ours, limit = alternate(plan, here.by_segsync, here.by_encoded_commands)
        said = f"{median(ours):,.0f} members/s of {median(limit):,.0f}"
        results.append(over(f"apply_vs_limit_{name}", ours, limit, said=said))
    return results


def flatness(plan: Plan) -> list[Result]:
    """What a member costs where a million wait in the log of one cohort, by what it costs where ten thousand do."""
    members = people(1_000_000)
    with applying(members) as long, applying(members[:10_000]) as short:
        at_a_million, at_ten_thousand = alternate(plan, long.by_segsync, short.by_segsync)
    said = f"{1e6 / median(at_a_million):.2f} by {1e6 / median(at_ten_thousand):.2f} µs a member"
    return [over("flatness", at_ten_thousand, at_a_million, said=said)]


def sizes(plan: Plan) -> list[Result]:
    """What a member takes in the server's memory: waiting in the log, and in the store."""
    members = people(100_000)
    with applying(members) as here:
        rounds = [here.bytes_in_log_and_store() for _ in range(plan.rounds)]
    in_log, in_store = zip(*rounds, strict=True)
    return [
        Result(
            "log_bytes", median(in_log), "bytes/member", in_log, "Segment's batches, compressed, until retention ends"
        ),
        Result("store_bytes", median(in_store), "bytes/member", in_store, "of a context that is in one segment"),
    ]


def two_workers(plan: Plan) -> list[Result]:
    """Two worker processes against one, on the logs of several cohorts."""
    members = people(plan.sized(200_000, 100_000))
    with applying(members) as one, applying(members, processes=2) as two:
        by_two, by_one = alternate(
            plan,
            lambda: two.by_segsync(segments=_SCALED_SEGMENTS),
            lambda: one.by_segsync(segments=_SCALED_SEGMENTS),
        )
    said = f"{median(by_two):,.0f} by {median(by_one):,.0f} members/s, {_SCALED_SEGMENTS} cohorts, one server"
    return [over("two_workers_vs_one", by_two, by_one, said=said)]
