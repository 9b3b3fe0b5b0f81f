"""How commands find the service they are about: a data directory's connection.json, else SEGSYNC_* variables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.data_directory import CONNECTION_FILE, is_held, read_secret_keys
from worker.errors import Misconfigured

if TYPE_CHECKING:  # every command imports this module, and `segsync --help` must not wait for pydantic
    from pydantic import SecretStr

    from worker.records.directory import Directory, Environment
    from worker.settings import Settings
    from worker.wiring import Wiring

DEFAULT_DATA_DIR = Path(".segsync")

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Data directory of the `segsync up` to ask. Default: .segsync, else SEGSYNC_* variables."
    ),
]

EnvironmentName = Annotated[
    str | None,
    typer.Option("--environment", help="Its id, its key, or project/key. Default: the only one there is."),
]


@contextmanager
def open_wiring(data_dir: Path | None) -> Iterator[Wiring]:
    """Everything needed to look at the service, or to change its records; closed at the end.

    Until then, log lines go to stderr: what a command prints may be read by a program.

    Raises:
        Misconfigured: there is no service to be found.
    """
    import structlog

    from worker.wiring import Wiring

    wiring = Wiring(find_service(data_dir).settings)
    configured = structlog.get_config()
    structlog.configure(**{**configured, "logger_factory": lambda *_: structlog.PrintLogger(sys.stderr)})
    try:
        yield wiring
    finally:
        structlog.configure(**configured)
        wiring.close()


@dataclass(frozen=True, slots=True)
class Service:
    """A service and what is known of it. What only `segsync up` knows is None for one found by SEGSYNC_*.

    Attributes:
        settings: settings whose state server is the service's.
        url: where the receiver listens.
        project_key: the project's key.
        environment_key: the environment's key.
        environment_id: the environment's client-side ID, the one in payloads.
        writer_token: a token that may send payloads.
        admin_token: a token that may do everything.
        store: ``{"kind", "url", "prefix"}`` of the store that SDKs read; None, too, when it was removed.
    """

    settings: Settings
    url: str | None = None
    project_key: str | None = None
    environment_key: str | None = None
    environment_id: str | None = None
    writer_token: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)
    store: dict[str, str] | None = field(default=None, repr=False)


def find_service(data_dir: Path | None) -> Service:
    """Find the service: in this data directory when one is named, else in `.segsync`, else by SEGSYNC_* variables.

    The keys of secrets are those of the variable, and then those of the data directory.

    Raises:
        Misconfigured: there is none; the message names both ways.
    """
    from worker.settings import load_settings

    settings = load_settings()
    facts = _read(data_dir or DEFAULT_DATA_DIR)
    if facts is not None:
        try:
            state_url = type(settings.state_url)(facts.pop("state_url"))
            keys = all_secret_keys(settings, read_secret_keys(data_dir or DEFAULT_DATA_DIR))
            return Service(settings=settings.model_copy(update={"state_url": state_url, "secret_keys": keys}), **facts)
        except (TypeError, KeyError, AttributeError):
            raise _damaged((data_dir or DEFAULT_DATA_DIR) / CONNECTION_FILE) from None
    if data_dir is None and "state_url" in settings.model_fields_set:
        return Service(settings=settings)
    raise Misconfigured(
        f"no running `segsync up` in {data_dir or DEFAULT_DATA_DIR}: "
        "start it, name its directory with --data-dir, or set SEGSYNC_STATE_URL"
    )


def all_secret_keys(settings: Settings, own: str | None) -> SecretStr:
    """The keys that were given, and behind them those of a data directory: the first one given encrypts."""
    given = settings.secrets()
    return type(settings.secret_keys)(",".join([*given, *((own or "").split(","))]).strip(","))


def _read(data_dir: Path) -> dict[str, Any] | None:
    path = data_dir / CONNECTION_FILE
    if not is_held(data_dir):  # what a killed `segsync up` left behind is no service
        return None
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise _damaged(path) from None
    return facts


def _damaged(path: Path) -> Misconfigured:
    return Misconfigured(f"{path} is damaged; start `segsync up` again")


def environments(wiring: Wiring) -> list[Environment]:
    """The installation's environments.

    Raises:
        Misconfigured: there is none yet.
        Unavailable: the state server is away.
    """
    found = list(wiring.directory.fresh().environments.values())
    if not found:
        raise Misconfigured("there is no environment in this state server yet: run `segsync init`")
    return found


def environment_name(directory: Directory, environment_id: str) -> str:
    """How people call an environment; its id when it is gone."""
    found = directory.environments.get(environment_id)
    return f"{found.project_key}/{found.environment_key}" if found else environment_id


def find_environment(wiring: Wiring, wanted: str | None) -> Environment:
    """The environment with that id, key or ``project/key``; the only one there is, when none is named.

    Raises:
        Misconfigured: there is none such, or several.
        Unavailable: the state server is away.
    """
    known = environments(wiring)
    found = [
        environment
        for environment in known
        if wanted
        in {
            None,
            environment.environment_id,
            environment.environment_key,
            f"{environment.project_key}/{environment.environment_key}",
        }
    ]
    if len(found) != 1:
        names = ", ".join(sorted(f"{environment.project_key}/{environment.environment_key}" for environment in known))
        problem = "which environment?" if wanted is None else f"not one environment is meant by {wanted!r}:"
        raise Misconfigured(f"{problem} there are {names}; name one with --environment")
    return found[0]
