"""What is to be done so that the records are as a file declares them: one step for each thing that differs.

Nothing is removed, and what the file does not name is left alone. Each step is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import redis
from pydantic import SecretStr

from worker.cli.apply.declaration import Declaration, DeclaredEnvironment, DeclaredProject, DeclaredStore, DeclaredToken
from worker.errors import Conflict, Misconfigured
from worker.model import StoreConfiguration, StoreRecord
from worker.records.directory import Directory, Environment, Token, token_hash
from worker.records.keys import check_key, check_name, check_tags
from worker.records.place import places_of
from worker.records.projects import ProjectRecords
from worker.records.records import Records
from worker.records.stores import StoreRecords
from worker.records.tokens import TokenRecords, check_token


class Changer:
    """What steps change the records with."""

    def __init__(self, client: redis.Redis, records: Records, stores: StoreRecords) -> None:
        self.projects = ProjectRecords(client)
        self.tokens = TokenRecords(client)
        self.stores = stores
        self._records = records

    def environment_id(self, project_key: str, environment_key: str) -> str:
        """Of an environment that a step before has made.

        Raises:
            Misconfigured: somebody has removed it meanwhile.
            Unavailable: the state server is away.
        """
        found = self._records.directory().environment_by_key(project_key, environment_key)
        if found is None:
            raise Misconfigured(f"environment {project_key}/{environment_key} was removed meanwhile; apply once more")
        return found.environment_id


# Does one step; returns what is to be shown of it, once.
Act = Callable[[Changer], str | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the file declares.

    Attributes:
        sign: "+" it is made, "~" it is changed, "=" it is as declared.
        subject: what it is.
        changes: what of it, for a person; no secrets.
    """

    sign: Literal["+", "~", "="]
    subject: str
    changes: tuple[str, ...] = ()
    act: Act = field(default=lambda _: None, repr=False, compare=False)


def plan(directory: Directory, declared: Declaration) -> list[Step]:
    """The steps, in the order in which they must be done.

    Raises:
        Misconfigured: the file wants what cannot be: nothing has been done then. All that can be told from the records
            is told here, before the first step.
    """
    _check_places(directory, declared)
    steps: list[Step] = []
    for key, project in declared.projects.items():
        steps += _project_steps(directory, key, project)
    for name, token in declared.tokens.items():
        steps.append(_token_step(directory, name, token))
    return steps


def _project_steps(directory: Directory, key: str, declared: DeclaredProject) -> Iterator[Step]:
    check_key(f"the key of project {key!r}", key)
    name = declared.name or key
    check_name(f"the name of project {key}", name)
    known = directory.project(key)
    subject = f"project {key}"
    if known is None:
        yield Step("+", subject, act=lambda changer: _done(changer.projects.add_project(key, name)))
    elif declared.name is not None and known.name != declared.name:
        yield Step(
            "~",
            subject,
            (_changed("name", known.name, name),),
            lambda changer: _done(changer.projects.set_project(key, name=name)),
        )
    else:
        yield Step("=", subject)
    for environment_key, environment in declared.environments.items():
        yield from _environment_steps(directory, key, environment_key, environment)


def _environment_steps(
    directory: Directory, project_key: str, key: str, declared: DeclaredEnvironment
) -> Iterator[Step]:
    where = f"{project_key}/{key}"
    check_key(f"the key of environment {where!r}", key)
    name = declared.name or key
    check_name(f"the name of environment {where}", name)
    known = directory.environment_by_key(project_key, key)
    subject = f"environment {where}"
    if known is None:
        _check_id(directory, where, declared.id)
        yield Step(
            "+",
            subject,
            (f"id {declared.id}",) if declared.id else (),
            lambda changer: _done(
                changer.projects.add_environment(project_key, key, name, environment_id=declared.id),
            ),
        )
    else:
        if declared.id not in {None, known.environment_id}:
            raise Conflict(
                f"environment {where} has the id {known.environment_id}; an id cannot be changed: "
                "remove the environment first, or leave the id out"
            )
        if declared.name is not None and known.name != declared.name:
            yield Step(
                "~",
                subject,
                (_changed("name", known.name, name),),
                lambda changer: _done(changer.projects.set_environment(project_key, key, name=name)),
            )
        else:
            yield Step("=", subject)
    for store_name, store in declared.stores.items():
        yield _store_step(directory, (project_key, key), known, store_name, store)


def _check_id(directory: Directory, where: str, environment_id: str | None) -> None:
    if environment_id is None:
        return
    taken = directory.environments.get(environment_id)
    if taken is not None:
        raise Conflict(
            f"environment {where}: the id {environment_id} is {taken.project_key}/{taken.environment_key}'s already"
        )


def _store_step(
    directory: Directory, where: tuple[str, str], environment: Environment | None, name: str, declared: DeclaredStore
) -> Step:
    subject = f"store {name} of {'/'.join(where)}"
    check_name(f"the name of {subject}", name)
    check_tags(declared.tags or ())
    known = _store(directory, environment, name)
    if known is None:
        return Step(
            "+",
            subject,
            (str(declared.configuration), *(("off",) if declared.on is False else ())),
            lambda changer: _done(
                changer.stores.add(
                    changer.environment_id(*where),
                    name,
                    declared.configuration,
                    on=declared.on is not False,
                    tags=declared.tags or (),
                    rebuild_when_wiped=declared.rebuild_when_wiped is not False,
                )
            ),
        )
    if known.configuration.kind != declared.configuration.kind:
        raise Conflict(
            f"{subject} is a {known.configuration.kind} store; another kind is another store: "
            f"give it another name, or `segsync store remove` it first"
        )
    changes = dict(_store_changes(known, declared))
    if not changes:
        return Step("=", subject)
    values: Any = {name: getattr(declared, name) for name in changes}
    told = tuple(text for texts in changes.values() for text in texts)
    return Step("~", subject, told, lambda changer: _done(changer.stores.set(known.store_id, **values)))


def _store(directory: Directory, environment: Environment | None, name: str) -> StoreRecord | None:
    if environment is None:
        return None
    return next((each for each in directory.stores_of(environment.environment_id) if each.name == name), None)


def _store_changes(known: StoreRecord, declared: DeclaredStore) -> Iterator[tuple[str, list[str]]]:
    """What of a store's record differs, and how that is told."""
    if known.locked:
        yield "configuration", ["its secrets, which no key opens, anew"]
    elif known.configuration != declared.configuration:
        yield "configuration", list(_configuration_changes(known.configuration, declared.configuration))
    for name in ("on", "tags", "rebuild_when_wiped"):
        wanted, is_now = getattr(declared, name), getattr(known, name)
        if wanted is not None and wanted != is_now:
            yield name, [_changed(name, is_now, wanted)]


def _configuration_changes(known: StoreConfiguration, declared: StoreConfiguration) -> Iterator[str]:
    before: Mapping[str, Any] = dict(known)
    for name, value in dict(declared).items():
        if value == before[name]:
            continue
        yield f"{name}: another one" if isinstance(value, SecretStr) else _changed(name, before[name], value)


def _token_step(directory: Directory, name: str, declared: DeclaredToken) -> Step:
    subject = f"token {name}"
    check_name(f"the name of {subject}", name)
    plain = declared.value.get_secret_value() if declared.value else None
    if plain is not None:
        check_token(f"the value of {subject}: a", plain)
    named = [token for token in directory.tokens.values() if token.name == name]
    if len(named) > 1 and plain is None:
        raise Conflict(f"{len(named)} tokens are called {name}; which one is meant is not clear: remove the others")
    same = next((token for token in named if plain is None or token.token_hash == token_hash(plain)), None)
    if same is not None:
        if (same.role, same.inline_role) == (declared.role, declared.statements):
            return Step("=", subject)
        return Step(
            "~",
            subject,
            (_changed("may", _told(same), _told(declared)),),
            lambda changer: _done(changer.tokens.set(same.id, role=declared.role, inline_role=declared.statements)),
        )
    if plain is not None and token_hash(plain) in directory.tokens:
        raise Conflict(f"the value of {subject} is another token's already: {directory.tokens[token_hash(plain)].name}")
    former = [token.id for token in named]

    def act(changer: Changer) -> str | None:
        _, made = changer.tokens.add(name, role=declared.role, inline_role=declared.statements, plain=plain)
        # The new one works before the former ones end: whoever holds one of them can change over.
        for token_id in former:
            changer.tokens.remove(token_id)
        return None if plain is not None else made

    if former:
        return Step("~", subject, ("value: another one; the former one ends",), act)
    return Step("+", subject, (_told(declared),), act)


def _told(token: Token | DeclaredToken) -> str:
    if token.role is not None:
        return token.role
    statements = token.inline_role if isinstance(token, Token) else token.statements
    return "; ".join(
        f"{each.effect} {','.join(each.actions) or 'all but ' + ','.join(each.notActions)} on "
        f"{','.join(each.resources) or 'all but ' + ','.join(each.notResources)}"
        for each in statements
    )


def _check_places(directory: Directory, declared: Declaration) -> None:
    """Refuse two stores at one place before anything is done; the records would, but halfway through."""
    taken: dict[object, str] = {}
    named: set[str] = set()
    wanted: list[tuple[str, StoreConfiguration]] = []
    for project_key, project in declared.projects.items():
        for key, environment in project.environments.items():
            known = directory.environment_by_key(project_key, key)
            for name, store in environment.stores.items():
                wanted.append((f"store {name} of {project_key}/{key}", store.configuration))
                record = _store(directory, known, name)
                named |= {record.store_id} if record else set()
    for record in directory.stores:
        if record.store_id not in named:
            taken |= dict.fromkeys(places_of(record.configuration), f"store {record.name or record.store_id}")
    for subject, configuration in wanted:
        for place in places_of(configuration):
            if place in taken:
                raise Conflict(f"{subject} is at the place of {taken[place]} ({configuration}); choose another prefix")
            taken[place] = subject


def _changed(name: str, before: object, after: object) -> str:
    return f"{name}: {_plain(before)} -> {_plain(after)}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "(none)"
    return "(none)" if value in {"", None} else str(value)


def _done(_made: object) -> None:
    """What a change of records returns is in them, and nothing of it must be shown."""
