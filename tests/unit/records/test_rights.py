"""Who may do what: LaunchDarkly's policy statements, against a naive reading of its pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Misconfigured
from worker.records.directory import Directory, Environment, Project, Token
from worker.records.rights import (
    SEGMENT_ACTIONS,
    VIEW,
    Part,
    Resource,
    Role,
    Statement,
    matches,
    may,
    may_on_some,
    may_view,
    read_statements,
)

PROJECT: Resource = (Part("proj", "default"),)
PRODUCTION: Resource = (*PROJECT, Part("env", "production"))
STAGING: Resource = (*PROJECT, Part("env", "staging", frozenset({"qa", "eu"})))


def segment(environment: Resource, key: str = "vip") -> Resource:
    return (*environment, Part("segment", key))


def token(*statements: dict[str, Any], role: Role | None = None) -> Token:
    inline = read_statements(statements) if statements else ()
    return Token(token_hash="h", name="t", role=role, created_ms=0, inline_role=inline)


def allow(*resources: str, actions: tuple[str, ...] = ("*",)) -> dict[str, Any]:
    return {"effect": "allow", "actions": list(actions), "resources": list(resources)}


def deny(*resources: str, actions: tuple[str, ...] = ("*",)) -> dict[str, Any]:
    return allow(*resources, actions=actions) | {"effect": "deny"}


def test_a_reader_views_a_writer_changes_segments_an_admin_does_everything() -> None:
    roles: list[Role] = ["reader", "writer", "admin"]
    reader, writer, admin = (token(role=role) for role in roles)
    for action in SEGMENT_ACTIONS:
        asked = (action, segment(PRODUCTION))
        assert [may(each, *asked) for each in (reader, writer, admin)] == [False, True, True]
    assert [may(each, "createEnvironment", PRODUCTION) for each in (reader, writer, admin)] == [False, False, True]
    assert [may(each, VIEW, PROJECT) for each in (reader, writer, admin)] == [True] * 3


def test_what_no_statement_allows_is_denied() -> None:
    limited = token(allow("proj/default:env/staging:segment/*", actions=("updateIncluded",)))
    assert may(limited, "updateIncluded", segment(STAGING))
    assert not may(limited, "updateExcluded", segment(STAGING))
    assert not may(limited, "updateIncluded", segment(PRODUCTION))


def test_a_denial_beats_what_is_allowed_whatever_their_order() -> None:
    statements = [allow("proj/*:env/*:segment/*"), deny("proj/*:env/*:segment/vip", actions=("delete*",))]
    for ordered in (statements, statements[::-1]):
        assert not may(token(*ordered), "deleteSegment", segment(PRODUCTION))
        assert may(token(*ordered), "deleteSegment", segment(PRODUCTION, "other"))
        assert may(token(*ordered), "updateName", segment(PRODUCTION))


def test_a_specifier_names_resources_of_its_own_depth() -> None:
    about_environments = token(allow("proj/*:env/*"))
    assert may(about_environments, "updateName", PRODUCTION)
    assert not may(about_environments, "updateName", segment(PRODUCTION))
    assert not may(about_environments, "updateName", PROJECT)


def test_all_of_several_tags_are_wanted() -> None:
    for specifier, expected in {
        "proj/*:env/*;qa:segment/*": True,
        "proj/*:env/*;qa,eu:segment/*": True,
        "proj/*:env/*;q*:segment/*": True,
        "proj/*:env/*;qa,us:segment/*": False,
    }.items():
        limited = token(allow(specifier))
        assert (may(limited, "updateName", segment(STAGING)), may(limited, "updateName", segment(PRODUCTION))) == (
            expected,
            False,
        )


def test_all_but_some_resources_and_all_but_some_actions() -> None:
    limited = token(
        {"effect": "allow", "notActions": ["delete*"], "notResources": ["proj/*:env/production:segment/*"]},
    )
    assert may(limited, "updateIncluded", segment(STAGING))
    assert not may(limited, "deleteSegment", segment(STAGING))
    assert not may(limited, "updateIncluded", segment(PRODUCTION))


def test_it_may_read_the_environments_that_it_is_about() -> None:
    limited = token(allow("proj/default:env/staging:segment/vip", actions=("updateIncluded",)))
    assert may_view(limited, PROJECT)
    assert may_view(limited, STAGING)
    assert may_view(limited, segment(STAGING, "another"))
    assert not may_view(limited, PRODUCTION)
    assert not may_view(limited, (Part("proj", "another"),))


def test_viewing_can_be_denied() -> None:
    statements = [allow("proj/*:env/*:segment/*"), deny("proj/default", actions=(VIEW,))]
    assert not may_view(token(*statements), STAGING)


@pytest.mark.parametrize(
    "specifier",
    [
        "",
        "*",
        "proj",
        "proj/",
        "proj/a b",
        "proj/default:",
        "proj/default:flag/x",
        "proj/default:env/x:flag/y",
        "env/production",
        "segment/*",
        "metric/*",
        "proj/*:metric/*",
        "proj/*:env/*:segment/*:rule/*",
        "proj/*;",
        "proj/*:env/*:segment/*;qa",
        "proj/*;{key:value}",
        "proj/*;a,,b",
        "member/*:token/*",
        "proj/${roleAttribute/key}",
        "proj/" + "x" * 2000,
    ],
)
def test_an_unknown_or_malformed_specifier_is_refused_and_not_repeated(specifier: str) -> None:
    with pytest.raises(Misconfigured, match=r"^statement 0 has a resource") as refused:
        read_statements([allow(specifier)])
    assert "x" * 100 not in str(refused.value)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ({"effect": "allow", "actions": ["*"]}, "either resources or notResources"),
        ({"effect": "allow", "resources": ["proj/*"]}, "either actions or notActions"),
        (allow("proj/*") | {"notActions": ["x"]}, "either actions or notActions"),
        (allow("proj/*") | {"notResources": ["proj/x"]}, "either resources or notResources"),
        (allow("proj/*") | {"effect": "maybe"}, "statement 0/effect"),
        (allow("proj/*", actions=("do it",)), "no name of one"),
        (allow("proj/*") | {"condition": 1}, "statement 0/condition"),
        (allow(*["proj/*"] * 65), "at the most"),
        ({"effect": "allow", "actions": "*", "resources": ["proj/*"]}, "statement 0/actions"),
    ],
)
def test_a_statement_that_cannot_be_meant_is_refused(statement: dict[str, Any], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        read_statements([statement])


def test_an_inline_role_has_statements_and_not_too_many() -> None:
    for statements in ([], [allow("proj/*")] * 65):
        with pytest.raises(Misconfigured, match="1 to 64 statements"):
            read_statements(statements)


def test_empty_lists_and_nulls_say_nothing() -> None:
    [read] = read_statements([allow("proj/*") | {"notActions": [], "notResources": None}])
    assert read == Statement(effect="allow", actions=("*",), resources=("proj/*",))


def test_a_keys_own_text_never_becomes_a_specifier() -> None:
    limited = token(allow("proj/default:env/staging"))
    assert not may(limited, "updateName", (Part("proj", "default:env/staging"),))


def test_the_directory_knows_the_tags() -> None:
    environment = Environment(
        environment_id="e", environment_key="staging", project_key="p", name="S", tags=("qa",), created_ms=1
    )
    directory = Directory(environments={"e": environment}, projects={"p": Project(key="p", name="P", tags=("web",))})
    assert directory.resource("p", "staging", "vip") == (
        Part("proj", "p", frozenset({"web"})),
        Part("env", "staging", frozenset({"qa"})),
        Part("segment", "vip"),
    )
    assert directory.resource("gone", "staging") == (Part("proj", "gone"), Part("env", "staging"))


texts = st.text("ab.", max_size=6)
patterns = st.text("ab.*", max_size=8)
keys = st.text("ab*", min_size=1, max_size=3)
names = st.text("ab", min_size=1, max_size=3)
tags = st.frozensets(st.sampled_from(["a", "b", "ab"]), max_size=2)
actions = st.sampled_from(sorted(SEGMENT_ACTIONS))


@given(patterns, texts)
def test_a_star_stands_for_any_text(pattern: str, text: str) -> None:
    assert matches(pattern, text) == bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL))


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not matches("*a" * 500 + "*b", "a" * 100_000)


@st.composite
def specifiers(draw: st.DrawFn) -> str:
    parts = []
    for kind in ("proj", "env", "segment")[: draw(st.integers(1, 3))]:
        wanted = sorted(draw(st.frozensets(keys, max_size=2))) if kind != "segment" else []
        parts.append(f"{kind}/{draw(keys)}{';' + ','.join(wanted) if wanted else ''}")
    return ":".join(parts)


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    said = draw(st.lists(st.one_of(actions, st.sampled_from(["*", "update*", "*Segment"])), min_size=1, max_size=2))
    about = draw(st.lists(specifiers(), min_size=1, max_size=3))
    return Statement.model_validate(
        {
            "effect": draw(st.sampled_from(["allow", "deny"])),
            draw(st.sampled_from(["actions", "notActions"])): said,
            draw(st.sampled_from(["resources", "notResources"])): about,
        }
    )


resources = st.builds(
    lambda parts: tuple(Part(kind, *part) for kind, part in zip(("proj", "env", "segment"), parts, strict=False)),
    st.lists(st.tuples(names, tags), min_size=1, max_size=3),
)


def naive(pattern: str, text: str) -> bool:
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text))


def naive_names(specifier: str, resource: Resource) -> bool:
    parts = specifier.split(":")
    if len(parts) != len(resource):
        return False
    for part, (kind, key, known) in zip(parts, resource, strict=True):
        name, _, wanted = part.partition(";")
        if not naive(name, f"{kind}/{key}"):
            return False
        if wanted and not all(any(naive(each, tag) for tag in known) for each in wanted.split(",")):
            return False
    return True


def naive_covers(statement: Statement, action: str, resource: Resource) -> bool:
    if statement.actions:
        acts = any(naive(each, action) for each in statement.actions)
    else:
        acts = all(not naive(each, action) for each in statement.notActions)
    if statement.resources:
        return acts and any(naive_names(each, resource) for each in statement.resources)
    return acts and all(not naive_names(each, resource) for each in statement.notResources)


@given(st.lists(statements(), min_size=1, max_size=4), actions, resources)
def test_it_may_what_some_statement_allows_and_none_denies(
    policy: list[Statement], action: str, resource: Resource
) -> None:
    covering = [each.effect for each in policy if naive_covers(each, action, resource)]
    expected = "allow" in covering and "deny" not in covering
    inline = Token(token_hash="h", name="t", created_ms=0, inline_role=tuple(policy))
    assert may(inline, action, resource) == expected
    reversed_policy = inline.model_copy(update={"inline_role": tuple(policy[::-1])})
    assert may(reversed_policy, action, resource) == expected


@given(st.lists(statements(), min_size=1, max_size=4), actions, resources.filter(lambda each: len(each) == 3))
def test_who_may_do_it_to_one_segment_is_let_through_to_its_environment(
    policy: list[Statement], action: str, resource: Resource
) -> None:
    inline = Token(token_hash="h", name="t", created_ms=0, inline_role=tuple(policy))
    plain = (*resource[:2], Part("segment", resource[2].key))  # segments have no tags here
    if may(inline, action, plain):
        assert may_on_some(inline, action, resource[:2])
