"""``python -m mutants``: remove each guard of the protocol from a copy of the tree; print which test notices.

Exit 1 when no test notices one, 2 when nothing can be said: the tests fail with every guard in place, say.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants.catalogue import all_mutants
from mutants.mutant import Mutant
from mutants.trial import Verdict, copied_tree, imports_from, run, try_out


def main() -> int:
    """Try what was asked for."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    asked = _arguments()
    wanted = [mutant for mutant in all_mutants() if asked.only in f"{mutant.file}: {mutant.guard}"]
    tests = sorted({name for mutant in wanted for name in mutant.tests})
    if asked.list or not wanted:
        print("\n".join(f"{mutant.file}: {mutant.guard}" for mutant in wanted))
        return 0 if wanted else 2
    began = time.monotonic()
    with copied_tree() as tree:
        if stale := [str(error) for mutant in wanted if (error := _stale(mutant, tree))]:
            print("\n".join(stale), file=sys.stderr)
            return 2
        if not imports_from(tree):
            print("tests in a copy of the tree would test the tree itself", file=sys.stderr)
            return 2
        whole = run(tree, tests)
        if whole.killers or whole.problem:
            print(f"with every guard in place: {', '.join(whole.killers) or whole.problem}", file=sys.stderr)
            return 2
        print(f"{len(wanted)} guards; with all of them in place the tests pass, in {whole.seconds:.0f} s", flush=True)
        verdicts = _try_all(wanted, tree, asked)
    survivors = [mutant for mutant, verdict in zip(wanted, verdicts, strict=True) if not verdict.killers]
    doubtful = [verdict.problem for verdict in verdicts if verdict.problem]
    print(f"{len(wanted) - len(survivors)} of {len(wanted)} noticed, in {time.monotonic() - began:.0f} s")
    for problem in doubtful:
        print(f"\n{problem}", file=sys.stderr)
    return 2 if doubtful else 1 if survivors else 0


def _stale(mutant: Mutant, tree: Path) -> ValueError | None:
    """Why there is no such mutant any more; None when there is."""
    try:
        mutant.mutated(tree)
    except ValueError as error:
        return error
    return None


def _try_all(mutants: Sequence[Mutant], tree: Path, asked: argparse.Namespace) -> list[Verdict]:
    """Try them side by side; print each in its turn."""
    width = max(len(mutant.guard) for mutant in mutants)
    place = max(len(mutant.file) for mutant in mutants)
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(asked.processes) as pool:
        trials = pool.map(lambda mutant: try_out(mutant, tree, all_killers=asked.all_killers), mutants)
        try:
            for mutant, verdict in zip(mutants, trials, strict=True):
                verdicts.append(verdict)
                print(f"{mutant.guard:{width}}  {mutant.file:{place}}  {_outcome(verdict)}", flush=True)
        except BaseException:  # told to stop: those that have begun end, and their copies go
            pool.shutdown(cancel_futures=True)
            raise
    return verdicts


def _outcome(verdict: Verdict) -> str:
    if verdict.problem:
        return "NOBODY KNOWS"
    if not verdict.killers:
        return f"SURVIVED ({verdict.seconds:.0f} s)"
    more = f" and {len(verdict.killers) - 1} more" if len(verdict.killers) > 1 else ""
    return f"{verdict.killers[0].removeprefix('tests/')}{more} ({verdict.seconds:.0f} s)"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="just those with this in their file or name")
    parser.add_argument("--list", action="store_true", help="say which there are, and try none")
    parser.add_argument("--processes", type=int, default=2, help="so many at a time")
    parser.add_argument("--all-killers", action="store_true", help="do not stop at the first test that fails; longer")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
