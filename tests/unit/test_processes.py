"""What processes tell each other: to stop."""

from __future__ import annotations

import subprocess
import sys
import time


def run(script: str) -> list[str]:
    """What a script says, in a process of its own: nothing takes a request to stop back."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.split()


def test_nobody_is_to_stop_until_it_is_requested_and_twice_is_once() -> None:
    assert run("""
from worker.processes import request_stop, stop_requested
print(stop_requested())
request_stop()
request_stop()
print(stop_requested())
""") == ["False", "True"]


def test_a_request_to_stop_reaches_who_was_forked_before_it_and_after_it() -> None:
    assert run("""
import os
from worker.processes import request_stop, stop_requested

def fork():
    told, tell = os.pipe()
    if (pid := os.fork()) == 0:
        os.read(told, 1)
        print(stop_requested(), flush=True)
        os._exit(0)
    return pid, tell

early = fork()
request_stop()
for pid, tell in (early, fork()):
    os.write(tell, b"x")
    os.waitpid(pid, 0)
""") == ["True", "True"]


def test_a_program_that_was_started_and_not_forked_has_a_flag_of_its_own() -> None:
    assert run("""
import subprocess, sys
from worker.processes import request_stop
request_stop()
subprocess.run([sys.executable, "-c", "from worker.processes import stop_requested; print(stop_requested())"])
""") == ["False"]


def end(script: str) -> tuple[int, float]:
    """The exit code of a script whose output nobody reads, and the seconds after which it came."""
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            return process.wait(20), time.monotonic() - began
        finally:
            process.kill()


HANGS = """
import os, sys, time
from worker.processes import LastResort
last_resort = LastResort("test", seconds=1.0)
"""


def test_the_last_resort_ends_a_process_that_hangs() -> None:
    code, seconds = end(f"{HANGS}\nlast_resort.arm(15)\nlast_resort.arm(15)\ntime.sleep(60)")
    assert code == 1
    assert 1.0 <= seconds < 5.0


def test_the_last_resort_says_what_the_process_was_at() -> None:
    script = f"{HANGS}\ndef hang():\n    time.sleep(60)\nlast_resort.arm(15)\nhang()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    said = done.stdout.splitlines()[-1]
    assert "test.cut_short" in said
    assert said.index("<string>:9 <module>") < said.index("<string>:7 hang")


def test_the_last_resort_ends_a_process_whose_log_nobody_reads() -> None:
    full = "os.set_blocking(1, False)\ntry:\n    while True: os.write(1, b'x' * 65536)\nexcept BlockingIOError: pass\n"
    code, _ = end(f"{HANGS}\n{full}\nos.set_blocking(1, True)\nlast_resort.arm()\nprint('x' * 65536)")
    assert code == 1


def test_the_last_resort_does_nothing_to_a_process_that_ends_by_itself_or_was_never_told() -> None:
    assert end(f"{HANGS}\nlast_resort.arm()\nsys.exit(5)")[0] == 5
    assert end(f"{HANGS}\ntime.sleep(2)\nsys.exit(6)")[0] == 6


def test_a_hangup_asks_to_stop_unless_the_process_was_started_to_survive_it() -> None:
    script = """
import signal
from worker.processes import stop_signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests
print(*(number.name for number in stop_signals()))
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
print(*(number.name for number in stop_signals()))
"""
    assert run(script) == ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM", "SIGINT", "SIGQUIT"]
