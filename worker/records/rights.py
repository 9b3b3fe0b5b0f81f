"""Who may do what: roles, and LaunchDarkly's policy statements. Pure: values in, verdicts out.

Source: LaunchDarkly's pages "Using policies", "Using resources", "Using actions" and "Using tags".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.records.directory import Token

Role = Literal["reader", "writer", "admin"]

VIEW: Final = "viewProject"
# What a writer may do; an admin may do everything, a reader may view.
SEGMENT_ACTIONS: Final = frozenset(
    {
        "createSegment",
        "deleteSegment",
        "updateDescription",
        "updateExcluded",
        "updateIncluded",
        "updateName",
        "updateRules",
        "updateTags",
    }
)
# What there is here of LaunchDarkly's resources, from the outermost to the innermost.
_KINDS: Final = ("proj", "env", "segment")
_NAME: Final = re.compile(r"[A-Za-z0-9_.*-]+")
_ACTION: Final = re.compile(r"[A-Za-z*]+")
_LONGEST: Final = 1024
# Statements of a token, and what one of them lists: each is looked at for each payload.
_MOST: Final = 64


class Part(NamedTuple):
    """One step of a resource, or of a specifier: a kind, a key, and tags."""

    kind: str
    key: str
    tags: frozenset[str] = frozenset()


# What an action is done to: a project; an environment of it; a segment in that. ``Directory.resource`` makes them.
Resource = tuple[Part, ...]


class Statement(BaseModel):
    """One statement of a policy: it allows or denies actions on resources, or all but those.

    Field names are LaunchDarkly's. ``*`` stands for any text in keys, tags and actions; of several tags, a resource has
    all. A specifier names resources of its own depth alone: ``proj/*:env/*`` says nothing of segments.

    Raises:
        ValidationError: it has not one list of each pair, or a specifier is malformed or of a kind unknown here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: Literal["allow", "deny"]
    actions: tuple[str, ...] = ()
    notActions: tuple[str, ...] = ()  # noqa: N815 - LaunchDarkly's field name
    resources: tuple[str, ...] = ()
    notResources: tuple[str, ...] = ()  # noqa: N815 - LaunchDarkly's field name

    def covers(self, action: str, resource: Resource) -> bool:
        """Whether it says anything, be it allow or deny, of this action on this resource."""
        named = any(_names(each, resource) for each in self._specifiers)
        return self._covers_action(action) and named == bool(self.resources)

    def covers_some_in(self, action: str, environment: Resource) -> bool:
        """Whether it says anything of the action on a segment that the environment has, or could have."""
        if not self._covers_action(action):
            return False
        if self.resources:
            return any(_names_some_in(each, environment) for each in self._specifiers)
        return not any(_names_all_in(each, environment) for each in self._specifiers)

    def covers_all_in(self, action: str, environment: Resource) -> bool:
        """Whether it surely says something of the action on each segment of the environment."""
        if not self._covers_action(action):
            return False
        if self.resources:
            return any(_names_all_in(each, environment) for each in self._specifiers)
        return not any(_names_some_in(each, environment) for each in self._specifiers)

    def is_about(self, resource: Resource) -> bool:
        """Whether it is about this project or environment, or anything in it, whatever the action."""
        if self.resources:
            return any(_names(each[: len(resource)], resource) for each in self._specifiers)
        return not any(_names(each, resource) or _names_all_in(each, resource) for each in self._specifiers)

    @property
    def _specifiers(self) -> list[Resource]:
        return [_read_specifier(each) for each in self.resources or self.notResources]

    def _covers_action(self, action: str) -> bool:
        named = any(matches(pattern, action) for pattern in self.actions or self.notActions)
        return named == bool(self.actions)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if bool(self.actions) == bool(self.notActions):
            raise ValueError("has either actions or notActions")
        if bool(self.resources) == bool(self.notResources):
            raise ValueError("has either resources or notResources")
        actions = self.actions or self.notActions
        if max(len(actions), len(self._specifiers)) > _MOST:
            raise ValueError(f"lists {_MOST} actions, and resources, at the most")
        for action in actions:
            if not _ACTION.fullmatch(action) or len(action) > _LONGEST:
                raise ValueError("has an action that is no name of one; * stands for any")
        return self


def read_statements(raw: Sequence[Mapping[str, Any]]) -> tuple[Statement, ...]:
    """The statements of a policy as LaunchDarkly writes them, in JSON.

    Raises:
        Misconfigured: they cannot be meant, or there are none or too many; one line that says where.
    """
    if not 0 < len(raw) <= _MOST:
        raise Misconfigured(f"an inline role has 1 to {_MOST} statements")
    found = []
    for place, each in enumerate(raw):
        try:
            # An empty list says the same as none: LaunchDarkly's clients send both.
            found.append(
                Statement.model_validate({name: value for name, value in each.items() if value not in ([], None)})
            )
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = "/".join(str(step) for step in (place, *first["loc"]))
            raise Misconfigured(f"statement {where} {first['msg'].removeprefix('Value error, ')}") from None
    return tuple(found)


def may(token: Token, action: str, resource: Resource) -> bool:
    """Whether a token may do something, by its role or, if it has none, by its statements.

    A statement that denies beats all that allow, whatever their order; what none allows is denied.
    """
    if token.role is not None:
        return action == VIEW or token.role == "admin" or (token.role == "writer" and action in SEGMENT_ACTIONS)
    said = {statement.effect for statement in token.inline_role if statement.covers(action, resource)}
    return said == {"allow"}


def may_on_some(token: Token, action: str, environment: Resource) -> bool:
    """Whether there can be a segment in the environment on which the token may do that; what ``may`` says decides.

    False is certain: no payload for that environment need be looked at further.
    """
    if token.role is not None:
        return may(token, action, (*environment, Part("segment", "any")))
    statements = token.inline_role
    return any(each.effect == "allow" and each.covers_some_in(action, environment) for each in statements) and not any(
        each.effect == "deny" and each.covers_all_in(action, environment) for each in statements
    )


def may_view(token: Token, resource: Resource) -> bool:
    """Whether a token may read a project, an environment or a segment, and what is told of them.

    Every role may. An inline role may read the environments that one of its statements that allow is about, with all
    their segments, unless viewing the project, or that environment, is denied.
    """
    if token.role is not None:
        return True
    known = resource[:2]
    denied = any(
        each.effect == "deny" and (each.covers(VIEW, known[:1]) or each.covers(VIEW, known))
        for each in token.inline_role
    )
    return not denied and any(each.effect == "allow" and each.is_about(known) for each in token.inline_role)


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern, in which ``*`` stands for any text, matches the whole of it; in linear time, whatever it is.

    No regular expression: a hundred stars would keep the receiver busy for ever.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


@lru_cache(maxsize=4096)
def _read_specifier(text: str) -> Resource:
    """``proj/KEY;tag,tag:env/KEY:segment/KEY``, of which the latter parts may be missing.

    Raises:
        ValueError: it is none, or of a kind that is unknown here; it is not repeated, for it may be anything.
    """
    parts: list[Part] = []
    for place, part in enumerate(text.split(":")):
        kind, slash, name = part.partition("/")
        if place >= len(_KINDS) or kind != _KINDS[place] or not slash or len(text) > _LONGEST:
            raise ValueError("has a resource that is none of proj/KEY, proj/KEY:env/KEY, proj/KEY:env/KEY:segment/KEY")
        key, semicolon, tags = name.partition(";")
        listed = tags.split(",") if semicolon else []
        if not all(_NAME.fullmatch(each) for each in (key, *listed)):
            raise ValueError("has a resource whose key or tag is not made of letters, digits, dots, dashes and *")
        if listed and kind == "segment":
            # Whoever denies something of tagged segments must not believe that it is denied.
            raise ValueError("has a resource that names segments by tags, which nothing here looks at")
        parts.append(Part(kind, key, frozenset(listed)))
    return tuple(parts)


def _names(specifier: Resource, resource: Resource) -> bool:
    return len(specifier) == len(resource) and all(map(_part_matches, specifier, resource))


def _names_some_in(specifier: Resource, environment: Resource) -> bool:
    return len(specifier) == len(environment) + 1 and _names(specifier[:-1], environment)


def _names_all_in(specifier: Resource, environment: Resource) -> bool:
    return _names_some_in(specifier, environment) and not specifier[-1].key.strip("*") and not specifier[-1].tags


def _part_matches(pattern: Part, part: Part) -> bool:
    return matches(pattern.key, part.key) and all(
        any(matches(wanted, tag) for tag in part.tags) for wanted in pattern.tags
    )
