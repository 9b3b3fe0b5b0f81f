"""What commands share when they print, and the help of those that look at manifests."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from worker.cli.app import app
from worker.cli.console import counted, print_json, shortened


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 members"), (1, "1 member"), (2, "2 members"), (1200, "1,200 members")]
)
def test_things_are_counted_in_their_singular_and_plural(count: int, text: str) -> None:
    assert counted(count, "member") == text


@pytest.mark.parametrize(
    ("text", "shown"), [("abc", "abc"), ("abcd", "abc…"), ("", ""), ("\x1b[31m", "\N{REPLACEMENT CHARACTER}[3…")]
)
def test_a_long_text_is_cut_and_says_so(text: str, shown: str) -> None:
    assert shortened(text, 3) == shown


def test_json_is_one_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_json({"name": "zoë", "ids": [1, 2]})

    assert capfdbinary.readouterr().out == '{"name":"zoë","ids":[1,2]}\n'.encode()


COMMANDS = ("manifest lint", "manifest explain", "manifest test", "rejected-members")


def help_of(command: str, columns: int) -> str:
    return CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": str(columns)}).output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_breaks_its_lines_where_the_terminal_ends_and_nowhere_else(command: str) -> None:
    prose = help_of(command, 200).split("╭")[0].splitlines()[3:]

    assert all(line.strip().endswith(".") for line in prose if line.strip())


@pytest.mark.parametrize("command", ["manifest lint", "manifest explain", "manifest test"])
def test_every_command_names_manifests_in_the_same_way(command: str) -> None:
    text = help_of(command, 200)

    assert "KEY|FILE" in text
    assert "]...]..." not in text
    assert "manifest's file or directory" in text or "manifests' files or directories" in text
