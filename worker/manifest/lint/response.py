"""Lint of a jsonResponseBody: rendered for success and for failure, with values that are hard to quote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from worker.manifest.document import array_index
from worker.manifest.lint.finding import Finding
from worker.manifest.lint.sample import Body, Tokens, place, sample_body
from worker.manifest.manifest import RESPONSE_BODY, Manifest
from worker.manifest.response.template import VARIABLES, ResponseFacts, ResponseTemplate, UnrenderableResponse
from worker.manifest.spelling import name_meant

_HARD = 'a "quoted" \\ text\nwith {{braces}} } and {"json": [1]}'
_TAG = re.compile(r"\{\{\{?~?(?!!)\s*(.*?)\s*~?\}?\}\}", re.DOTALL)
_COMMENT = re.compile(r"\{\{~?!--.*?--~?\}\}|\{\{~?!.*?\}\}", re.DOTALL)
_STRING = re.compile(r"\"[^\"]*\"|'[^']*'|\|[^|]*\|")
_BODY_PATH = re.compile(r"\brequestBody((?:[./](?:\[[^\]]+\]|[\w-]+))+)")
_STEP = re.compile(r"[./](?:\[([^\]]+)\]|([\w-]+))")
_NAME = re.compile(r"(?:@root[./])?\[?([A-Za-z_][\w-]*)")
_WORD = re.compile(r"[()]|(?:\[[^\]]*\]|[^\s()=\[])+=?")
_LITERALS = frozenset({"true", "false", "null", "undefined", "this", "else", "as", "if", "each", "with", "unless"})

# What to do about a template that does not come out as JSON, by the reason: "before▮after" where it stops being JSON.
_REMEDIES = {
    "Missing helper": "use only the helpers that there are: if, unless, each, with, lookup and log",
    "partial .* could not be found": "write its text here: there are no partials",
    r"▮\s*&(quot|#)": 'write quotes as they are, not as HTML has them: " for &quot;',
    r"[{,:[]\s*▮\s*'": "write \" for ': JSON's quotes are double ones",
    r",\s*▮\s*[\]}]": "drop the comma before the bracket; between repeated values write {{#unless @last}},{{/unless}}",
    '"▮…': "drop the quotes around this value: an array or object comes out as JSON by itself",
    r"▮[\n\r\t]": r"write \\n in the manifest for a line break inside of a string: \n breaks the template's own line",
    r"▮\\": r"write \\\\ in the manifest for one backslash in the answer, or drop it",
    r"^\s*▮\s*$": "say something in both cases, {{#if errorMessage}} … {{else}} … {{/if}}, or drop jsonResponseBody",
    r"^\s*▮[^…{[]": 'write JSON, such as {"status": "ok"}',
    r"▮…|…▮|[:,[]\s*▮\s*[,}\]]": "put quotes around every variable that is text: ids and names are",
    "": "check commas, quotes and braces there, and on either side of each {{#if}}",
}


class _Case(NamedTuple):
    """One occasion on which the template is rendered."""

    name: str
    facts: ResponseFacts


def lint_response(manifest: Manifest) -> Iterator[Finding]:
    """What is wrong with the template, if there is one."""
    template = manifest.response_template
    if template is None or manifest.json_response_body is None:
        return
    yield from _rendering(manifest, template, manifest.json_response_body)
    yield from _unknown_variables(manifest.json_response_body)


def _rendering(manifest: Manifest, template: ResponseTemplate, source: str) -> Iterator[Finding]:
    # A value that the manifest has no pointer for may be a number, which needs no quotes.
    bodies = [_body(manifest, source, _HARD, unknown) for unknown in (_HARD, 1)]
    failures = min((_failures(template, _cases(body)) for body in bodies), key=len)
    if failures:
        yield Finding(
            "error",
            "response-no-json",
            RESPONSE_BODY,
            f"does not come out as JSON {_why(failures)}",
            _remedy(next(iter(failures.values()))),
        )
        return
    unreadable = _failures(template, [_Case("when the request itself is no JSON", _failure(b"no JSON"))])
    if unreadable:
        yield Finding(
            "warning",
            "response-needs-a-body",
            RESPONSE_BODY,
            f"does not come out as JSON {_why(unreadable)}",
            "put what comes from requestBody into quotes, or inside of {{#if requestBody}} … {{/if}}",
        )


def _cases(body: bytes) -> list[_Case]:
    success = ResponseFacts(body, 200, "", _HARD, _HARD, _HARD, _HARD)
    return [
        _Case("on success", success),
        _Case("on failure", _failure(body)),
        _Case("on failure", ResponseFacts(body, 503, _HARD, _HARD, _HARD, _HARD, _HARD)),
    ]


def _failure(body: bytes) -> ResponseFacts:
    return ResponseFacts(body, 400, _HARD)


def _failures(template: ResponseTemplate, cases: list[_Case]) -> dict[str, UnrenderableResponse]:
    """The cases that cannot be rendered, with the reason why."""
    failures: dict[str, UnrenderableResponse] = {}
    for case in cases:
        try:
            template.render(case.facts)
        except UnrenderableResponse as error:
            failures.setdefault(case.name, error)
    return failures


def _why(failures: dict[str, UnrenderableResponse]) -> str:
    reasons = dict.fromkeys(map(str, failures.values()))
    cases = {why: " and ".join(case for case, other in failures.items() if str(other) == why) for why in reasons}
    return "; ".join(f"{case}: {why}" for why, case in cases.items())


def _remedy(failure: UnrenderableResponse) -> str:
    reason = str(failure) if failure.between is None else "▮".join(failure.between)
    return next(remedy for part, remedy in _REMEDIES.items() if re.search(part, reason))


def _body(manifest: Manifest, source: str, known: str | int, unknown: str | int) -> bytes:
    """A body with ``known`` wherever the manifest's pointers look, and ``unknown`` where only the template does."""
    body: Body = sample_body(
        manifest.parser,
        environment_id=known,
        cohort_id=known,
        cohort_name=known,
        cohort_url=known,
        add=[known],
        remove=[known],
    )
    for path in _BODY_PATH.finditer(source):
        tokens = tuple(quoted or plain for quoted, plain in _STEP.findall(path[1]))
        place(body, tokens, unknown, _lists(tokens))
    return json.dumps(body).encode()


def _lists(tokens: Tokens) -> list[Tokens]:
    return [tokens[:depth] for depth, token in enumerate(tokens) if array_index(token) is not None]


def _unknown_variables(source: str) -> Iterator[Finding]:
    for name in dict.fromkeys(_variables(source)):
        if name in VARIABLES:
            continue
        meant = name_meant(name, VARIABLES)
        yield Finding(
            "warning",
            "response-variable",
            RESPONSE_BODY,
            f"names {name}, which no answer has: it comes out as nothing",
            f"perhaps {meant} is meant" if meant else f"a template may name {', '.join(VARIABLES)}",
        )


def _variables(source: str) -> Iterator[str]:
    """The names that a template looks up among the facts; not those inside of blocks that look into something."""
    inside: list[bool] = []
    for tag in _TAG.finditer(_COMMENT.sub("", source)):
        text = _STRING.sub("0", tag[1])
        if text.startswith(("/", "^", ">", "else")) and not text.startswith("else if"):
            if text.startswith("/") and inside:
                inside.pop()
            continue
        words = _WORD.findall(text.removeprefix("else if").lstrip("#&").strip())
        looks_in = inside[-1] if inside else False
        if text.startswith("#"):
            inside.append(looks_in or words[0] not in {"if", "unless"})
        for before, word in zip(["", *words], words, strict=False):
            # A helper's name comes first, before arguments; an option's before its equals sign.
            is_called = before == "(" or (not before and len(words) > 1 and not text.startswith("else if"))
            match = None if is_called or word.endswith("=") else _NAME.match(word)
            if match and match[1] not in _LITERALS and (not looks_in or word.startswith("@root")):
                yield match[1]
