"""``segsync token``: who may send payloads, and who may administer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from worker.cli.connection import DataDir, open_wiring
from worker.cli.console import AsJson, console, print_json, printable
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.records.directory import Directory, Token
    from worker.records.rights import Role, Statement

app = typer.Typer(
    no_args_is_help=True,
    help="Access tokens. They are kept as hashes: each is shown once, when it is made.",
)
# What a partner needs of one environment, and no more: to make segments, and to change who is in them.
_OF_A_PARTNER = ("createSegment", "updateIncluded")


@app.command("list")
def show(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List tokens: what they may do, when they were made and last used, and their last four characters."""
    from worker.records.tokens import TokenRecords

    with open_wiring(data_dir) as wiring:
        directory = wiring.directory.fresh(0)
        used = TokenRecords(wiring.client).last_used()
    found = sorted(directory.tokens.values(), key=lambda token: (token.created_ms, token.id))
    if as_json:
        print_json([_described(token, used.get(token.id)) for token in found])
        return
    from rich.table import Table

    from worker.cli.store_facts import moment

    table = Table()
    for column in ("Id", "Name", "May", "Ends in", "Made", "Last used"):
        table.add_column(column, overflow="fold")
    for token in found:
        last = used.get(token.id)
        table.add_row(
            token.id,
            printable(token.name),
            token.role or "; ".join(map(_told, token.inline_role)),
            token.hint and f"…{token.hint}",
            moment(token.created_ms),
            moment(last) if last else "never",
        )
    console().print(table)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    *,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="reader|writer|admin",
            help="reader: look at everything. writer: payloads and segments, too. admin: everything.",
        ),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            metavar="PROJECT/KEY",
            help="In place of a role: a partner's token, for payloads to this environment alone.",
        ),
    ] = None,
    statements: Annotated[
        Path | None,
        typer.Option(help="In place of a role: a JSON file with LaunchDarkly's policy statements.", show_default=False),
    ] = None,
    from_stdin: Annotated[
        bool, typer.Option("--from-stdin", help="Take the token from standard input, in place of a new one.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a token and print it: this once, for it is kept as a hash."""
    from worker.records.rights import Role
    from worker.records.tokens import TokenRecords

    if [role, environment, statements].count(None) != 2:  # noqa: PLR2004 - one of three
        raise Misconfigured("what may it do? name one: --role, --environment or --statements")
    if role is not None and role not in get_args(Role):
        raise Misconfigured(f"--role is one of {', '.join(get_args(Role))}")
    plain = sys.stdin.readline().strip() if from_stdin else None
    if from_stdin and not plain:
        raise Misconfigured("there is no token on standard input")
    with open_wiring(data_dir) as wiring:
        chosen: Role | None = role  # type: ignore[assignment]  # one of them, as was looked at
        inline = _inline_role(wiring.directory.fresh(0), environment, statements)
        made, text = TokenRecords(wiring.client).add(name, role=chosen, inline_role=inline, plain=plain)
    if as_json:
        print_json({**_described(made, None), "token": text})
    else:
        print(text)
        print(f"{name} has id {made.id}. The token is shown this once.", file=sys.stderr)


@app.command("remove")
def remove(
    token: Annotated[str, typer.Argument(metavar="ID|NAME", help="Its id, or its name where one alone has it.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke a token: within five seconds nobody can use it any more."""
    from worker.records.tokens import TokenRecords

    with open_wiring(data_dir) as wiring:
        found = [
            each for each in wiring.directory.fresh(0).tokens.values() if token == each.id or token == each.name != ""
        ]
        if len(found) != 1:
            raise Misconfigured(f"{len(found)} tokens are called {token!r}; `segsync token list` shows their ids")
        TokenRecords(wiring.client).remove(found[0].id)
    print(f"{printable(found[0].name or found[0].id)} is revoked; it ends within five seconds.")


def _inline_role(directory: Directory, environment: str | None, path: Path | None) -> tuple[Statement, ...]:
    import json

    from worker.records.rights import read_statements

    if environment is not None:
        project_key, _, key = environment.partition("/")
        if directory.environment_by_key(project_key, key) is None:
            raise Misconfigured(f"there is no environment {environment!r}; name it as project/key")
        return read_statements(
            [{"effect": "allow", "actions": _OF_A_PARTNER, "resources": (f"proj/{project_key}:env/{key}:segment/*",)}]
        )
    if path is None:
        return ()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Misconfigured(f"{path} is no JSON: {error}") from None
    if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
        raise Misconfigured(f"{path} holds no list of statements")
    return read_statements(raw)


def _told(statement: Statement) -> str:
    actions = ",".join(statement.actions) or f"all but {','.join(statement.notActions)}"
    resources = ",".join(statement.resources) or f"all but {','.join(statement.notResources)}"
    return f"{statement.effect} {actions} on {resources}"


def _described(token: Token, last_used_ms: int | None) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "inlineRole": [each.model_dump(exclude_defaults=True) for each in token.inline_role],
        "hint": token.hint,
        "createdMs": token.created_ms,
        "lastUsedMs": last_used_ms,
    }
