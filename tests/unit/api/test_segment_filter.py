"""The filter of the list of segments, as LaunchDarkly documents it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api.segment_filter import MOST_CHARACTERS, MOST_CONDITIONS, InvalidFilter, read_filter


@dataclass(frozen=True)
class Segment:
    """What a filter asks about."""

    key: str
    name: str = ""
    tags: tuple[str, ...] = ()
    external: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        return self.key, self.name


BETA = Segment("beta-testers", "Toggle friends", ("beta", "eu"))
VIP = Segment("vip", "Very important", ("enterprise",), external=False)
PLAIN = Segment("plain")
ALL = (BETA, VIP, PLAIN)


def keys(text: str) -> list[str]:
    fits = read_filter(text)
    return [segment.key for segment in ALL if fits(segment)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["beta-testers", "vip", "plain"]),
        ('tags anyOf ["enterprise", "beta"],query equals "toggle"', ["beta-testers"]),
        ('excludedKeys anyOf ["vip", "nobody"]', ["beta-testers", "plain"]),
        ('includedKeys anyOf ["vip"]', ["vip"]),
        ("unbounded equals true", ["beta-testers", "vip", "plain"]),
        ("unbounded equals false", []),
        ("external exists false", ["vip"]),
        ('query equals ["IMPORTANT", "pla"]', ["vip", "plain"]),
        ('query equals "vip"|tags anyOf ["eu"],external exists true', ["beta-testers", "vip"]),
        ('(query equals "vip"|tags anyOf ["eu"]),external exists true', ["beta-testers"]),
        ('  query  equals"vip"  ', ["vip"]),
        ("tags anyOf []", []),
    ],
)
def test_a_filter_lets_through_what_it_describes(text: str, found: list[str]) -> None:
    assert keys(text) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour equals true", "colour equals is not known"),
        ('tags equals "a"', "tags equals is not known"),
        ('tags anyOf "a"', "tags anyOf wants a list of strings"),
        ("query equals toggle", "at character 14: a JSON value was expected"),
        ("query equals [1]", "a string, or a list of strings"),
        ('unbounded equals "true"', "true or false"),
        ("(unbounded equals true", "a closing parenthesis"),
        ("unbounded equals true)", "a comma, a | or the end"),
        ("unbounded equals true,", "at character 23: a field was expected"),
        ("(" * 100, "too many parentheses"),
        ("query equals " + "[" * 5000, "a JSON value was expected"),
        ("x" * (MOST_CHARACTERS + 1), "more than"),
        ("|".join(["unbounded equals true"] * (MOST_CONDITIONS + 1)), "more than 50 conditions"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        read_filter(text)
    assert told in str(refused.value)


@given(st.text(max_size=40) | st.text(alphabet="(),|[]\" 'tagsnyOfqueruls", max_size=60))
def test_no_text_brings_the_reader_down(text: str) -> None:
    try:
        fits = read_filter(text)
    except InvalidFilter:
        return
    assert all(isinstance(fits(segment), bool) for segment in ALL)
