"""The isolated parser: it answers as the decoder does, and what brings it down takes the child and nothing else."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest
from servers import wait_until

from worker.errors import InvalidBatch, Unavailable
from worker.manifest.catalog import load_catalog
from worker.manifest.decoder import Decoder
from worker.manifest.manifest import Manifest
from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy, Payload
from worker.sync import isolation
from worker.sync.isolation import IsolatedParser, ParserCrashed, ParserInterrupted

FAULTS = Path(__file__).parents[2] / "faults"
MARKER = "person-of-the-fault"


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Where each fault is noted before it happens."""
    return tmp_path / "begun"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch, begun: Path) -> Callable[..., None]:
    """Make children that start from now on go wrong, as ``tests/faults/sitecustomize.py`` says."""
    monkeypatch.syspath_prepend(FAULTS)
    monkeypatch.setenv("PYTHON_FAULTS_LOG", str(begun))

    def on(**kinds: object) -> None:
        for kind, value in kinds.items():
            monkeypatch.setenv(f"PYTHON_FAULTS_{kind}", str(value))

    return on


@pytest.fixture
def parser() -> Iterator[IsolatedParser]:
    with IsolatedParser(settle_seconds=0.1) as parser:
        yield parser


def decoder(integration: str = "rudderstack") -> Decoder:
    manifest = load_catalog()[integration]
    assert isinstance(manifest, Manifest)
    return manifest.decoder


TEXT = decoder().parser.text


def body(*people: str, **more: Any) -> bytes:
    return msgspec.json.encode(
        {
            "environmentId": "production",
            "cohortId": "beta",
            "cohortName": "Beta",
            "contextKind": "user",
            "listData": {"add": [{"id": person} for person in people], "remove": []},
            **more,
        }
    )


def pid_of(parser: IsolatedParser) -> int:
    """The child's process id; it must have been started."""
    assert parser._child is not None
    return parser._child.pid


def parse_aside(parser: IsolatedParser, text: bytes, begun: Path) -> tuple[threading.Thread, list[Payload | Exception]]:
    """Parse a faulty body in a thread; returns, once the child is at it, the thread and what will come of it."""
    outcome: list[Payload | Exception] = []

    def parse() -> None:
        try:
            outcome.append(parser.parse(TEXT, text))
        except Exception as error:  # noqa: BLE001
            outcome.append(error)

    thread = threading.Thread(target=parse)
    thread.start()
    wait_until(begun.exists, message="a child that is at it")
    return thread, outcome


def test_a_body_means_what_the_decoder_says(parser: IsolatedParser) -> None:
    text = body("ann", "bob")
    assert parser.parse(TEXT, text) == decoder().decode(text)


@pytest.mark.parametrize("policy", ["reject", "skip"])
def test_cohorts_of_their_own_and_members_left_out_come_along(parser: IsolatedParser, policy: MemberPolicy) -> None:
    several = decoder("segment-audiences")
    members: list[dict[str, Any]] = [
        {"userId": f"person-{number}", "cohortId": f"c-{number % 3}", "cohortName": "C", "value": bool(number % 2)}
        for number in range(20)
    ]
    if policy == "skip":
        members.append({"userId": None, "cohortId": "c-0", "cohortName": "C", "value": True})
    text = msgspec.json.encode({"environmentId": "production", "contextKind": "user", "batch": members})
    payload = parser.parse(several.parser.text, text, policy)
    assert payload == several.decode(text, policy)
    assert len(payload.cohorts) == 3
    assert [member.pointer for member in payload.rejected.listed] == (["/batch/20/userId"] if policy == "skip" else [])


@pytest.mark.parametrize("text", [b"{", body("ann", cohortId=None), body("ann", ""), body("ann", environmentId=[])])
def test_a_refusal_is_the_decoders_own(parser: IsolatedParser, text: bytes) -> None:
    with pytest.raises(InvalidBatch) as expected:
        decoder().decode(text)
    with pytest.raises(InvalidBatch) as found:
        parser.parse(TEXT, text)
    assert vars(found.value) == vars(expected.value)


def test_a_parser_that_this_version_cannot_read_is_no_fault_of_the_body(parser: IsolatedParser) -> None:
    with pytest.raises(Unavailable, match="cannot read") as found:
        parser.parse('{"memberArrayPath": 3}', body("ann"))
    assert found.value.dependency == "state"
    assert parser.parse(TEXT, body("ann")).cohorts[0].members == {"ann": True}


def test_one_child_parses_many_bodies_also_after_refusals(parser: IsolatedParser) -> None:
    parser.parse(TEXT, body("ann"))
    first = pid_of(parser)
    for number in range(20):
        with pytest.raises(InvalidBatch):
            parser.parse(TEXT, b"[]")
        assert parser.parse(TEXT, body(f"person-{number}")).cohorts[0].members == {f"person-{number}": True}
    assert pid_of(parser) == first


def test_the_largest_body_there_can_be_passes(parser: IsolatedParser) -> None:
    text = body("ann", padding="x" * (64 * 1024 * 1024))
    assert parser.parse(TEXT, text).cohorts[0].members == {"ann": True}


def test_a_large_answer_passes(parser: IsolatedParser) -> None:
    people = [f"person-{number:060}" for number in range(200_000)]
    assert list(parser.parse(TEXT, body(*people)).cohorts[0].members) == people


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("CRASH", "was killed by SIGSEGV"),
        ("EXIT", "ended with exit code 3"),
        ("HANG", "took longer than 3 s"),
        ("MEMORY", "ran out of memory"),
        ("RAISE", "raised RuntimeError at sitecustomize.py:"),
    ],
)
def test_a_body_that_brings_the_parser_down_is_told_so_and_the_next_one_is_parsed(
    faults: Callable[..., None], kind: str, how: str
) -> None:
    faults(**{kind: MARKER})
    patience = 3.0 if kind == "HANG" else 30.0  # the child has to start within it, too
    with IsolatedParser(patience_seconds=patience, settle_seconds=0.1, most_bytes=512 * 1024 * 1024) as parser:
        parser.parse(TEXT, body("ann"))
        for _ in range(2):
            with pytest.raises(ParserCrashed) as crash:
                parser.parse(TEXT, body(MARKER))
            assert crash.value.how.startswith(how)
            assert MARKER not in str(crash.value)
        assert parser.parse(TEXT, body("ann")).cohorts[0].members == {"ann": True}


def test_a_child_that_died_between_two_bodies_is_replaced(parser: IsolatedParser) -> None:
    parser.parse(TEXT, body("ann"))
    first = pid_of(parser)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE)
    assert parser.parse(TEXT, body("ann")).cohorts[0].members == {"ann": True}
    assert pid_of(parser) != first


def test_signals_of_a_deploy_let_the_body_in_hand_be_parsed(faults: Callable[..., None], begun: Path) -> None:
    faults(SLOW=MARKER, SECONDS=0.5)
    with IsolatedParser() as parser:
        parser.parse(TEXT, body("ann"))
        thread, outcome = parse_aside(parser, body(MARKER), begun)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid_of(parser), number)
        thread.join(10)
        assert outcome == [decoder().decode(body(MARKER))]


def test_a_killed_child_counts_as_a_crash_only_after_a_while(faults: Callable[..., None], begun: Path) -> None:
    # Whoever kills the whole worker ends this process within that while, and it never says so.
    faults(HANG=MARKER)
    with IsolatedParser(settle_seconds=1.0) as parser:
        parser.parse(TEXT, body("ann"))
        thread, outcome = parse_aside(parser, body(MARKER), begun)
        killed_at = time.monotonic()
        os.kill(pid_of(parser), signal.SIGKILL)
        thread.join(10)
        assert time.monotonic() - killed_at >= 1.0
        assert [str(error) for error in outcome] == ["the parser was killed by SIGKILL"]
        assert isinstance(outcome[0], ParserCrashed)


def test_a_death_while_the_worker_stops_counts_for_nothing(faults: Callable[..., None]) -> None:
    faults(CRASH=MARKER)
    with (
        IsolatedParser(settle_seconds=0.1, stopping=lambda: True) as parser,
        pytest.raises(ParserInterrupted, match="SIGSEGV"),
    ):
        parser.parse(TEXT, body(MARKER))


def test_a_body_that_takes_long_does_not_keep_a_worker_from_stopping(
    faults: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "STOP_SECONDS", 3.0)
    faults(HANG=MARKER)
    with IsolatedParser(stopping=lambda: True) as parser:
        parser.parse(TEXT, body("ann"))
        child = pid_of(parser)
        with pytest.raises(ParserInterrupted, match="told to stop"):
            parser.parse(TEXT, body(MARKER))
        assert not psutil.pid_exists(child)


@pytest.mark.parametrize("python", ["/nowhere/python", "false"])
def test_a_child_that_cannot_start_counts_for_nothing(
    parser: IsolatedParser, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(ParserInterrupted, match="cannot be started"):
        parser.parse(TEXT, body("ann"))


def test_while_the_child_works_the_caller_does_too(faults: Callable[..., None]) -> None:
    faults(SLOW=MARKER)
    called: list[float] = []
    with IsolatedParser() as parser:
        parser.parse(TEXT, body(MARKER), meanwhile=lambda: called.append(time.monotonic()))
    assert len(called) >= 3


def test_what_the_caller_raises_meanwhile_ends_the_child_and_goes_on(faults: Callable[..., None]) -> None:
    faults(HANG=MARKER)

    def lose() -> None:
        raise LookupError("the lease")

    with IsolatedParser() as parser:
        parser.parse(TEXT, body("ann"))
        child = pid_of(parser)
        with pytest.raises(LookupError, match="the lease"):
            parser.parse(TEXT, body(MARKER), meanwhile=lose)
        assert not psutil.pid_exists(child)
        assert parser.parse(TEXT, body("ann")).cohorts[0].members == {"ann": True}  # no answer of the other body's


def test_time_in_which_the_worker_itself_stood_still_is_not_the_childs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each look at the clock finds an hour gone, as after a SIGSTOP or a laptop's sleep.
    hours = iter(range(0, 3600 * 1000, 3600))
    monkeypatch.setattr(isolation, "time", SimpleNamespace(monotonic=lambda: float(next(hours))))
    reading, writing = os.pipe()
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            os.write(writing, b"x")

    try:
        isolation._Watch(30.0, lambda: False, look).wait(reading, select.POLLIN)
        assert looks == 3
    finally:
        os.close(reading)
        os.close(writing)


def test_the_child_is_apart_from_the_workers_group_and_knows_no_secret(
    parser: IsolatedParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEGSYNC_STATE_URL", "AWS_SECRET_ACCESS_KEY", "REDIS_PASSWORD"):
        monkeypatch.setenv(name, "hunter2-of-the-test")
    parser.parse(TEXT, body("ann"))
    child = psutil.Process(pid_of(parser))
    assert os.getsid(child.pid) == child.pid
    assert "hunter2-of-the-test" not in [*child.environ().values(), *child.cmdline()]
    assert "PATH" in child.environ()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels take no wishes")
def test_the_child_volunteers_for_the_out_of_memory_killer_and_leaves_no_core(parser: IsolatedParser) -> None:
    parser.parse(TEXT, body("ann"))
    proc = Path(f"/proc/{pid_of(parser)}")
    assert (proc / "oom_score_adj").read_text() == "1000\n"
    assert "Max core file size        0 " in (proc / "limits").read_text()


@pytest.mark.parametrize("busy", [False, True])
def test_the_child_ends_with_a_killed_parent_also_while_it_hangs(
    faults: Callable[..., None], tmp_path: Path, *, busy: bool
) -> None:
    faults(HANG=MARKER, LOG=tmp_path / "log")
    script = f"""
import sys
from worker.sync.isolation import IsolatedParser
parser = IsolatedParser()
parser.parse({TEXT!r}, {body("ann")!r})
print(parser._child.pid, flush=True)
parser.parse({TEXT!r}, {body(MARKER)!r}) if {busy} else sys.stdin.read()
"""
    path = os.pathsep.join([str(FAULTS), *filter(None, sys.path)])
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path, "PYTHON_FAULTS_IN": "isolated"},
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if busy:
            wait_until((tmp_path / "log").exists)
        parent.kill()
    wait_until(lambda: not psutil.pid_exists(child))


def test_the_default_policy_is_the_decoders() -> None:
    assert IsolatedParser.parse.__defaults__ == (DEFAULT_MEMBER_POLICY,)
