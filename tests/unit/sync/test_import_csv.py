"""Reading keys from CSV, and sorting them in bounded memory."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sync.csv_keys import MOST_KEY_CHARACTERS, MOST_LINE_BYTES, BadFile, KeyReader
from worker.sync.sorted_keys import SortedKeys


def keys(*pieces: bytes) -> list[str]:
    return list(KeyReader(pieces))


def problem(*pieces: bytes) -> str:
    with pytest.raises(BadFile) as raised:
        keys(*pieces)
    return str(raised.value)


def test_the_key_is_in_the_first_column_and_there_is_no_header() -> None:
    assert keys(b"key,name\r\nann,Ann\r\nbob\r\n") == ["key", "ann", "bob"]


def test_lines_end_in_lf_or_crlf_and_the_last_need_not_end() -> None:
    assert keys(b"ann\nbob\r\ncyd") == ["ann", "bob", "cyd"]


def test_empty_lines_are_no_keys() -> None:
    assert keys(b"\nann\r\n\r\n\nbob\n\n") == ["ann", "bob"]


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert keys(b"\xef\xbb\xbfann\nbob\n") == ["ann", "bob"]
    assert keys(b"\xef", b"\xbb", b'\xbf"a,b"\n') == ["a,b"]


def test_quoted_keys_hold_commas_quotes_and_line_breaks() -> None:
    assert keys(b'"a,b",x\r\n"say ""hi"""\n"two\r\nlines"\n') == ["a,b", 'say "hi"', "two\r\nlines"]


def test_keys_are_text_in_utf_8_wherever_the_pieces_are_cut() -> None:
    whole = "żółw\n🐢,x\n".encode()
    for cut in range(len(whole) + 1):
        assert keys(whole[:cut], whole[cut:]) == ["żółw", "🐢"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ann\n,x\n", "line 2: the first column, the context key, is empty"),
        (b'ann\n\n""\n', "line 3: the first column, the context key, is empty"),
        (b"ann\n   \n", "line 2: the first column, the context key, is empty"),
        (b"ann\n\xff\xfe\n", "line 2: it is not UTF-8"),
        (b'ann\nbob\n"cyd\n', "line 3: a quoted field is never closed"),
        (
            b'"ann"x\n',
            "line 1: its quotes do not match: a quoted field ends with a quote, and a quote in it is doubled",
        ),
        (b"ann\rbob\r", "line 1: it has a CR that no LF follows; lines end in LF or CRLF"),
        (b"ann\n" + b"x" * (MOST_KEY_CHARACTERS + 1), "line 2: the context key is longer than 4,096 characters"),
        (b"ann," + b"x" * MOST_LINE_BYTES, "line 1: it is longer than 256 KiB"),
        (b"ann," + b"x" * 140_000 + b"\n", "line 1: a field is longer than 128 KiB"),
        (b'"two\nlines"\n,\n', "line 3: the first column, the context key, is empty"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_line(content: bytes, said: str) -> None:
    assert problem(content) == said


def test_a_line_without_end_takes_no_memory() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1024

    with pytest.raises(BadFile, match="line 1: it is longer than 256 KiB"):
        list(KeyReader(endless()))


def test_lines_are_counted() -> None:
    reader = KeyReader([b"ann\n\nbob\n"])
    assert list(reader) == ["ann", "bob"]
    assert reader.lines == 3


@given(
    st.lists(st.text(min_size=1, max_size=8).filter(lambda key: not key.isspace()), max_size=30),
    st.integers(1, 40),
    st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_is_written_as_csv_is_read_the_same(given_keys: list[str], size: int, ends: str) -> None:
    text = io.StringIO(newline="")
    # Quotes that nothing needs are right as well; without them, a writer leaves a lone CR bare.
    csv.writer(text, lineterminator=ends, quoting=csv.QUOTE_ALL).writerows((key, "x") for key in given_keys)
    whole = text.getvalue().encode()
    assert keys(*(whole[start : start + size] for start in range(0, len(whole), size))) == given_keys


@given(st.lists(st.text(max_size=6), max_size=60), st.integers(1, 20))
def test_keys_come_back_sorted_and_once_whatever_the_runs(given_keys: list[str], run_keys: int) -> None:
    with SortedKeys(run_keys) as found:
        for key in given_keys:
            found.add(key)
        assert list(found) == sorted(set(given_keys))


def test_many_runs_are_merged() -> None:
    chance = random.Random(4)
    numbers = [f"{chance.randrange(3000):06}" for _ in range(20_000)]
    with SortedKeys(1_100) as found:
        for number in numbers:
            found.add(number)
        assert list(found) == sorted(set(numbers))
