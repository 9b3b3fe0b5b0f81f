"""What each stage of a member's way costs in processor time, one stage at a time, in this process."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from statistics import median
from threading import Thread

from worker.cli.bench.applying import BATCH_MEMBERS, portions
from worker.cli.bench.installation import PREFIX
from worker.cli.bench.measuring import Plan, Result
from worker.cli.bench.payloads import SEGMENT, people, segment_body
from worker.log.entry import compress, decompress
from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import Manifest
from worker.stores.layout import context_hashes
from worker.stores.redis.bulk import Replies, pack_commands
from worker.sync.fold import fold

_REF = "segment-audiences-cohort.g1"


def stages(plan: Plan) -> list[Result]:
    """CPU µs a member, of Segment's batches of a thousand: accepting the first three, applying the others."""
    members = people(plan.sized(200_000, 100_000))
    manifest = load_catalog()[SEGMENT]
    assert isinstance(manifest, Manifest)
    decoder = manifest.decoder
    bodies = [segment_body("environment", "cohort", each) for each in portions(members, BATCH_MEMBERS)]
    packed = [compress(each) for each in bodies]
    said = [decoder.decode(each).cohorts[0].members for each in bodies]
    hashes = context_hashes(members)
    ways: dict[str, Callable[[], object]] = {
        "validate": lambda: [decoder.decode_fast(each, members=False) for each in bodies],
        "compress": lambda: [compress(each) for each in bodies],
        "decompress": lambda: [decompress(*each) for each in packed],
        "decode": lambda: [decoder.decode(each) for each in bodies],
        "fold": lambda: list(fold(_REF, said)),
        "hash": lambda: context_hashes(members),
        "pack": lambda: [pack_commands(b"SADD", PREFIX, each, _REF) for each in portions(hashes, 2 * BATCH_MEMBERS)],
        "read_replies": lambda: _read_replies(len(members)),
    }
    found = {name: [_cpu_us(do, len(members)) for _ in range(plan.rounds)] for name, do in ways.items()}
    return [Result(f"cpu_us_{name}", median(rounds), "µs/member", rounds) for name, rounds in found.items()]


def _cpu_us(do: Callable[[], object], members: int) -> float:
    began = time.thread_time()
    do()
    return (time.thread_time() - began) / members * 1e6


def _read_replies(count: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending = Thread(target=theirs.sendall, args=(b":1\r\n" * count,))
        sending.start()
        read = Replies(ours).count_ones(count)
        sending.join()
    assert read == count
