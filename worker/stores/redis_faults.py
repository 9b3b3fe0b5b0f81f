"""Every way in which Redis can fail us, turned once into ``Unavailable`` that says what, where and what to do."""

from __future__ import annotations

import hiredis
import redis

from worker.errors import Unavailable

# What a driver, a socket or a reply parser raises. Anything else is our own bug and is left as it is.
DRIVER_ERRORS = (redis.RedisError, redis.exceptions.ChildDeadlockedError, hiredis.HiredisError, OSError)

# Error replies by their code. Only the code is ever repeated: the text of a reply may quote keys or arguments.
_ADVICE = {
    "OOM": "it is out of memory; raise its maxmemory or free space",
    "READONLY": "it is a read-only replica; point the store at the primary",
    "NOAUTH": "it wants a password; set the store's username and password",
    "WRONGPASS": "it refuses the username or password; correct the store's credentials",
    "NOPERM": "its user lacks a permission; allow SADD, SREM, SMEMBERS, GET and SET on the store's prefix",
    "LOADING": "it is loading its data; it will be ready when that is done",
    "BUSY": "a script blocks it; wait for the script or stop it with SCRIPT KILL",
    "MISCONF": "it cannot save to disk and so refuses writes; see the server's log",
    "MASTERDOWN": "it is a replica without its primary; point the store at the primary",
    "WRONGTYPE": "a key of the layout holds another type; something else uses this prefix, choose another one",
    "MOVED": "it is a node of a cluster; the store must be a single primary",
    "CLUSTERDOWN": "its cluster is down; the store must be a single primary",
    "ERR": "it does not know a command or its database number; see the database setting and the server's version",
    "NOREPLICAS": "it has too few replicas to take writes; see min-replicas-to-write",
}
# redis-py strips the code off some errors; an AuthenticationError is all that is left of "ERR invalid password".
_CODE_OF_CLASS = {
    redis.exceptions.AuthenticationError: "WRONGPASS",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.NoPermissionError: "NOPERM",
}


def unavailable(fault: BaseException, where: str, *, fate_unknown: bool = False) -> Unavailable:
    """What to raise, ``from fault``, in place of an error of the driver.

    Args:
        fault: what the driver raised, or an error reply.
        where: ``host:port`` of the store.
        fate_unknown: something sent was not answered.
    """
    reason = _reason(fault)
    fate = "; what was sent and not answered may still land" if fate_unknown else ""
    return Unavailable(f"Redis store {where}: {reason}{fate}", dependency="store", fate_unknown=fate_unknown)


def _reason(fault: BaseException) -> str:
    code = _code(fault)
    if code is not None:
        return f"it answered {code}: {_ADVICE.get(code, 'see the documentation of this Redis error')}"
    if isinstance(fault, redis.exceptions.TimeoutError | TimeoutError):
        return "no answer in time; see whether it hangs, is overloaded, or a firewall swallows the connection"
    if isinstance(fault, redis.exceptions.MaxConnectionsError):
        return "this process uses all its connections; run fewer drains in one process"
    return f"cannot be reached ({fault}); see whether it runs, and whether host, port and TLS are right"


def _code(fault: BaseException) -> str | None:
    """The code of an error reply, or None when no reply is behind it."""
    if isinstance(fault, hiredis.ReplyError):
        return str(fault).partition(" ")[0]
    status: str | None = getattr(fault, "status_code", None)
    if status not in (None, "ERR"):
        return status
    for kind, code in _CODE_OF_CLASS.items():
        if isinstance(fault, kind):
            return code
    if isinstance(fault, redis.exceptions.ResponseError):
        return status or str(fault).partition(" ")[0]
    return None
