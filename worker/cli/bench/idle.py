"""What a whole ``segsync up`` costs while nobody sends anything."""

from __future__ import annotations

import time
from statistics import median

import psutil

from worker.cli.bench.http_load import request, send_all
from worker.cli.bench.measuring import Plan, Result
from worker.cli.bench.payloads import INTEGRATION, body, people
from worker.cli.connection import Service, find_service
from worker.cli.own_stack import own_stack
from worker.errors import Misconfigured
from worker.log.upkeep import Upkeep
from worker.state import open_state

COHORTS = 20
MEMBERS = 50
# One heartbeat, five sweeps; the minute's maintenance is in one round of six, and in what the median leaves out.
_ROUND_SECONDS = 10
_QUICK_ROUND_SECONDS = 5
# What starting, the first payloads and the first looks leave to do.
_SETTLE_SECONDS = 5.0


def idle(plan: Plan) -> list[Result]:
    """The share of one core that all processes of an installation take together, round by round."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with own_stack() as directory:
        service = find_service(directory)
        _send_payloads(service)
        time.sleep(_SETTLE_SECONDS)
        rounds, by_process = [], dict[str, list[float]]()
        for _ in range(plan.rounds):
            processes = [each for each in psutil.Process().children(recursive=True) if each.pid not in before]
            shares = _shares(processes, plan.sized(_ROUND_SECONDS, _QUICK_ROUND_SECONDS))
            rounds.append(sum(shares.values()))
            for name, share in shares.items():
                by_process.setdefault(name, []).append(share)
    parts = [f"{name} {median(shares):.2%}" for name, shares in sorted(by_process.items())]
    return [Result("idle_cost", median(rounds), "of one core", rounds, ", ".join(parts))]


def _shares(processes: list[psutil.Process], round_seconds: float) -> dict[str, float]:
    """By what each is, the share of a core that they take for so long.

    Raises:
        Misconfigured: one of them has ended meanwhile.
    """
    began, before = time.perf_counter(), [_cpu_seconds(process) for process in processes]
    time.sleep(round_seconds)
    seconds, shares = time.perf_counter() - began, dict[str, float]()
    for process, cpu_seconds in zip(processes, before, strict=True):
        name = _name(process)
        shares[name] = shares.get(name, 0.0) + (_cpu_seconds(process) - cpu_seconds) / seconds
    return shares


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        raise Misconfigured(f"process {process.pid} of an idle installation has ended") from None
    return float(times.user + times.system)


def _name(process: psutil.Process) -> str:
    """Which part of `segsync up` it is; a process of the worker's pool is a worker, too."""
    words = process.cmdline()
    return next((role for role in ("up", "serve", "scheduler", "worker") if role in words), "server")


def _send_payloads(service: Service) -> None:
    """Let some segments be known, and wait until everything is applied."""
    assert service.url is not None
    assert service.environment_id is not None
    assert service.writer_token is not None
    environment_id, headers = service.environment_id, {"Authorization": service.writer_token}
    url = f"{service.url}/api/v2/segment-targets/{INTEGRATION}"
    requests = [
        request(url, headers, body(environment_id, str(cohort), people(MEMBERS, str(cohort))))
        for cohort in range(COHORTS)
    ]
    _, statuses = send_all(url, requests, COHORTS)
    if statuses != {204: COHORTS}:
        raise Misconfigured(f"{COHORTS} payloads were answered {dict(statuses)}")
    with open_state(service.settings) as client:
        upkeep = Upkeep(client)
        # What is applied leaves the index with the sweep that finds it so.
        while upkeep.ahead():
            time.sleep(0.1)
