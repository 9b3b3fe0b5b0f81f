"""``segsync up``: the whole service, with its own Valkey, in one foreground command."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli.connection import DEFAULT_DATA_DIR

# Processes of a `segsync up` that was killed a moment ago may still hold the port.
_PORT_PATIENCE_SECONDS = 1.0


def command(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one. Default: 8080.")
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = DEFAULT_DATA_DIR,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
) -> None:
    """Start the whole service here: an embedded Valkey, the receiver, the worker and the scheduler."""
    from worker.cli.data_directory import DataDirectory, check_not_held
    from worker.cli.embedded import find_binary
    from worker.cli.listener import listen
    from worker.cli.signals import Signals, Stopped
    from worker.cli.stack import Stack
    from worker.settings import load_settings

    settings = load_settings()
    binary = find_binary()
    check_not_held(data_dir)  # says more than "port in use", and both are true
    with (
        contextlib.closing(
            listen(host or settings.host, settings.port if port is None else port, patience=_PORT_PATIENCE_SECONDS)
        ) as listener,
        DataDirectory.lock(data_dir) as directory,
        Signals() as signals,
    ):
        stack = Stack(
            settings=settings, directory=directory, listener=listener, binary=binary, signals=signals, say=_say
        )
        try:
            facts = stack.start()
            directory.write_connection(facts)
            _welcome(facts, data_dir, partial(print, flush=True))
            stack.watch()
        except Stopped:
            _say("stopping")
        finally:
            directory.remove_connection()
            stack.stop()
    _say("stopped")


def _say(line: str) -> None:
    # The terminal may be the very thing that is gone, and then stopping goes on without words.
    with contextlib.suppress(OSError):
        print(f"segsync: {line}", flush=True)


def _our_name() -> str:
    """How a person calls this command from here: `make up` runs it from a place that is not on the PATH."""
    ours = Path(sys.argv[0])
    if shutil.which("segsync") or ours.name != "segsync":
        return "segsync"
    return shlex.quote(str(ours))


def _welcome(facts: dict[str, Any], data_dir: Path, show: Callable[[str], None]) -> None:
    """Say where it listens, how to send a cohort and how to see it."""
    body = {
        "environmentId": facts["environment_id"],
        "cohortId": "early-adopters",
        "cohortName": "Early adopters",
        "contextKind": "user",
        "listData": {"add": [{"id": "ann"}, {"id": "bob"}], "remove": []},
    }
    segsync = _our_name()
    where = "" if data_dir == DEFAULT_DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"
    with contextlib.suppress(OSError):
        show(
            f"""\
segsync listens on {facts["url"]}

Sync a small cohort:

  curl -i {facts["url"]}/api/v2/segment-targets/rudderstack \\
    -H 'Authorization: {facts["writer_token"] or "YOUR-TOKEN"}' \\
    -H 'Content-Type: application/json' \\
    -d '{json.dumps(body)}'

See the result, from another terminal:

  {segsync} member ann{where}
  {segsync} segments{where}

Connection facts: {data_dir / "connection.json"}. Logs: {data_dir / "logs"}/*.log. Ctrl-C stops everything."""
        )
