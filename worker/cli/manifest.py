"""``segsync manifest``: tools for who writes or maintains an integration; none of them needs a server."""

from __future__ import annotations

import typer

from worker.cli import manifest_explain, manifest_lint, manifest_test

app = typer.Typer(no_args_is_help=True, help="Check manifests, and see what a payload would do; no server is needed.")
app.command("lint")(manifest_lint.command)
app.command("explain")(manifest_explain.command)
app.command("test")(manifest_test.command)
