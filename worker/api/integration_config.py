"""The ``config`` of a store integration: LaunchDarkly's fields and ours, read with their faults named, shown masked.

LaunchDarkly's fields are those of its manifests (``host``, ``port`` …; ``tableName``, ``region`` …). Ours stand beside
them under the names of our own configurations, so that whatever `segsync store add` made can be read and patched here,
and nothing is lost. Pure.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration, StoreConfiguration
from worker.records.secret_box import SEALED
from worker.redis_url import split_address

KINDS: Final = ("redis", "dynamodb")
Form = dict[str, Any]
# Reads one field's value; raises ValueError with what it must be, and never repeats what it is: it may be a secret.
Reader = Callable[[Any], Any]

# The regions of LaunchDarkly's manifest.
REGIONS: Final = (
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ap-south-1", "ap-northeast-1", "ap-northeast-2"),
    *("ap-northeast-3", "ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1", "eu-west-1", "eu-west-2"),
    *("eu-west-3", "eu-north-1", "sa-east-1"),
)
# A mask shows the ends of a secret of so many characters or more: of the shorter ones they would be half of it.
_SHOWN_FROM: Final = 14
_ENDS: Final = 3
_ASTERISKS: Final = "*" * 8
_MASKED: Final = re.compile(r"(?s)(.{3})?\*{8}(.{3})?")
_LONGEST_TEXT: Final = 1024
_LONGEST_HOST: Final = 253
_MOST_NODES: Final = 64
_HIGHEST_PORT: Final = 65535
_DEFAULT_PORTS: Final = {"sentinel": 26379}
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_TABLE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,1024}")
_ROLE: Final = re.compile(r"arn:[a-z0-9-]+:iam::[0-9]{12}:role/[!-~]{1,512}")
_EXTERNAL_ID: Final = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")  # AWS's rule for AssumeRole


class InvalidField(ValueError):
    """Raised when a field of a body is not what it must be.

    The message begins with its JSON pointer and never repeats its value, which may be a secret.
    """

    def __init__(self, pointer: str, problem: str) -> None:
        super().__init__(f"{pointer}: {problem}" if pointer else problem)
        self.pointer = pointer


def read_config(key: str, given: object, known: StoreConfiguration | None = None) -> StoreConfiguration:
    """The configuration that a ``config`` describes; null is as good as absent.

    Args:
        key: the kind of store, one of ``KINDS``.
        given: the object, as it came.
        known: the configuration that it replaces. A field that stands there as it was shown stays as it is: so a mask
            keeps its secret, and what a command has set stays valid, such as a region that LaunchDarkly does not list.

    Raises:
        InvalidField: something in it is missing, unknown or wrong.
    """
    if not isinstance(given, Mapping):
        raise InvalidField("/config", "must be an object")
    readers = _READERS[key]
    shown = show_config(known) if known is not None else {}
    fields: Form = {}
    for name, value in given.items():
        if name not in readers:
            raise InvalidField(f"/config/{_escaped(name)}", f"is no field of {key}; known: {', '.join(readers)}")
        if value is None:
            continue
        if name in shown and type(value) is type(shown[name]) and value == shown[name]:
            fields[name] = getattr(known, name)
            continue
        try:
            fields[name] = readers[name](value)
        except ValueError as error:
            raise InvalidField(f"/config/{name}", str(error)) from None
    return _redis(fields) if key == "redis" else _dynamodb(fields, known)


def show_config(configuration: StoreConfiguration) -> Form:
    """A configuration as it is answered: secrets masked, ``port`` a string, our own fields if they say something."""
    if configuration.kind == "launchdarkly":
        raise ValueError("stores of LaunchDarkly itself are no integrations")
    at_socket = configuration.kind == "redis" and bool(configuration.unixSocket)
    form: Form = {}
    for name in _READERS[configuration.kind]:
        value, default = getattr(configuration, name), type(configuration).model_fields[name].default
        if name not in _ALWAYS[configuration.kind] and value == default:
            continue
        if at_socket and name in {"host", "port"}:
            continue
        form[name] = _shown(name, value)
    return form


def mask(secret: str) -> str:
    """What is shown of a secret: its ends, of a long one, and never how long it is; of one that is sealed, nothing."""
    if len(secret) < _SHOWN_FROM or secret.startswith(SEALED):
        return _ASTERISKS if secret else ""
    return f"{secret[:_ENDS]}{_ASTERISKS}{secret[-_ENDS:]}"


def _redis(fields: Form) -> RedisStoreConfiguration:
    if fields.get("unixSocket"):
        if fields.keys() & {"host", "port"}:
            raise InvalidField("/config/unixSocket", "is given in place of host and port")
    elif "host" not in fields:
        raise InvalidField("/config/host", "is required")
    elif "port" not in fields and fields.get("mode") in _DEFAULT_PORTS:
        fields["port"] = _DEFAULT_PORTS[fields["mode"]]
    try:
        return RedisStoreConfiguration(**fields)
    except ValidationError as error:
        raise _refusal(error) from None


def _dynamodb(fields: Form, known: StoreConfiguration | None) -> DynamoDBStoreConfiguration:
    for name in ("tableName", "region", "roleArn"):
        if name not in fields:
            hint = '; the empty string means the credentials of segsync itself ("")' if name == "roleArn" else ""
            raise InvalidField(f"/config/{name}", f"is required{hint}")
    if not fields.get("externalId") and not _was_set_by_a_command(fields, known):
        # The role's trust policy names the one there is: another one would lock us out.
        former = known.externalId if known is not None and known.kind == "dynamodb" else ""
        fields["externalId"] = former or str(uuid.uuid4())
    try:
        return DynamoDBStoreConfiguration(**fields)
    except ValidationError as error:
        raise _refusal(error) from None


def _was_set_by_a_command(fields: Form, known: StoreConfiguration | None) -> bool:
    """Whether the external id is the empty one that the store has: commands may leave it out."""
    return "externalId" in fields and known is not None and known.kind == "dynamodb" and not known.externalId


def _refusal(error: ValidationError) -> InvalidField:
    """The first thing that a configuration itself finds wrong, without the value, which pydantic would quote."""
    first = error.errors(include_input=False, include_url=False)[0]
    pointer = "".join(f"/{_escaped(str(part))}" for part in ("config", *first["loc"]))
    return InvalidField(pointer, first["msg"].removeprefix("Value error, "))


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr):
        return mask(value.get_secret_value())
    if isinstance(value, tuple):
        return list(value)
    return str(value) if name == "port" else value


def _escaped(name: str) -> str:
    text = name if name.isprintable() and len(name) <= 64 else "…"  # noqa: PLR2004 - enough to find a misspelt word
    return text.replace("~", "~0").replace("/", "~1")


def _string(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"must be a string of {_LONGEST_TEXT} characters at the most")
    return value


def _line(value: Any) -> str:
    text = _string(value)
    if not text.isprintable():
        raise ValueError("must be a string of printable characters")
    return text


def _word(value: Any) -> str:
    text = _line(value)
    if " " in text:
        raise ValueError("must be a string without blanks")
    return text


def _secret(value: Any) -> SecretStr:
    text = _string(value)
    if _MASKED.fullmatch(text):
        raise ValueError(
            "is a mask, and not that of the secret that is kept here; send the secret itself, or leave it as it is"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be a string that UTF-8 can hold") from None
    return SecretStr(text)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - one kind of error for whoever reads fields
    return value


def _number(value: Any, least: int, most: int) -> int:
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise ValueError(f"must be a whole number from {least} to {most}, as a string or a number")
    return number


def _port(value: Any) -> int:
    return _number(value, 1, _HIGHEST_PORT)


def _database(value: Any) -> int:
    return _number(value, 0, 2**31 - 1)


def _host(value: Any) -> str:
    text = _string(value)
    if _HOST_NAME.fullmatch(text) and len(text) <= _LONGEST_HOST:
        return text
    try:
        ip_address(text)
    except ValueError:
        raise ValueError(
            "must be the name or address of a host alone: no URL, no port, no user; of IPv6 without brackets"
        ) from None
    return text


def _nodes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_NODES:
        raise ValueError(f"must be a list of {_MOST_NODES} addresses at the most")
    for address in value:
        _host(split_address(_word(address), 1)[0])
    return tuple(value)


def _one_of(*allowed: str) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return read


def _matching(pattern: re.Pattern[str], must: str, *, or_empty: bool = False) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not (pattern.fullmatch(value) or (or_empty and not value)):
            raise ValueError(must)
        return value

    return read


def _endpoint(value: Any) -> str | None:
    text = _word(value)
    must = "must read http://host[:port] or https://host[:port]"
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError(must) from None
    login = parts.username is not None or parts.password is not None  # which would be shown
    if parts.scheme not in {"http", "https"} or not host or port == 0 or login:
        raise ValueError(must)
    return text


_READERS: Final[Mapping[str, Mapping[str, Reader]]] = {
    "redis": {
        "host": _host,
        "port": _port,
        "username": _line,
        "password": _secret,
        "tlsEnabled": _truth,
        "prefix": _word,
        "database": _database,
        "mode": _one_of("standalone", "cluster", "sentinel"),
        "nodes": _nodes,
        "service": _word,
        "unixSocket": _line,
        "sentinelUsername": _line,
        "sentinelPassword": _secret,
        "tlsCaFile": _line,
        "tlsCertFile": _line,
        "tlsKeyFile": _line,
        "tlsCheckHostname": _truth,
    },
    "dynamodb": {
        "tableName": _matching(_TABLE, "must be the name of a table"),
        "region": _one_of(*REGIONS),
        "roleArn": _matching(
            _ROLE,
            "must read arn:aws:iam::ACCOUNT:role/NAME, with the account's twelve digits, or be the empty string: then "
            "segsync uses its own credentials",
            or_empty=True,
        ),
        "externalId": _matching(
            _EXTERNAL_ID, "must be 2 to 1224 letters, digits and characters of _+=,.@:/-", or_empty=True
        ),
        "prefix": _word,
        "endpoint": _endpoint,
        "writeMode": _one_of("update", "transact"),
    },
}
# What is always shown: LaunchDarkly's own fields, and those of ours that say which of several stores it is.
_ALWAYS: Final[Mapping[str, frozenset[str]]] = {
    "redis": frozenset({"host", "port", "username", "password", "tlsEnabled", "prefix", "database"}),
    "dynamodb": frozenset({"tableName", "region", "roleArn", "externalId", "prefix"}),
}
