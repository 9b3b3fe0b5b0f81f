"""Redis URLs, of one server, a cluster, or a primary that Redis Sentinel knows: read into fields, and written again.

    redis://[user:password@]host[:port][/database]              one server; rediss:// with TLS
    redis+cluster://[user:password@]host[:port],host[:port]     any nodes of a cluster; rediss+cluster://
    redis+sentinel://[user:password@]host[:port],host[:port]/service[/database]   sentinels; rediss+sentinel://
    unix://[user:password@]/path/of/socket[?db=database]

User, password and options are percent-encoded. The options are redis-py's, where it has them, so that one URL serves
SDKs, too: ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile`` (paths of PEM files, on every machine that writes),
``ssl_check_hostname``; beside them ``sentinel_username`` and ``sentinel_password``.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

REDIS_URL_FORM: Final = (
    "must read redis://[user:password@]host[:port][/database] (rediss:// for TLS), redis+cluster://host:port,host:port,"
    " redis+sentinel://host:port,host:port/service[/database] or unix:///path?db=database; "
    "special characters of the password percent-encoded"
)
_PORTS: Final = {"standalone": 6379, "cluster": 6379, "sentinel": 26379}
_OPTIONS: Final = {
    "ssl_ca_certs": "tlsCaFile",
    "ssl_certfile": "tlsCertFile",
    "ssl_keyfile": "tlsKeyFile",
    "sentinel_username": "sentinelUsername",
    "sentinel_password": "sentinelPassword",
}
_CHECK_HOSTNAME: Final = "ssl_check_hostname"
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_redis_url(url: str) -> dict[str, Any]:
    """The fields of a ``RedisStoreConfiguration`` that a URL tells, without the prefix.

    Raises:
        ValueError: it is no such URL; the message never repeats it, it may hold a password.
    """
    try:
        return _read(url)
    except (ValueError, KeyError):  # urlsplit's, whose messages quote the URL
        raise ValueError(REDIS_URL_FORM) from None


def write_redis_url(fields: dict[str, Any]) -> str:
    """The URL that ``read_redis_url`` reads; ``fields`` with their secrets as plain text."""
    options = {option: fields[field] for option, field in _OPTIONS.items() if fields[field]}
    if not fields["tlsCheckHostname"]:
        options[_CHECK_HOSTNAME] = "false"
    login = f"{quote(fields['username'], safe='')}:{quote(fields['password'], safe='')}@"
    login = "" if login == ":@" else login
    if fields["unixSocket"]:
        options = {"db": str(fields["database"]), **options}
        return f"unix://{login}{quote(fields['unixSocket'])}?{urlencode(options)}"
    mode = fields["mode"]
    scheme = ("rediss" if fields["tlsEnabled"] else "redis") + ("" if mode == "standalone" else f"+{mode}")
    host = f"[{fields['host']}]" if ":" in fields["host"] else fields["host"]
    hosts = ",".join([f"{host}:{fields['port']}", *fields["nodes"]])
    path = f"/{fields['database']}" if mode != "cluster" else ""
    if mode == "sentinel":
        path = f"/{quote(fields['service'], safe='')}{path}"
    return f"{scheme}://{login}{hosts}{path}" + (f"?{urlencode(options)}" if options else "")


def split_address(address: str, default_port: int) -> tuple[str, int]:
    """Host and port of ``host[:port]``; an IPv6 address stands in brackets.

    Raises:
        ValueError: it is no such address.
    """
    parts = urlsplit(f"//{address}")
    if not parts.hostname or parts.path or parts.username is not None or parts.port == 0:
        raise ValueError("an address reads host[:port]")
    return parts.hostname, parts.port or default_port


def _read(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    fields: dict[str, Any] = {"username": unquote(username), "password": unquote(password)}
    if parts.fragment:
        raise ValueError  # a password with a # that is not encoded
    for option, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else ():
        if option == _CHECK_HOSTNAME:
            fields["tlsCheckHostname"] = _TRUTHS[value.lower()]
        elif option == "db" and parts.scheme == "unix":
            fields["database"] = int(value)
        else:
            fields[_OPTIONS[option]] = value
    if parts.scheme == "unix":
        if hosts or not parts.path.strip("/"):
            raise ValueError
        return {**fields, "unixSocket": unquote(parts.path)}
    scheme, plus, mode = parts.scheme.partition("+")
    fields["tlsEnabled"] = {"redis": False, "rediss": True}[scheme]
    fields["mode"] = mode = mode if plus else "standalone"
    (fields["host"], fields["port"]), *others = [split_address(each, _PORTS[mode]) for each in hosts.split(",")]
    if others and mode == "standalone":
        raise ValueError
    fields["nodes"] = tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in others)
    path = parts.path.removeprefix("/").rstrip("/")
    if mode == "sentinel":
        service, _, path = path.partition("/")
        fields["service"] = unquote(service)
        if not service:
            raise ValueError
    fields["database"] = int(path or 0)
    return fields
