"""The command line as Typer sees it. The modules of commands import nothing heavy at their top: --help is quick."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from worker.cli import (
    alias,
    batches,
    brake,
    demo,
    env,
    export_flags,
    init,
    keys,
    manifest,
    member,
    policy,
    rebuild,
    rejected_members,
    roles,
    segments,
    serve,
    store,
    token,
    up,
    verify,
)
from worker.cli.apply import command as apply
from worker.cli.bench import command as bench

app = typer.Typer(
    name="segsync",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback is for a bug report: plain, whole, without the values of variables
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"segsync {version('segsync')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keep LaunchDarkly synced segments up to date: partners' cohort webhooks in, Redis or DynamoDB membership out."""


app.command("up")(up.command)
app.command("serve")(serve.command)
app.command("worker")(roles.worker)
app.command("scheduler")(roles.scheduler)
app.command("init")(init.command)
app.command("member")(member.command)
app.command("demo")(demo.command)
app.command("rejected-members")(rejected_members.command)
app.command("verify")(verify.command)
app.command("rebuild")(rebuild.command)
app.command("bench")(bench.command)
app.command("apply")(apply.command)
app.command("export-flags")(export_flags.command)
app.add_typer(batches.app, name="batches")
app.add_typer(brake.app, name="brake")
app.add_typer(segments.app, name="segments")
app.add_typer(env.app, name="env")
app.add_typer(token.app, name="token")
app.add_typer(alias.app, name="alias")
app.add_typer(policy.app, name="policy")
app.add_typer(store.app, name="store")
app.add_typer(keys.app, name="keys")
app.add_typer(manifest.app, name="manifest")
