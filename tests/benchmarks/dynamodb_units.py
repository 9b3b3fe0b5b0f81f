"""What cohorts cost in a DynamoDB table, in read and write units per member: `make units`, `make units ARGS=--quick`.

Measured on dynalite, whose figures for these requests are DynamoDB's; transactions, which it does not have, on DynamoDB
Local, whose figure for them is wrong and is replaced by the documented one. What lies in the table is compared after
each step, and whoever exceeds a limit ends the run. No step is judged by its time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from dynamodb_local import Dynalite, DynamoDBLocal
from servers import DynamoDBServer, Missing

from benchmarks.metering import Charged, Meter
from worker.model import DynamoDBStoreConfiguration, SegmentId, SegmentPatch, SegmentProfile, WriteCounts
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.layout import context_hash

MEMBERS: Final = 100_000
QUICK_MEMBERS: Final = 10_000
FEWEST_MEMBERS: Final = 3_000
# How much of the table the small cohort is.
SMALL: Final = 100
CHANGED: Final = 20
# A drain folds what lies in the log: all of a cohort, parts of it, or one payload of a hundred as each arrives.
PORTIONS: Final = (5, 100)
# To find out how much of the table a patch is, a stretch of it is read: two or three units, whatever the patch's size.
LOOK_UNITS: Final = 3


class Broken(Exception):
    """A promise that did not hold; the text says which."""


@dataclass
class Step:
    """One row: what was sent, and what it was charged.

    Attributes:
        members: how many were sent.
        most_reads, most_writes: units for each member that may be charged; None where nothing is promised.
    """

    what: str
    members: int
    charged: Charged
    seconds: float
    most_reads: float | None = None
    most_writes: float | None = None

    @property
    def reads(self) -> float:
        """Read units per member."""
        return self.charged.read / self.members

    @property
    def writes(self) -> float:
        """Write units per member."""
        return self.charged.write / self.members


class Table:
    """A fresh table, the store that fills it, and what ought to be in it."""

    def __init__(self, server: DynamoDBServer, mode: str) -> None:
        self.name = f"units-{uuid.uuid4().hex[:8]}"
        server.create_table(self.name)
        self._client = server.client()
        configuration = DynamoDBStoreConfiguration.model_validate(
            {"tableName": self.name, "region": server.region, "endpoint": server.url, "writeMode": mode}
        )
        self._store = DynamoDBStore(configuration)
        self._tells_all = isinstance(server, Dynalite)
        self._meter = Meter(self._store._open_client(), tells_absent=self._tells_all)
        self._expected: dict[str, set[str]] = {}

    def close(self) -> None:
        """Remove the table."""
        self._store.close()
        self._client.delete_table(TableName=self.name)
        self._client.close()

    def send(
        self,
        what: str,
        cohort: str,
        members: Sequence[str],
        *,
        portions: int = 1,
        new: int = 0,
        most_reads: float | None = None,
        most_writes: float | None = None,
    ) -> Step:
        """Write members as drains do, and compare the table with what it ought to hold.

        Args:
            what: names the step.
            cohort: whose members these are.
            members: context keys; all are added.
            portions: how many patches to send them in.
            new: how many of them were not in it.
            most_reads: units per member that may be read; None for any.
            most_writes: units per member that may be written; None for any.

        Raises:
            Broken: a limit was exceeded, or the table, the counts or the store's own account of units are wrong.
        """
        ref = f"{cohort}.g1"
        before, began = self._store.consumed, time.monotonic()
        counts = self._write(ref, members, portions)
        seconds = time.monotonic() - began
        charged, told = self._meter.take(), self._store.consumed - before
        for member in members:
            self._expected.setdefault(context_hash(member), set()).add(ref)
        step = Step(what, len(members), charged, seconds, most_reads, most_writes)
        if counts != WriteCounts(new, 0):
            raise Broken(f"{what}: the store counts {counts}; {new} were new")
        if self._read_back() != self._expected:
            raise Broken(f"{what}: the table does not hold what it ought to")
        if self._tells_all and tuple(told) != (charged.read, charged.write):
            raise Broken(f"{what}: the store says {told}; the table was charged {charged}")
        for unit, units, most in (("read", step.reads, most_reads), ("write", step.writes, most_writes)):
            if most is not None and units > most:
                raise Broken(f"{what}: {units:.4f} {unit} units per member, where {most:g} is promised")
        return step

    def _write(self, ref: str, members: Sequence[str], portions: int) -> WriteCounts:
        added = removed = 0
        size = -(-len(members) // portions)
        with self._store.session() as session:
            session.prepare(lambda: SegmentProfile(SegmentId("env", ref, 1), "user", "", fresh=False))
            for start in range(0, len(members), size):
                counts = session.write(SegmentPatch(ref, list(members[start : start + size]), []), lambda: None)
                if counts.refused or not counts.exact:
                    raise Broken(f"{ref}: {len(counts.refused)} refused, exact: {counts.exact}")
                added, removed = added + counts.added, removed + counts.removed
        return WriteCounts(added, removed)

    def _read_back(self) -> dict[str, set[str]]:
        pages = self._client.get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True)
        items = (item for page in pages for item in page["Items"])
        return {
            item["key"]["S"]: set(item["included"]["SS"])
            for item in items
            if item["namespace"]["S"] == "big_segments_user"
        }


def measure_updates(server: DynamoDBServer, members: int) -> Iterator[Step]:
    """The mode ``update``: a cohort that is the table, and one that is a hundredth of it. Raises Broken."""
    cohort = [f"user-{number}" for number in range(members)]
    few = [f"guest-{number}" for number in range(members // SMALL)]
    replaced = members // CHANGED
    later = cohort[replaced:] + [f"late-{number}" for number in range(replaced)]
    with _table(server, "update") as table:
        yield table.send("first sync", "cohort", cohort, new=members, most_writes=1)
        yield table.send("re-sent, unchanged: all of the table", "cohort", cohort, most_reads=0.1, most_writes=0)
        for portions in PORTIONS:
            most_reads = 1 + LOOK_UNITS * portions / members
            what = f"the same in {portions} patches"
            yield table.send(what, "cohort", cohort, portions=portions, most_reads=most_reads, most_writes=0)
        yield table.send("re-sent, 5 % are new", "cohort", later, new=replaced, most_writes=0.05)
        yield table.send("first sync: 1 % of the table", "few", few, new=len(few), most_writes=1)
        most_reads = 1 + LOOK_UNITS / len(few)
        yield table.send("re-sent, unchanged: 1 % of the table", "few", few, most_reads=most_reads, most_writes=0)


def measure_transactions(server: DynamoDBServer, members: int) -> Iterator[Step]:
    """The mode ``transact``. Raises Broken."""
    cohort = [f"user-{number}" for number in range(members)]
    with _table(server, "transact") as table:
        yield table.send("transact: first sync", "cohort", cohort, new=members, most_writes=2)
        yield table.send("transact: re-sent, unchanged", "cohort", cohort, most_reads=0.1, most_writes=0)


def table_of(steps: Sequence[Step]) -> str:
    """What was measured, for people."""
    columns = "{:<40}{:>9}{:>15}{:>9}{:>14}{:>9}{:>10}{:>9}"
    head = columns.format("", "members", "writes/member", "at most", "reads/member", "at most", "requests", "seconds")
    lines = (
        columns.format(
            step.what,
            f"{step.members:,}",
            f"{step.writes:.2f}",
            "" if step.most_writes is None else f"{step.most_writes:g}",
            f"{step.reads:.4f}",
            "" if step.most_reads is None else f"{step.most_reads:g}",
            f"{step.charged.requests:,}",
            f"{step.seconds:.1f}",
        )
        for step in steps
    )
    return "\n".join([head, *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status: 1 when a promise did not hold, 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="make units", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MEMBERS:,} members instead of {MEMBERS:,}")
    parser.add_argument("--members", type=int, help="so many members")
    options = parser.parse_args(arguments)
    members = options.members or (QUICK_MEMBERS if options.quick else MEMBERS)
    if members < FEWEST_MEMBERS:
        parser.error(f"at least {FEWEST_MEMBERS:,} members: of fewer, a look at the table is a notable part")
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    runs: list[tuple[Callable[[], Any], Callable[[Any, int], Iterator[Step]]]] = [
        (Dynalite, measure_updates),
        (DynamoDBLocal, measure_transactions),
    ]
    steps: list[Step] = []
    try:
        for start, measure in runs:
            try:
                server = start()
            except Missing as missing:
                print(f"not measured: {measure.__name__}: {missing}", file=sys.stderr)
                continue
            try:
                for step in measure(server, members):
                    print(f"{step.what}: {step.seconds:.1f} s", file=sys.stderr)
                    steps.append(step)
            finally:
                server.stop()
    except Broken as broken:
        print(f"{table_of(steps)}\n{broken}", file=sys.stderr)
        return 1
    print(table_of(steps))
    return 0 if steps else 2


@contextmanager
def _table(server: DynamoDBServer, mode: str) -> Iterator[Table]:
    with closing(Table(server, mode)) as table:
        yield table


if __name__ == "__main__":
    sys.exit(main())
