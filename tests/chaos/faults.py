"""Does what a plan says: a thread per target, so that each is hurt and healed in turn, and all of them at once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from random import Random
from typing import Any, cast

import redis
from servers import ValkeyServer

from chaos.installation import Installation
from chaos.plan import Fault

# Where Celery keeps the wake-ups on a Redis broker.
_HINTS = "segsync:celery:segsync.drain"
# With so many payloads a second, somebody has something to write by then.
_UNTIL_SOMEBODY_WRITES_SECONDS = 0.7
_INSIST_SECONDS = 60.0
_COUNTED = {
    "kill": "kills",
    "crash": "kills",
    "freeze": "pauses",
    "terminate": "restarts",
    "stop": "restarts",
    "wipe": "wiped",
    "replace": "wiped",
    "roll_back": "rolled back",
    "off": "switched off",
    "add_again": "added again",
    "rebuild": "rebuilt",
}

Log = Callable[[str], None]


class Storm:
    """Everything that a plan breaks, broken and mended."""

    def __init__(self, installation: Installation, seed: int, log: Log) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._installation = installation
        self._dice = Random(f"{seed}:storm")
        self._log = log
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def rage(self, faults: Sequence[Fault], seconds: float) -> None:
        """Do it all; returns when every target is mended. No fault begins later than that."""
        by_target: dict[str, list[Fault]] = defaultdict(list)
        for fault in faults:
            by_target[fault.target].append(fault)
        began = time.monotonic()
        threads = [
            threading.Thread(target=self._harm, args=(target, own, began, began + seconds), daemon=True)
            for target, own in by_target.items()
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
        elif role == "compaction":
            self._installation.begin_compaction()
        else:
            self._harm_server(fault, role, name)

    def _harm_process(self, fault: Fault) -> None:
        process = self._installation.processes[fault.target]
        if not process.alive():
            self.problems += [f"{fault.target} {surprise}"] if (surprise := process.surprise()) else []
            process.start()
        what, _, when = fault.kind.partition("_")
        with self._a_store_frozen() if when == "writing" else nullcontext():
            if what == "freeze":
                process.signal_group(signal.SIGSTOP)
            elif when == "child":
                if process.kill_child(self._dice):
                    self.counts["kills"] += 1
                return
            elif when == "main":
                process.kill_main()
            elif not process.end(signal.SIGTERM if what == "terminate" else signal.SIGKILL):
                self.problems.append(f"{fault.target} did not end within seconds of SIGTERM")
        self.counts[_COUNTED[what]] += 1
        time.sleep(fault.seconds)
        if what == "freeze":
            process.signal_group(signal.SIGCONT)
            return
        process.end(signal.SIGKILL)  # what a killed parent has left behind goes on until now
        process.start()

    @contextmanager
    def _a_store_frozen(self) -> Iterator[None]:
        """Meanwhile a store answers nothing, so that whoever drains into it waits for an answer; unless both are away.

        What they have sent lands as soon as it goes on.
        """
        names = self._dice.sample(sorted(self._installation.stores), len(self._installation.stores))
        for name in names:
            if self._locks[f"store-{name}"].acquire(blocking=False):
                try:
                    self._freeze_until_somebody_waits(self._installation.stores[name])
                    yield
                    return
                finally:
                    self._installation.stores[name].thaw()
                    self._locks[f"store-{name}"].release()
        yield

    def _harm_server(self, fault: Fault, role: str, name: str) -> None:
        server = self._installation.state if role == "state" else self._installation.stores[name]
        with self._locks[fault.target]:
            getattr(self, f"_{fault.kind}")(server, fault.seconds)
        self.counts[_COUNTED[fault.kind]] += 1

    def _freeze(self, server: ValkeyServer, seconds: float) -> None:
        server.freeze()
        time.sleep(seconds)
        server.thaw()

    def _kill(self, server: ValkeyServer, seconds: float) -> None:
        server.kill()
        time.sleep(seconds)
        server.start()

    def _crash(self, server: ValkeyServer, seconds: float) -> None:
        self._freeze_until_somebody_waits(server)
        self._kill(server, seconds)

    def _stop(self, server: ValkeyServer, seconds: float) -> None:
        server.stop()
        time.sleep(seconds)
        server.start()

    def _wipe(self, server: ValkeyServer, _: float) -> None:
        with server.client(socket_timeout=30) as client:
            client.flushall()

    def _replace(self, server: ValkeyServer, _: float) -> None:
        server.kill()
        shutil.rmtree(server.directory)
        server.directory.mkdir()
        server.start()

    def _roll_back(self, server: ValkeyServer, seconds: float) -> None:
        """What it has answered since the beginning is gone, and it does not know."""
        copy = server.directory.with_suffix(".copy")
        shutil.copytree(server.directory, copy)
        time.sleep(seconds)
        server.kill()
        shutil.rmtree(server.directory)
        copy.rename(server.directory)
        server.start()

    def _off(self, server: ValkeyServer, seconds: float) -> None:
        name = self._name(server)
        self._insist(lambda stores: stores[name]["on"] is False, "store", "off", name)
        time.sleep(seconds)
        self._insist(lambda stores: stores[name]["on"] is True, "store", "on", name)

    def _add_again(self, server: ValkeyServer, _: float) -> None:
        """As another store, to be filled, at a place where the members are that it once had."""
        name = self._name(server)
        self._insist(lambda stores: name not in stores, "store", "remove", name, "--yes")
        self._insist(lambda stores: name in stores, "store", "add", name, "--redis-url", server.url)

    def _rebuild(self, server: ValkeyServer, _: float) -> None:
        """As far as it comes: workers end what a command has begun."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self._installation.deployment.command("rebuild", "--store", self._name(server), "--json")

    def _name(self, server: ValkeyServer) -> str:
        return next(name for name, each in self._installation.stores.items() if each is server)

    def _insist(self, done: Callable[[Mapping[str, Any]], bool], *command: str) -> None:
        """Run a command until what it should do is done: the state server comes and goes."""
        deployment, until = self._installation.deployment, time.monotonic() + _INSIST_SECONDS
        while True:
            try:
                found = json.loads(deployment.command("store", "list", "--json"))
                if done({store["name"]: store for store in found}):
                    return
                deployment.command(*command)
            except AssertionError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def _freeze_until_somebody_waits(self, server: ValkeyServer) -> None:
        server.freeze()
        time.sleep(_UNTIL_SOMEBODY_WRITES_SECONDS)

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
