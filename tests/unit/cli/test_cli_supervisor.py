"""The supervisor, with small dummy children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from servers import wait_until

from worker.cli import supervisor as module
from worker.cli.supervisor import Child, Role, Supervisor
from worker.errors import Misconfigured

SLEEP = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)

Said = list[str]


@pytest.fixture
def said() -> Said:
    return []


@pytest.fixture
def supervisor(said: Said) -> Iterator[Supervisor]:
    supervisor = Supervisor(lambda child, fate: said.append(f"{child.role.name} {fate}, {child.delay:g} s"))
    yield supervisor
    supervisor.stop()


@pytest.fixture
def role(tmp_path: Path) -> Callable[..., Role]:
    def make(code: str, name: str = "worker", **options: bool) -> Role:
        return Role(name, [sys.executable, "-c", code], tmp_path / f"{name}.log", **options)  # type: ignore[arg-type]

    return make


def alive(pid: int | None) -> bool:
    return pid is not None and psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def tend_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    def step() -> bool:
        supervisor.tend()
        return condition()

    wait_until(step)


def test_a_child_that_is_killed_is_started_again_and_whoever_wants_to_know_is_told(
    supervisor: Supervisor, role: Callable[..., Role], said: Said
) -> None:
    child = supervisor.start(role(SLEEP))
    first = child.pid
    os.kill(first or 0, signal.SIGKILL)

    tend_until(supervisor, lambda: child.pid not in {None, first})

    assert said == ["worker was killed by SIGKILL, 0.2 s"]
    assert alive(child.pid)


def test_it_is_to_be_asked_again_when_a_child_is_due_and_seldom_otherwise(
    supervisor: Supervisor, role: Callable[..., Role]
) -> None:
    child = supervisor.start(role(SLEEP))
    assert supervisor.tend() > module.LAST_DELAY

    os.kill(child.pid or 0, signal.SIGKILL)
    tend_until(supervisor, lambda: child.pid is None)

    assert supervisor.tend() <= module.FIRST_DELAY


def test_the_delay_doubles_up_to_five_seconds(
    supervisor: Supervisor, role: Callable[..., Role], said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = supervisor.start(role("raise SystemExit(3)"))
    for _ in range(7):
        tend_until(supervisor, lambda: child.pid is None)
        child._due = 0.0  # as if the delay had passed
        supervisor.tend()

    assert said == [f"worker ended with exit code 3, {delay} s" for delay in (0.2, 0.4, 0.8, 1.6, 3.2, 5, 5)]


def test_a_child_that_has_lived_ten_seconds_starts_with_the_short_delay_again(
    supervisor: Supervisor, role: Callable[..., Role], said: Said
) -> None:
    child = supervisor.start(role(SLEEP))
    child._next_delay = 5.0
    child._started -= module.STEADY_AFTER
    os.kill(child.pid or 0, signal.SIGKILL)

    tend_until(supervisor, lambda: bool(said))

    assert said == ["worker was killed by SIGKILL, 0.2 s"]


def test_stop_ends_children_last_first_and_foundations_after_them(
    supervisor: Supervisor, role: Callable[..., Role], tmp_path: Path
) -> None:
    def reporting(name: str) -> str:
        path = tmp_path / "ends"
        return textwrap.dedent(f"""
            import signal, sys, time
            def end(*_):
                open({str(path)!r}, "a").write("{name} ")
                sys.exit()
            signal.signal(signal.SIGTERM, end)
            print("up", flush=True)
            time.sleep(600)
        """)

    server = supervisor.start(role(reporting("server"), "server", foundation=True))
    receiver = supervisor.start(role(reporting("receiver"), "receiver"))
    wait_until(lambda: all("up" in child.role.log.read_text() for child in (server, receiver)))

    supervisor.stop()

    assert (tmp_path / "ends").read_text() == "receiver server "
    assert not supervisor.children


def test_stop_kills_who_does_not_end_in_time(
    supervisor: Supervisor, role: Callable[..., Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.2)
    child = supervisor.start(role(STUBBORN))
    wait_until(lambda: "up" in child.role.log.read_text())
    pid, before = child.pid, time.monotonic()

    supervisor.stop()

    assert not alive(pid)
    assert time.monotonic() - before < 2


def test_stop_leaves_no_grandchild(supervisor: Supervisor, role: Callable[..., Role]) -> None:
    start = f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    child = supervisor.start(role(f"import subprocess, sys; print({start}.pid, flush=True); {SLEEP}"))
    grandchild = int(wait_until(lambda: child.role.log.read_text().strip()))
    assert alive(grandchild)

    supervisor.stop()

    wait_until(lambda: not alive(grandchild))


def test_stop_may_come_while_a_child_waits_to_be_started_again(
    supervisor: Supervisor, role: Callable[..., Role]
) -> None:
    child = supervisor.start(role("raise SystemExit(1)"))
    tend_until(supervisor, lambda: child.pid is None)

    supervisor.stop()
    supervisor.tend()

    assert child.pid is None


def test_a_program_that_cannot_be_run_is_one_line(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"^cannot run /no/such/program: No such file or directory$"):
        supervisor.start(Role("server", ["/no/such/program"], tmp_path / "log"))


def test_a_child_says_when_it_is_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    code = """
        import sys, time
        from worker.processes import announce_ready, supervised
        supervised(*map(int, sys.argv[2].split(":")))
        time.sleep(0.2)
        announce_ready()
        announce_ready()
        time.sleep(600)
    """
    role = Role("worker", [sys.executable, "-c", textwrap.dedent(code)], tmp_path / "log", reports=True)
    child = supervisor.start(role)

    assert not child.ready
    wait_until(lambda: child.ready)

    os.kill(child.pid or 0, signal.SIGKILL)
    tend_until(supervisor, lambda: child.deaths == 1)
    tend_until(supervisor, lambda: child.pid is not None)
    assert not child.ready
    wait_until(lambda: child.ready)


@pytest.mark.parametrize("grandchildren", [False, True])
def test_children_of_a_killed_supervisor_end_too(tmp_path: Path, grandchildren: bool) -> None:
    code = f"""
        import os, sys, time
        from pathlib import Path
        from worker.cli.supervisor import Role, Supervisor
        from worker.processes import end_with_parent

        def leaf():
            print(os.getpid(), flush=True)
            time.sleep(600)

        if sys.argv[1] == "parent":
            role = Role("worker", [sys.executable, __file__, "child"], Path(__file__).with_name("log"))
            child = Supervisor(lambda *_: None).start(role)
            time.sleep(600)
        elif {grandchildren}:
            if os.fork() == 0:
                end_with_parent()
                leaf()
            time.sleep(600)
        else:
            leaf()
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    parent = subprocess.Popen([sys.executable, str(tmp_path / "code.py"), "parent"])
    try:
        log = tmp_path / "log"
        leaf = int(wait_until(lambda: log.exists() and log.read_text().strip()))
        assert alive(leaf)
    finally:
        parent.kill()
        parent.wait()

    wait_until(lambda: not alive(leaf), timeout_s=3)


def test_a_child_has_a_session_of_its_own(supervisor: Supervisor, role: Callable[..., Role]) -> None:
    child: Child = supervisor.start(role(SLEEP))

    assert child.pid is not None
    assert os.getsid(child.pid) == child.pid
