"""``python -m chaos``: an installation under load while everything is killed, frozen, restarted; then the check.

Exit 1 when a promise was broken; what the run left is kept then, and where is said.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from chaos.run import Run, run

_SHOWN = 20


def main() -> int:
    """Run once, and report."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that whatever was started is ended, too
    seed = SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    print(f"chaos: seed {seed}, about {asked.seconds} s", flush=True)
    place = Path(tempfile.mkdtemp(prefix="segsync-chaos-"))
    try:
        done = run(seed, asked.seconds, place, log=lambda line: print(line, flush=True), compact=asked.compact)
    except BaseException:
        print(f"what it left is in {place}", file=sys.stderr)
        raise
    print(done.report(), flush=True)
    return _report(done, place, asked)


def _report(done: Run, place: Path, asked: argparse.Namespace) -> int:
    problems = done.all_problems()
    if not problems:
        if asked.keep:
            print(f"logs and data are in {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
        return 0
    (place / "problems.json").write_text(json.dumps(problems, indent=1))
    for problem in problems[:_SHOWN]:
        print(f"\n{problem[:600]}", file=sys.stderr)
    print(f"\n{len(problems)} problems; logs and data are in {place}", file=sys.stderr)
    compact = " --compact" if asked.compact else ""
    print(
        f'the same faults again: make chaos ARGS="--seed {done.seed} --seconds {asked.seconds}{compact}"',
        file=sys.stderr,
    )
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the same seed plans the same faults; default: a random one")
    parser.add_argument("--seconds", type=int, default=300, help="for how long in all, about")
    parser.add_argument(
        "--compact", action="store_true", help="fold what is half a minute old into snapshots meanwhile"
    )
    parser.add_argument("--keep", action="store_true", help="keep logs and data of a good run, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
