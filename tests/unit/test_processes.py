"""What processes tell each other: to stop."""

from __future__ import annotations

import subprocess
import sys


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
