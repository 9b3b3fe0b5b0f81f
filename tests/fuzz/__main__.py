"""``python -m fuzz``: all readers of bodies against each other, then mutated requests against a real receiver.

Exit 1 when something was found; it says how to send just that once more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from servers import ValkeyServer

from fuzz import agreement_run, http
from fuzz.agreement import POLICIES, Comparison, Disagreement
from fuzz.requests import Mutations


def main() -> int:
    """Run what was asked for."""
    asked = _arguments()
    if asked.only is not None:
        return _once(asked.seed, *map(int, asked.only.split(":")))
    if asked.only_request is not None:
        return _report(_http(asked.seed, [asked.only_request], shown=True))
    problems: list[str] = []
    if asked.manifests:
        print(f"readers: seed {asked.seed}, {asked.manifests:,} manifests x {asked.bodies:,} bodies", flush=True)
        tally = agreement_run.run(asked.seed, asked.manifests, asked.bodies, asked.processes)
        print(tally.report(), flush=True)
        problems += tally.problems
    if asked.requests:
        print(f"receiver: seed {asked.seed}, {asked.requests:,} requests", flush=True)
        problems += _http(asked.seed, range(asked.requests), shown=False)
    return _report(problems)


def _once(seed: int, manifest: int, number: int) -> int:
    """One body of one manifest, and what everybody makes of it."""
    comparison = Comparison(agreement_run.generated_parser(seed, manifest))
    body = agreement_run.generated_body(seed, manifest, number, comparison.parser)
    print(f"parser: {comparison.parser!r}\nbody:   {body!r}")
    for policy in POLICIES:
        try:
            print(f"{policy}: all agree: {comparison.check(body, policy).outcome!r}")
        except Disagreement as disagreement:
            print(disagreement, file=sys.stderr)
            return 1
    return 0


def _http(seed: int, numbers: Sequence[int], *, shown: bool) -> list[str]:
    if shown:
        print("\n".join(http.describe(Mutations(seed).request(number)) for number in numbers))
    with _receiver() as (deployment, url):
        tally = http.run(seed, numbers, deployment, url)
    print(tally.report(), flush=True)
    return tally.problems


@contextmanager
def _receiver() -> Iterator[tuple[http.FuzzedDeployment, str]]:
    with tempfile.TemporaryDirectory(prefix="segsync-fuzz-") as place:
        state = ValkeyServer(Path(place) / "valkey").start()
        deployment = None
        try:
            deployment = http.FuzzedDeployment(state, Path(place))
            yield deployment, deployment.start_receiver()
        finally:
            if deployment is not None:
                deployment.stop()
            state.stop()


def _report(problems: list[str]) -> int:
    for problem in problems[:5]:
        print(f"\n{problem}", file=sys.stderr)
    if len(problems) > 5:
        print(f"\nand {len(problems) - 5} more", file=sys.stderr)
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same manifests, bodies, requests")
    parser.add_argument("--manifests", type=int, default=1000, help="0: leave the readers out")
    parser.add_argument("--bodies", type=int, default=100, help="of each manifest")
    parser.add_argument("--requests", type=int, default=20_000, help="0: leave the receiver out")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="for the readers")
    parser.add_argument("--only", metavar="I:J", help="just body J of manifest I, and what everybody makes of it")
    parser.add_argument("--only-request", type=int, metavar="N", help="just this request, shown")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
