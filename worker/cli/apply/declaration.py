"""What a file declares: projects, environments, stores and tokens by name; secrets by where they are. Reads files only.

[projects.default.environments.production]
name = "Production"
id = "65a1f0c0ffee65a1f0c0ffee"

[projects.default.environments.production.stores.flags]
kind = "redis"
host = "flags-redis.internal"
password = { env = "FLAGS_REDIS_PASSWORD" }

[tokens.amplitude]
role = "writer"
value = { file = "/run/secrets/amplitude-token" }
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError, model_validator

from worker.errors import Misconfigured
from worker.model import RedisStoreConfiguration, StoreConfiguration
from worker.records.rights import Role, Statement

# What may not stand in the file itself, for such files are kept where source code is.
_SECRETS: Final = frozenset({"password", "sentinelPassword", "accessToken", "url", "value"})
_REFERENCES: Final = frozenset({"env", "file"})
_LARGEST_SECRET: Final = 64 * 1024

_configurations: TypeAdapter[StoreConfiguration] = TypeAdapter(StoreConfiguration)


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DeclaredStore(_Declared):
    """A store of an environment.

    Attributes:
        on: None leaves it as it is; a new store is on.
    """

    configuration: StoreConfiguration
    on: bool | None = None
    tags: tuple[str, ...] | None = None
    rebuild_when_wiped: bool | None = None


class DeclaredEnvironment(_Declared):
    """An environment of a project.

    Attributes:
        id: the client-side ID, which payloads carry; None: any.
        name: None: its key, or the name that it has.
        stores: by name.
    """

    id: str | None = None
    name: str | None = None
    stores: Mapping[str, DeclaredStore] = Field(default_factory=dict)


class DeclaredProject(_Declared):
    """A project; ``environments`` by key."""

    name: str | None = None
    environments: Mapping[str, DeclaredEnvironment] = Field(default_factory=dict)


class DeclaredToken(_Declared):
    """An access token.

    Attributes:
        role: or ``statements``, which say what it may do and where.
        value: None: one is made when the token is, and shown once.
    """

    role: Role | None = None
    statements: tuple[Statement, ...] = ()
    value: SecretStr | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> DeclaredToken:
        if (self.role is None) != bool(self.statements):
            raise ValueError("a token has either a role or statements")
        return self


class Declaration(_Declared):
    """All that a file declares; what it does not name is left alone."""

    projects: Mapping[str, DeclaredProject] = Field(default_factory=dict)
    tokens: Mapping[str, DeclaredToken] = Field(default_factory=dict)


def read_declaration(path: Path) -> Declaration:
    """The declaration in a TOML file, with its secrets.

    Raises:
        Misconfigured: the file cannot be read, is no TOML, or something in it is wrong: all faults, each with its
            place. No value is repeated.
    """
    try:
        text = path.read_bytes().decode()
        document = tomllib.loads(text)
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # UnicodeDecodeError, TOMLDecodeError
        raise Misconfigured(f"{path} is no TOML: {error}") from None
    reading = _Reading(path.parent)
    resolved = reading.document(document)
    if reading.faults:
        raise Misconfigured(f"{path}: {'; '.join(reading.faults)}")
    try:
        return Declaration.model_validate(resolved)
    except ValidationError as error:
        told = (
            f"{_place(each['loc'])}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False, include_input=False)
        )
        raise Misconfigured(f"{path}: {'; '.join(dict.fromkeys(told))}") from None


class _Reading:
    """Puts secrets in the place of references, and stores' fields where they belong; collects what is wrong."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.faults: list[str] = []

    def document(self, document: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._resolved(document, ())
        for project_key, project in _tables(found, "projects"):
            for environment_key, environment in _tables(project, "environments"):
                for name, store in _tables(environment, "stores"):
                    where = ("projects", project_key, "environments", environment_key, "stores", name)
                    environment["stores"][name] = self._store(store, where)
        return found

    def _store(self, fields: dict[str, Any], where: tuple[str, ...]) -> dict[str, Any]:
        """Fields of the configuration and of the record stand side by side in the file."""
        own: dict[str, Any] = {name: fields[name] for name in ("on", "tags", "rebuild_when_wiped") if name in fields}
        rest = {name: value for name, value in fields.items() if name not in own}
        url = rest.pop("url", None)
        try:
            if url is None:
                configuration = _configurations.validate_python({"kind": "redis", **rest})
            elif set(rest) <= {"kind", "prefix"} and rest.get("kind", "redis") == "redis":
                configuration = RedisStoreConfiguration.from_url(url.get_secret_value(), rest.get("prefix", ""))
            else:
                raise ValueError("a url says all but the prefix; leave the other fields out")  # noqa: TRY301
        except ValidationError as error:
            self.faults += (
                f"{_place((*where, *each['loc'][1:]))}: {each['msg'].removeprefix('Value error, ')}"
                for each in error.errors(include_url=False, include_input=False)
            )
        except ValueError as error:
            self.faults.append(f"{_place(where)}: {error}")
        else:
            own["configuration"] = configuration
        return own

    def _resolved(self, value: Any, where: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            if value and set(value) <= _REFERENCES and where:
                return self._secret(value, where)
            return {name: self._resolved(each, (*where, name)) for name, each in value.items()}
        if where and where[-1] in _SECRETS and isinstance(value, str) and value:
            self.faults.append(
                f'{_place(where)}: a secret does not belong in this file; name where it is: {{ env = "VARIABLE" }} '
                'or { file = "path" }'
            )
        return value

    def _secret(self, reference: dict[str, Any], where: tuple[str, ...]) -> Any:
        try:
            found = self._referred(reference)
        except ValueError as error:
            self.faults.append(f"{_place(where)}: {error}")
            return SecretStr("")
        return SecretStr(found) if where[-1] in _SECRETS else found

    def _referred(self, reference: dict[str, Any]) -> str:
        if len(reference) != 1 or not all(isinstance(each, str) and each for each in reference.values()):
            raise ValueError("a reference names one variable (env) or one file")
        if "env" in reference:
            variable: str = reference["env"]  # which variables there are is said by the file, so these are no settings
            found = os.environ.get(variable)
            if not found:
                raise ValueError(f"the variable {variable} is not set, or empty")
            return found
        path: Path = self._directory / reference["file"]
        try:
            with path.open("rb") as file:
                text = file.read(_LARGEST_SECRET + 1).decode().rstrip("\r\n")
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path} is no text") from None
        if not text or len(text) > _LARGEST_SECRET:
            raise ValueError(f"{path} is empty, or far too large for a secret")
        return text


def _tables(within: Any, name: str) -> list[tuple[str, dict[str, Any]]]:
    """The tables under a name; what is none is left to the declaration's own check."""
    found = within.get(name) if isinstance(within, dict) else None
    if not isinstance(found, dict):
        return []
    return [(key, table) for key, table in found.items() if isinstance(table, dict)]


def _place(where: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in where) or "the file"
