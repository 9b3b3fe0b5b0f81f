"""What a body's action says, for whoever explains a payload."""

from __future__ import annotations

import json
from typing import Any

import pytest
from parser_documents import BOOLEAN, INCLUSION, SPLIT

from worker.errors import InvalidBatch
from worker.manifest.decoder import compile_parser
from worker.manifest.exact import Action
from worker.manifest.request_parser import RequestParser


def action(parser: dict[str, Any], body: Any) -> Action | None:
    return compile_parser(RequestParser.model_validate(parser)).action(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("said", "text", "matches"),
    [
        ("add", "add", True),
        ("remove", "remove", False),
        ("add\n", "add\n", False),
        (True, "true", False),
        (0, "0", False),
    ],
)
def test_an_action_is_told_as_text_with_what_the_matcher_says(said: object, text: str, *, matches: bool) -> None:
    assert action(INCLUSION, {"action": said}) == Action(text, matches)


def test_the_rest_of_the_body_is_not_asked_for() -> None:
    assert action(INCLUSION, {"action": "add", "members": "nobody"}) == ("add", True)


@pytest.mark.parametrize("parser", [BOOLEAN, SPLIT])
def test_the_other_modes_have_no_action(parser: dict[str, Any]) -> None:
    assert action(parser, {"action": "add"}) is None


@pytest.mark.parametrize("body", [{}, {"action": None}, {"action": ["add"]}, []])
def test_a_body_without_an_action_is_refused_as_the_decoder_does(body: object) -> None:
    with pytest.raises(InvalidBatch) as refused:
        action(INCLUSION, body)

    assert refused.value.reason == ("malformed" if body == [] else "action")
