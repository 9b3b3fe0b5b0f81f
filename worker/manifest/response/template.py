"""The answer a manifest asks for: its jsonResponseBody, a Handlebars template, filled in and checked to be JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NoReturn

import msgspec
from dotpromptz_handlebars import Handlebars
from msgspec import Raw
from pydantic.alias_generators import to_camel

from worker.manifest.response.bounds import LARGEST_ANSWER_BYTES, Bounds
from worker.manifest.response.marks import has_marks, masked, sides, unmarked
from worker.manifest.response.values import Root, look_up

# How much of the template's own text is quoted on either side of a fault.
_EXCERPT = 30

_json_text = msgspec.json.Decoder(Raw)


class UnrenderableResponse(Exception):
    """Raised when a template does not come out as JSON; the text says why, in words of the template's alone.

    Attributes:
        between: what stands before and after the place where it stops being JSON, if there is one; a value is "…".
    """

    between: tuple[str, str] | None = None


@dataclass(frozen=True)
class ResponseFacts:
    """What a template may mention. On a failure, facts that nobody knows yet stay empty.

    Attributes:
        request_body: the request's bytes, decompressed.
        status_code: the HTTP status of the answer.
        error_message: empty on success, which is what templates test.
    """

    request_body: bytes
    status_code: int
    error_message: str = ""
    project_key: str = ""
    environment_key: str = ""
    segment_key: str = ""
    segment_url: str = ""


# What a template may name, and the fact that it stands for.
VARIABLES = {to_camel(fact.name): fact.name for fact in fields(ResponseFacts)}


class ResponseTemplate:
    """A compiled jsonResponseBody. Safe to share among threads.

    A string stands as the text between its JSON quotes, with two braces and with three; every other value stands as
    its JSON, and what is missing or null as nothing. What a rendering may do is bounded (``bounds``).

    Raises:
        ValueError: on construction; the template's syntax is wrong.
    """

    def __init__(self, source: str) -> None:
        if has_marks(source):
            raise ValueError("a control character")
        # Escaping for HTML would turn quotes into &quot;; strings are escaped for JSON before they reach the template.
        engine = Handlebars(escape_html=False)
        engine.register_helper("log", lambda _arguments, _options: "")  # the library's own prints to stdout
        engine.register_helper("lookup", lambda arguments, _options: look_up(arguments))
        try:
            self._render: Callable[[Any], str] = engine.compile(source)
        except ValueError:
            raise
        except Exception as error:
            # The library stumbles over tags such as {{/}} in ways of its own.
            raise ValueError("a tag that cannot be read") from error

    def render(self, facts: ResponseFacts) -> bytes:
        """The answer: JSON in UTF-8, one value.

        Raises:
            UnrenderableResponse: what comes out is no JSON, the template asks for a helper or partial that there is
                not, or it does more for this request than a rendering may.
        """
        root = Root(
            {name: _json(getattr(facts, fact)) for name, fact in VARIABLES.items() if name != "requestBody"},
            facts.request_body,
            Bounds(),
        )
        try:
            marked = self._render(root)
        except RecursionError:
            raise UnrenderableResponse(
                "the template cannot be rendered: its blocks or partials nest too deep"
            ) from None
        except ValueError as error:
            raise UnrenderableResponse(f"the template cannot be rendered: {masked(str(error))}") from None
        except Exception as error:  # noqa: BLE001
            # A fault of the library's. Its text may hold anything.
            raise UnrenderableResponse(f"the template cannot be rendered: {type(error).__name__}") from None
        return _checked(marked)


def _json(fact: str | int) -> Raw:
    # A fact must not be what an answer fails of, whatever is in it.
    return Raw(msgspec.json.encode(fact.encode(errors="replace").decode() if isinstance(fact, str) else fact))


def _checked(marked: str) -> bytes:
    text = unmarked(marked)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise UnrenderableResponse("the template has an unpaired surrogate") from None
    if len(encoded) > LARGEST_ANSWER_BYTES:
        raise UnrenderableResponse(f"the answer is longer than {LARGEST_ANSWER_BYTES} bytes for this request")
    try:
        # Strict: it refuses NaN, a second value, unpaired surrogates. Space around the value is left out.
        return bytes(_json_text.decode(encoded))
    except RecursionError:
        raise UnrenderableResponse("what the template renders is nested too deep") from None
    except ValueError:
        _explain(marked, text)


def _explain(marked: str, text: str) -> NoReturn:
    """Say where a rendered text stops being JSON, quoting the template's own part of it only."""
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        before, after = sides(marked, error.pos)
        unrenderable = UnrenderableResponse(
            f"what the template renders is no JSON at character {error.pos + 1}, "
            f"between {before[-_EXCERPT:]!r} and {after[:_EXCERPT]!r}: {error.msg}"
        )
        unrenderable.between = (before, after)
        raise unrenderable from None
    except (ValueError, RecursionError) as error:
        raise UnrenderableResponse(f"what the template renders is no JSON: {error}") from None
    raise UnrenderableResponse("what the template renders is no JSON: a string in it has an unpaired surrogate")


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("it has NaN or Infinity where a value belongs")
