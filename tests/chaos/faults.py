"""Does what a plan says: a thread per target, so that each is hurt and healed in turn, and all of them at once."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from random import Random
from typing import cast

import redis

from chaos.installation import Installation
from chaos.plan import Fault

# Where Celery keeps the wake-ups on a Redis broker.
_HINTS = "segsync:celery:segsync.drain"

Log = Callable[[str], None]


class Storm:
    """Everything that a plan breaks, broken and mended."""

    def __init__(self, installation: Installation, faults: Sequence[Fault], seed: int, log: Log) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._installation = installation
        self._dice = Random(f"{seed}:storm")
        self._log = log
        self._by_target: dict[str, list[Fault]] = defaultdict(list)
        for fault in faults:
            self._by_target[fault.target].append(fault)

    def rage(self, until: float) -> None:
        """Do it all; returns when every target is mended. No fault begins after ``until`` (monotonic seconds)."""
        began = time.monotonic()
        threads = [
            threading.Thread(target=self._harm, args=(target, faults, began, until), daemon=True)
            for target, faults in self._by_target.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _harm(self, target: str, faults: Sequence[Fault], began: float, until: float) -> None:
        for fault in faults:
            at = max(began + fault.at, time.monotonic())
            if at >= until:
                return
            time.sleep(max(0.0, at - time.monotonic()))
            self._log(f"{time.monotonic() - began:6.1f} s  {target}: {fault.kind} {fault.seconds:g} s")
            try:
                self._do(fault)
            except Exception as error:  # noqa: BLE001 - a storm that ends early proves nothing: the run must fail
                self.problems.append(f"the harness failed: {target} {fault.kind}: {error!r}")
                return

    def _do(self, fault: Fault) -> None:
        role, _, name = fault.target.partition("-")
        if role in {"worker", "receiver", "scheduler"}:
            self._harm_process(fault)
        elif role == "manifest":
            self._harm_manifest(fault, name)
        elif role == "hints":
            self._harm_hints(fault)
        else:
            self._harm_server(fault, role, name)

    def _harm_process(self, fault: Fault) -> None:
        process = self._installation.processes[fault.target]
        if not process.alive():
            self.problems.append(f"{fault.target} had ended by itself")
            process.start()
        if fault.kind == "kill_child" and not process.kill_child(self._dice):
            return
        self.counts["pauses" if fault.kind == "freeze" else "kills" if fault.kind != "terminate" else "restarts"] += 1
        if fault.kind == "freeze":
            with ExitStack() as stack:
                stack.callback(process.signal_group, signal.SIGCONT)
                process.signal_group(signal.SIGSTOP)
                time.sleep(fault.seconds)
            return
        if fault.kind == "kill_child":
            return
        if fault.kind == "kill_main":
            process.kill_main()
            time.sleep(fault.seconds)  # what it has left behind goes on for as long as it can
        if not process.end(signal.SIGTERM if fault.kind == "terminate" else signal.SIGKILL):
            self.problems.append(f"{fault.target} did not end within seconds of SIGTERM")
        time.sleep(fault.seconds)
        process.start()

    def _harm_server(self, fault: Fault, role: str, name: str) -> None:
        server = self._installation.state if role == "state" else self._installation.stores[name]
        if fault.kind == "freeze":
            self.counts["pauses"] += 1
            server.freeze()
            time.sleep(fault.seconds)
            server.thaw()
            return
        self.counts["kills" if fault.kind == "kill" else "restarts"] += 1
        if fault.kind == "kill":
            server.kill()
        else:
            server.stop()
        time.sleep(fault.seconds)
        server.start()

    def _harm_manifest(self, fault: Fault, integration: str) -> None:
        manifests = self._installation.manifests
        self.counts["manifests broken"] += fault.kind != "change"
        if fault.kind == "refuse":
            manifests.refuse(integration)
        if fault.kind == "spoil":
            manifests.spoil(integration)
        time.sleep(fault.seconds)
        manifests.mend(integration)

    def _harm_hints(self, fault: Fault) -> None:
        with suppress(redis.RedisError), self._installation.state.client(socket_timeout=2) as client:
            waiting = cast("list[bytes]", client.lrange(_HINTS, 0, -1))
            if fault.kind == "lose":
                client.delete(_HINTS)
            elif waiting:
                client.rpush(_HINTS, *waiting)
            self.counts["hints lost" if fault.kind == "lose" else "hints doubled"] += len(waiting)
