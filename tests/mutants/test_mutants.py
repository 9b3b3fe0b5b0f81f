"""`make mutants` itself: the guards that it knows are still there, and it tells what is noticed from what is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from lupa.lua51 import LuaRuntime  # type: ignore[import-untyped]  # Redis' own version; two in one process may crash

from mutants.catalogue import all_mutants
from mutants.mutant import Mutant
from mutants.trial import ROOT, copied_tree, imports_from, try_out

PRELUDE = "worker/log/lua/_prelude.lua"
LUA = LuaRuntime()


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in all_mutants()}))
def test_each_guard_stands_where_it_is_said_to_and_without_it_there_is_a_program(file: str) -> None:
    for mutant in all_mutants():
        if mutant.file != file:
            continue
        text = mutant.mutated(ROOT)
        assert text != (ROOT / file).read_text()
        if file.endswith(".py"):
            compile(text, file, "exec")
        else:
            before = "" if file == PRELUDE else (ROOT / PRELUDE).read_text()
            LUA.compile(before + text)


def test_each_guard_has_a_name_of_its_own_and_tests_that_there_are() -> None:
    names = Counter((mutant.file, mutant.guard) for mutant in all_mutants())
    assert [name for name, times in names.items() if times > 1] == []
    assert [test for mutant in all_mutants() for test in mutant.tests if not (ROOT / test).is_file()] == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A program with two guards, and a test for one of them."""
    for folder in ("worker", "tests", "manifests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "worker/__init__.py").write_text("def share(a, b):\n    if b < 0: return 0\n    return b and a / b\n")
    (tmp_path / "tests/test_share.py").write_text(
        "from worker import share\n\n\ndef test_nothing_is_shared_by_nobody():\n    assert share(1, 0) == 0\n"
    )
    return tmp_path


def trial(tree: Path, text: str, instead: str) -> tuple[tuple[str, ...], bool]:
    mutant = Mutant("a guard", "worker/__init__.py", text, instead, ("tests/test_share.py",))
    verdict = try_out(mutant, tree)
    return verdict.killers, verdict.killed


def test_a_guard_that_a_test_needs_is_told_from_one_that_none_does(tree: Path) -> None:
    killer = "tests/test_share.py::test_nothing_is_shared_by_nobody"
    assert trial(tree, "b and a / b", "a / b") == ((killer,), True)
    assert trial(tree, "if b < 0: return 0", "pass") == ((), False)


def test_what_is_no_program_is_not_taken_for_noticed(tree: Path) -> None:
    assert trial(tree, "b and a / b", "b and") == (("tests/test_share.py",), False)


def test_a_guard_that_has_changed_is_not_guessed_at(tree: Path) -> None:
    for text in ("b > 0", "b"):
        with pytest.raises(ValueError, match="not once"):
            trial(tree, text, "")


def test_tests_in_a_copy_of_the_tree_are_of_that_copy() -> None:
    with copied_tree() as copy:
        assert imports_from(copy)
        (copy / "worker" / "model.py").write_text("")
    assert (ROOT / "worker" / "model.py").read_text()
    assert not copy.exists()
