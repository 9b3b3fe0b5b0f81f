"""Hostile bodies to a real receiver: a clear answer, bounded memory, and the next request is served.

Bounded is: the process as a whole never holds more than six times the decoded body plus 150 MB.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

import httpx2
import pytest
import zstandard
from deployment import Deployment
from servers import ValkeyServer

from worker.log.lease import DrainLog, Lease
from worker.log.rejected import read_rejected
from worker.model import SegmentId
from worker.records.environment_options import EnvironmentOptions

LARGEST = 10 * 1024 * 1024
PARSERS = {
    # What RudderStack sends.
    "plain": {"memberIdPath": "/id"},
    # Only the exact reader can follow this one.
    "deep": {"memberIdPath": "/who/id"},
    "bare": {"memberIdPath": ""},
    "overriding": {"memberIdPath": "/id", "cohortIdPath": "/cohort", "cohortNamePath": "/name"},
}
SKIPPING = {f"{key}-skipping": parser for key, parser in PARSERS.items()}


def manifest(member_parser: dict[str, str]) -> str:
    parser = {
        "environmentIdPath": "/environmentId",
        "contextKindPath": "/contextKind",
        "cohortIdPath": "/cohortId",
        "cohortNamePath": "/cohortName",
        "addMemberArrayPath": "/listData/add",
        "removeMemberArrayPath": "/listData/remove",
        "memberArrayParser": member_parser,
    }
    return json.dumps({"name": "Hostile", "capabilities": {"syncedSegment": {"requestParser": parser}}})


class Receiving:
    """A receiver process, and how much memory it has held."""

    def __init__(self, deployment: Deployment) -> None:
        self.environment_id = deployment.environment_id
        self._deployment = deployment
        self._start()

    def _start(self) -> None:
        self._url = self._deployment.start_receiver()
        self._pid = self._deployment.processes[-1].pid

    def send(self, integration: str, body: bytes, encoding: str = "") -> httpx2.Response:
        headers = {"Authorization": self._deployment.writer_token, "Content-Encoding": encoding or "identity"}
        url = f"{self._url}/api/v2/segment-targets/{integration}"
        return httpx2.post(url, content=body, headers=headers, timeout=120)

    def hold_less_from_now_on(self) -> None:
        """Forget the peak so far; where that is not permitted, by a process that has none."""
        try:
            Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        except OSError:
            self._deployment.kill(self._deployment.processes[-1])
            self._start()

    @property
    def most_held(self) -> int:
        """The most bytes that the process has held since then."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    def expect(self, integration: str, body: bytes, status: int, message: str = "", encoding: str = "") -> None:
        """Send a hostile body and then a good one; ``message`` is a part of the answer's."""
        decoded = len(body) if not encoding else LARGEST
        self.hold_less_from_now_on()
        answer = self.send(integration, body, encoding)
        held = self.most_held
        bound = 6 * decoded + 150_000_000
        print(f"{answer.status_code}; held {held / 1e6:.0f} of {bound / 1e6:.0f} MB")

        assert answer.status_code == status, answer.text[:300]
        assert message in answer.text
        assert len(answer.content) < 1000
        assert held < bound
        good = {"environmentId": self.environment_id, "cohortId": "good", "cohortName": "Good", "listData": {}}
        assert self.send("plain", json.dumps(good).encode()).status_code == 204


@pytest.fixture(scope="module")
def deployment(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("hostile")
    manifests = directory / "manifests"
    manifests.mkdir()
    for key, parser in (PARSERS | SKIPPING).items():
        (manifests / f"{key}.json").write_text(manifest(parser))
    client = valkey.client()
    client.flushall()
    settings = {"SEGSYNC_MANIFESTS": str(manifests), "SEGSYNC_DURABILITY": "memory"}
    started = Deployment(valkey, directory, settings)
    for key in SKIPPING:
        EnvironmentOptions(client).set_policy(started.environment_id, key, "skip")
    yield started
    started.stop()
    client.flushall()
    client.close()


@pytest.fixture(scope="module")
def receiving(deployment: Deployment) -> Receiving:
    return Receiving(deployment)


class Hostile(NamedTuple):
    """A body of the largest size that is taken: ``repeated`` between what makes a payload of it."""

    integration: str
    opening: str
    repeated: str
    closing: str
    status: int
    message: str = ""

    def body(self, environment_id: str) -> bytes:
        """The bytes; "HEAD" stands for what every payload begins with, "%d" for a number that grows."""
        head = f'{{"environmentId":"{environment_id}","cohortId":"c","cohortName":"n",'
        opening, repeated = self.opening.replace("HEAD", head).encode(), self.repeated.encode()
        closing = self.closing.encode()
        room = LARGEST - len(opening) - len(closing)
        if b"%d" not in repeated:
            return opening + repeated * (room // len(repeated)) + closing
        # All of the same number of digits, so that they fill the room.
        first: int = 10 ** len(str(room // len(repeated)))
        count = room // len(self.repeated.replace("%d", str(first)).encode())
        return opening + "".join(self.repeated % number for number in range(first, first + count)).encode() + closing


MEMBERS, END = 'HEAD"listData":{"add":[', "]}}"
ASIDE = 'HEAD"listData":{"add":[]},"x":'

HOSTILE = {
    "a long string aside": Hostile("plain", ASIDE + '"', "a", '"}', 204),
    "a long string of escaped quotes and brackets": Hostile("plain", ASIDE + '"', '\\"[', '"}', 204),
    "a long string of four-byte characters": Hostile("plain", ASIDE + '"', "\U0001f600", '"}', 204),
    "a long member id": Hostile("plain", MEMBERS + '{"id":"', "a", '"}' + END, 204),
    "a long member id of escapes": Hostile("plain", MEMBERS + '{"id":"', "\\u0041", '"}' + END, 204),
    "a long number": Hostile("plain", MEMBERS + '{"id":', "9", "}" + END, 204),
    "a long environment id": Hostile("plain", '{"environmentId":"', "a", '"}', 403, "environment"),
    "a long cohort id": Hostile("plain", 'HEAD"cohortId":"', "a", '"}', 400, "/cohortId"),
    "a long cohort name": Hostile("plain", 'HEAD"cohortName":"', "a", '"}', 400, "/cohortName"),
    "a long context kind": Hostile("plain", 'HEAD"contextKind":"', "a", '","listData":{}}', 400, "/contextKind"),
    "open arrays": Hostile("plain", "", "[", "", 400, "nested deeper than 128"),
    "open objects": Hostile("plain", "", '{"a":', "", 400, "nested deeper than 128"),
    "no object": Hostile("plain", "[", "0,", "0]", 400, "must be a JSON object"),
    "blanks": Hostile("plain", "", " ", "", 400, "the body is empty"),
    "quotes": Hostile("plain", "", '"', "", 400, "not JSON"),
    "trailing garbage": Hostile("plain", MEMBERS, '{"id":1},', '{"id":1}]}}x', 400, "not JSON"),
    "a million short keys": Hostile("plain", "{", '"%d":0,', '"z":0}', 400, "/environmentId is missing"),
    "short keys of arrays aside": Hostile("plain", "HEAD", '"%d":[],', '"listData":{}}', 204),
    "a member of many keys": Hostile("plain", MEMBERS + "{", '"%d":0,', '"z":0}' + END, 400, "/listData/add/0/id"),
    "one key again and again": Hostile("plain", 'HEAD"listData":{', '"add":[],', '"add":[]}}', 204),
    "a cohort id of zeros": Hostile("plain", 'HEAD"cohortId":[', "0,", '0],"listData":{}}', 400, "/cohortId must"),
    "zeros aside": Hostile("plain", ASIDE + "[", "0,", "0]}", 204),
    "objects aside": Hostile("plain", ASIDE + "[", "{},", "{}]}", 204),
    "empty strings aside": Hostile("deep", ASIDE + "[", '"",', '""]}', 204),
    "brackets in strings aside": Hostile("plain", ASIDE + "[", '"[",', '"["]}', 204),
    "zeros for members": Hostile("plain", MEMBERS, "0,", "0" + END, 400, "/listData/add/0 must be an object"),
    "objects for members": Hostile("plain", MEMBERS, "{},", "{}" + END, 400, "/listData/add/0/id is missing"),
    "small members": Hostile("plain", MEMBERS, '{"id":1},', '{"id":1}' + END, 204),
    "many members": Hostile("plain", MEMBERS, '{"id":%d},', '{"id":1}' + END, 204),
    "the last member bad": Hostile("plain", MEMBERS, '{"id":"%d"},', '{"id":null}' + END, 400, "/id must be"),
    "many members, read exactly": Hostile("deep", MEMBERS, '{"who":{"id":%d}},', '{"who":{"id":1}}' + END, 204),
    "small bare ids": Hostile("bare", MEMBERS, '"[",', '"["' + END, 204),
    "bare ids of four-byte characters": Hostile("bare", MEMBERS, '"\U0001f600",', '"a"' + END, 204),
    "bare numbers": Hostile("bare", MEMBERS, "%d,", "0" + END, 204),
    "a cohort for each member": Hostile(
        "overriding", MEMBERS, '{"id":1,"cohort":%d},', "{}" + END, 400, "1000 cohorts"
    ),
    "bad members, all skipped": Hostile("plain-skipping", MEMBERS, '{"id":[]},', "{}" + END, 204),
    "bad members, all skipped, read exactly": Hostile("deep-skipping", MEMBERS, '{"who":{}},', "{}" + END, 204),
    "one bad member skipped": Hostile("plain-skipping", MEMBERS, '{"id":"%d"},', '{"id":null}' + END, 204),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_body_is_answered_clearly_and_takes_bounded_memory(receiving: Receiving, hostile: Hostile) -> None:
    body = hostile.body(receiving.environment_id)

    assert len(body) <= LARGEST
    receiving.expect(hostile.integration, body, hostile.status, hostile.message)


def test_nesting_of_100_000_levels_is_refused(receiving: Receiving) -> None:
    nested = b"[" * 100_000 + b"]" * 100_000
    body = f'{{"environmentId":"{receiving.environment_id}","x":'.encode() + nested + b"}"

    receiving.expect("plain", body, 400, "nested deeper than 128 levels")


def test_rejected_members_of_a_hostile_body_are_all_counted(receiving: Receiving, valkey: ValkeyServer) -> None:
    head = f'{{"environmentId":"{receiving.environment_id}","cohortId":"bad","cohortName":"n","listData":{{"add":['
    body = head.encode() + b'{"id":1.5},' * 500_000 + b"0]}}"

    receiving.expect("plain-skipping", body, 204)

    client = valkey.client()
    [batch] = read_rejected(client, [SegmentId(receiving.environment_id, "plain-skipping-bad", 1)], 10)
    client.close()
    assert (batch.rejected.count, len(batch.rejected.listed)) == (500_001, 100)


def zstd_of_a_large_window() -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(Random(1).randbytes(1_000_000) * 150)


BOMBS: dict[str, tuple[str, Callable[[], bytes], int]] = {
    "gzip": ("gzip", lambda: gzip.compress(b" " * 200_000_000, 1), 413),
    "gzip of zeros in an array": ("gzip", lambda: gzip.compress(b"[" + b"0," * 100_000_000, 1), 413),
    "zlib": ("deflate", lambda: zlib.compress(b" " * 200_000_000, 1), 413),
    "zstd": ("zstd", lambda: zstandard.compress(b" " * 200_000_000), 413),
    "zstd with a large window": ("zstd", zstd_of_a_large_window, 413),
    "empty gzip members": ("gzip", lambda: gzip.compress(b"", mtime=0) * 400_000, 400),
    "empty raw streams": ("deflate", lambda: b"\x03\x00" * 5_000_000, 400),
    "cut short": ("gzip", lambda: gzip.compress(b"[" * 5_000_000, 1)[:-9], 400),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_body_that_is_small_until_it_is_decoded_is_cut_off_at_the_cap(receiving: Receiving, bomb: str) -> None:
    encoding, build, status = BOMBS[bomb]

    receiving.expect("plain", build(), status, encoding=encoding)


@pytest.mark.parametrize(("integration", "member"), [("plain", '{"id":"%s"}'), ("deep", '{"who":{"id":"%s"}}')])
def test_a_million_members_in_one_body_are_accepted_and_in_the_log(
    deployment: Deployment, valkey: ValkeyServer, integration: str, member: str
) -> None:
    deployment.environment["SEGSYNC_MAX_BODY_BYTES"] = str(64 * 1024 * 1024)
    receiving = Receiving(deployment)
    ids = (f"{number:08x}-0000-4000-8000-{number:012x}" for number in range(1_000_000))
    head = f'{{"environmentId":"{receiving.environment_id}","cohortId":"million","cohortName":"n","contextKind":"user",'
    body = f'{head}"listData":{{"add":[{",".join(member % each for each in ids)}],"remove":[]}}}}'.encode()

    receiving.expect(integration, body, 204)

    assert entries(deployment, valkey, f"{integration}-million") == [body]


def entries(deployment: Deployment, valkey: ValkeyServer, segment_key: str) -> list[bytes]:
    """What a drain reads."""
    with closing(deployment.wiring()) as wiring, closing(valkey.client()) as client:
        [store] = wiring.directory.fresh().stores_of(deployment.environment_id)
        segment = SegmentId(deployment.environment_id, segment_key, 1)
        lease = DrainLog(client).take(segment, store.store_id, connection="c")
        assert isinstance(lease, Lease)
        return [entry.content() for entry in lease.read(most_bytes=1 << 30, most_entries=10)]
