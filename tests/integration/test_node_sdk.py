"""LaunchDarkly's SDKs for Node read what the Python SDK reads, from Redis, a Redis Cluster and DynamoDB.

DynamoDB's package for the current SDK is not on every registry; the one before it is made for SDK 6, and works with
either: both are asked.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from cluster_proxy import ClusterProxy
from contract.store_subjects import PREFIXES, Subject, on_cluster, on_dynamodb, on_redis
from node_packages import installed
from redis_cluster import RedisCluster
from servers import DynamoDBServer, Missing, ValkeyServer, skip_or_fail

SEGMENTS = {"beta-users": 1, "vip": 3}
REF, OTHER_REF = (f"{key}.g{generation}" for key, generation in SEGMENTS.items())
ODD_KEYS = ["zoë@example.com", "名前", "𐍈🎉", "with space:and*glob", " ", '"quoted"\\', "x" * 3_000]
CASES = [
    *product(("9",), ("redis",), PREFIXES["valkey"].values()),
    *product(("9",), ("cluster",), PREFIXES["cluster"].values()),
    *product(("9", "6"), ("dynamodb",), PREFIXES["strict"].values()),
]


@dataclass
class Node:
    """``read.mjs``, which makes a client of its own for each question."""

    process: subprocess.Popen[str]

    def ask(self, question: dict[str, Any]) -> Any:
        """Its answer; whatever goes wrong ends it, and it has said why on stderr."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        answer = self.process.stdout.readline()
        assert answer, "Node has ended"
        return json.loads(answer)


@dataclass
class Place:
    """A store that we write, and how Node is told where it is."""

    subject: Subject
    told: dict[str, Any]
    sdk: str
    node: Node

    def refresh(self, age_ms: int = 0) -> None:
        """Set the store's freshness to now, or to some time ago."""
        now_ms = time.time_ns() // 1_000_000
        sentinel = self.subject.store.claim("ours", now_ms)
        assert self.subject.store.set_synchronized_on(now_ms - age_ms, sentinel)

    def read_by_node(self, contexts: Sequence[str], *, everybody: bool = False) -> Any:
        """What ``read.mjs`` answers; with ``everybody``, segments have a rule that takes in whoever is not excluded."""
        segments = [
            {"key": key, "generation": generation, "everybody": everybody} for key, generation in SEGMENTS.items()
        ]
        asked = {"sdk": self.sdk, "store": self.told, "segments": segments, "contexts": list(contexts)}
        return self.node.ask(asked)

    def memberships(self, contexts: Sequence[str]) -> dict[str, set[str]]:
        """The refs that Node takes each context to be in, all evaluated HEALTHY; the Python SDK says the same."""
        read = self.read_by_node(contexts)
        assert read["status"] == {"available": True, "stale": False}
        assert {tuple(each["statuses"]) for each in read["contexts"].values()} == {("HEALTHY",)}
        found = {
            key: {f"{segment}.g{SEGMENTS[segment]}" for segment in each["segments"]}
            for key, each in read["contexts"].items()
        }
        assert found == {key: self.subject.included(key) for key in contexts}
        return found


@pytest.fixture(scope="module")
def node(aws_credentials: None) -> Iterator[Node]:
    try:
        script = installed("read.mjs")
    except Missing as missing:
        skip_or_fail(str(missing))
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        yield Node(process)
        process.kill()


@pytest.fixture(scope="module")
def on_valkey(valkey: ValkeyServer) -> Iterator[Callable[[str], Subject]]:
    yield from on_redis("valkey", valkey)


@pytest.fixture(scope="module")
def on_nodes(redis_cluster: RedisCluster, cluster_proxy: ClusterProxy) -> Iterator[Callable[[str], Subject]]:
    yield from on_cluster(redis_cluster, cluster_proxy)


@pytest.fixture(scope="module")
def on_table(strict_dynamodb: DynamoDBServer) -> Iterator[Callable[[str], Subject]]:
    yield from on_dynamodb("strict", strict_dynamodb, "node-sdk")


@pytest.fixture(params=CASES, ids="-".join)
def place(request: pytest.FixtureRequest, node: Node) -> Place:
    sdk, kind, prefix = request.param
    if kind == "redis":
        server = request.getfixturevalue("valkey")
        subject = request.getfixturevalue("on_valkey")(prefix)
        return Place(subject, {"kind": "redis", "url": server.url, "prefix": prefix}, sdk, node)
    if kind == "cluster":
        nodes = [{"host": host, "port": port} for host, port, _ in request.getfixturevalue("redis_cluster").nodes]
        subject = request.getfixturevalue("on_nodes")(prefix)
        return Place(subject, {"kind": "cluster", "nodes": nodes, "prefix": prefix}, sdk, node)
    server = request.getfixturevalue("strict_dynamodb")
    subject = request.getfixturevalue("on_table")(prefix)
    where = {"table": "node-sdk", "region": server.region, "endpoint": server.url}
    return Place(subject, {"kind": "dynamodb", "prefix": prefix, **where}, sdk, node)


def test_node_reads_who_is_in_what_and_who_has_left(place: Place) -> None:
    place.refresh()
    place.subject.write(["ann", "bob", "cyd"])
    place.subject.write(["ann", "eve"], ref=OTHER_REF)
    place.subject.write(["dan"], ["bob", "never-was"])
    place.subject.write([], ["eve"], ref=OTHER_REF)
    assert place.memberships(["ann", "bob", "cyd", "dan", "eve", "never-was"]) == {
        "ann": {REF, OTHER_REF},
        "bob": set(),
        "cyd": {REF},
        "dan": {REF},
        "eve": set(),
        "never-was": set(),
    }


def test_node_finds_contexts_whatever_their_keys(place: Place) -> None:
    place.refresh()
    place.subject.write(ODD_KEYS)
    place.subject.write([], ODD_KEYS[-1:])
    assert place.memberships(ODD_KEYS) == {key: {REF} for key in ODD_KEYS[:-1]} | {ODD_KEYS[-1]: set()}


def test_node_leaves_out_who_is_excluded_and_not_included(place: Place) -> None:
    place.refresh()
    place.subject.write(["ann", "bob"], exclude=["bob", "cyd", "dan"])
    place.subject.write(["dan"], ["ann"], exclude=["ann"], unexclude=["dan"])
    contexts = ["ann", "bob", "cyd", "dan", "never-was"]
    ruled = place.read_by_node(contexts, everybody=True)["contexts"]
    assert {key: "beta-users" in ruled[key]["segments"] for key in contexts} == {
        "ann": False,
        "bob": True,
        "cyd": False,
        "dan": True,
        "never-was": True,
    }
    plain = place.read_by_node(contexts)["contexts"]
    assert [key for key in contexts if "beta-users" in plain[key]["segments"]] == ["bob", "dan"]


def test_node_takes_another_generation_for_another_segment(place: Place) -> None:
    place.refresh()
    place.subject.write(["ann"], ref="beta-users.g2")
    read = place.read_by_node(["ann"])
    assert read["contexts"]["ann"] == {"segments": [], "statuses": ["HEALTHY"]}


def test_node_says_stale_when_our_freshness_is_old_or_was_never_told(place: Place) -> None:
    place.subject.write(["ann"])
    stale = {
        "status": {"available": True, "stale": True},
        "contexts": {"ann": {"segments": ["beta-users"], "statuses": ["STALE"]}},
    }
    assert place.read_by_node(["ann"]) == stale
    place.refresh(age_ms=600_000)
    assert place.read_by_node(["ann"]) == stale
    place.refresh()
    assert place.memberships(["ann"]) == {"ann": {REF}}
