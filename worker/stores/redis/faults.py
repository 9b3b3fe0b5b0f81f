"""Every way in which Redis can fail us, turned once into ``Unavailable`` that says what, where and what to do."""

from __future__ import annotations

import hiredis
import redis

from worker.errors import Fault, Unavailable
from worker.stores.addressing import causes_of, is_misaddressed
from worker.stores.redis.tls import UnusableFile, tls_reason

# What a driver, a socket or a reply parser raises. Anything else is our own bug and is left as it is.
DRIVER_ERRORS = (redis.RedisError, redis.exceptions.ChildDeadlockedError, hiredis.HiredisError, OSError)

_IN_A_CLUSTER = "it is a node of a cluster: the store's URL is redis+cluster://, its mode is cluster"
# Error replies by their code: what to do, and how soon trying again is of use. Only the code is ever repeated: the text
# of a reply may quote keys or arguments.
_ADVICE: dict[str, tuple[Fault, str]] = {
    "OOM": ("transient", "it is out of memory; raise its maxmemory or free space"),
    "LOADING": ("transient", "it is loading its data; it will be ready when that is done"),
    "BUSY": ("transient", "a script blocks it; wait for the script or stop it with SCRIPT KILL"),
    "MISCONF": ("transient", "it cannot save to disk and so refuses writes; see the server's log"),
    "NOREPLICAS": ("transient", "it has too few replicas to take writes; see min-replicas-to-write"),
    "READONLY": ("configuration", "it is a read-only replica; point the store at the primary"),
    "MASTERDOWN": ("configuration", "it is a replica without its primary; point the store at the primary"),
    "NOAUTH": ("configuration", "it wants a password; set the store's username and password"),
    "WRONGPASS": ("configuration", "it refuses the username or password; correct the store's credentials"),
    "DENIED": ("configuration", "it takes local clients only; turn its protected mode off, or set a password"),
    "NOPERM": (
        "configuration",
        (
            "its user lacks a permission; allow SADD, SREM, SMEMBERS, SISMEMBER, SCAN, GET, SET, EVAL on the prefix, "
            "and in a cluster DEL, ASKING, CLUSTER SLOTS and CLUSTER NODES"
        ),
    ),
    "MOVED": ("configuration", _IN_A_CLUSTER),
    "ASK": ("configuration", _IN_A_CLUSTER),
    "TRYAGAIN": ("configuration", _IN_A_CLUSTER),
    "CROSSSLOT": ("configuration", _IN_A_CLUSTER),
    "CLUSTERDOWN": ("configuration", f"its cluster is down; and {_IN_A_CLUSTER}"),
    "ERR": (
        "configuration",
        "it does not know a command or its database number; see the database setting and the server's version",
    ),
    "WRONGTYPE": (
        "item",
        "a key of the layout holds another type; something else uses this prefix, choose another one",
    ),
}
# The same of a node among others: what one refuses in a failover, another takes when it is over.
_ADVICE_AMONG_NODES: dict[str, tuple[Fault, str]] = {
    "READONLY": ("transient", "it has just become a replica; the primary will be found when it is known"),
    "MASTERDOWN": ("transient", "it is a replica without its primary; the next primary will be found when it is known"),
    "MOVED": ("transient", "its cluster is moving keys; wait for that"),
    "ASK": ("transient", "its cluster is moving keys; wait for that"),
    "TRYAGAIN": ("transient", "its cluster is moving keys; wait for that"),
    "CLUSTERDOWN": (
        "transient",
        "its cluster does not serve all keys; see CLUSTER INFO, and whether primaries are down",
    ),
}
# redis-py strips the code off some errors; an AuthenticationError is all that is left of "ERR invalid password".
_CODE_OF_CLASS = {
    redis.exceptions.AuthenticationError: "WRONGPASS",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.NoPermissionError: "NOPERM",
}
# A script that may not run a command is answered ERR by Valkey, with these words.
_IN_A_SCRIPT = "ACL failure in script"


def unavailable(
    fault: BaseException,
    where: str,
    *,
    fate_unknown: bool = False,
    of_a_member: bool = False,
    among_nodes: bool = False,
    asked: str = "Redis store",
) -> Unavailable:
    """What to raise, ``from fault``, in place of an error of the driver.

    Args:
        fault: what the driver raised, or an error reply.
        where: ``host:port`` of the store.
        fate_unknown: something sent was not answered.
        of_a_member: members' keys were asked for: only one of theirs may be spoilt alone. Of the other keys there is
            one each, and without it the whole store is of no use.
        among_nodes: of a cluster, or of those that Redis Sentinels know: another may take what this one refuses.
        asked: what it is that was asked.
    """
    kind, reason = _judge(fault, among_nodes=among_nodes)
    if kind == "item" and not of_a_member:
        kind = "configuration"
    fate = "; what was sent and not answered may still land" if fate_unknown else ""
    return Unavailable(
        f"{asked} {where}: {reason}{fate}",
        dependency="store",
        fate_unknown=fate_unknown,
        fault=kind,
        answered=code_of(fault) or "",
    )


def reason_of(fault: BaseException) -> str:
    """What happened and what to do, without saying where."""
    return _judge(fault)[1]


def is_refusal(fault: BaseException) -> bool:
    """Whether this is an error reply: whatever it refuses has been answered."""
    return has_answered(fault) or isinstance(fault, redis.exceptions.ResponseError | hiredis.ReplyError)


def has_answered(fault: BaseException) -> bool:
    """Whether an error that redis-py counts among those of a connection is the server's own word."""
    return isinstance(fault, redis.exceptions.AuthenticationError | redis.exceptions.BusyLoadingError)


def is_spoilt(refusal: BaseException) -> bool:
    """Whether an error reply is about the one key that was asked for, which holds another type."""
    return code_of(refusal) == "WRONGTYPE"


def _judge(fault: BaseException, *, among_nodes: bool = False) -> tuple[Fault, str]:
    if isinstance(fault, UnusableFile):
        return "configuration", str(fault)
    code = code_of(fault)
    if code is not None:
        advised = _ADVICE | _ADVICE_AMONG_NODES if among_nodes else _ADVICE
        kind, advice = advised.get(code, ("transient", "see the documentation of this Redis error"))
        return kind, f"it answered {code}: {advice}"
    if isinstance(fault, redis.exceptions.TimeoutError | TimeoutError):
        return "transient", "no answer in time; see whether it hangs, what lies between, and whether TLS is right"
    if isinstance(fault, redis.exceptions.MaxConnectionsError):
        return "transient", "this process uses all its connections; run fewer drains in one process"
    return _judge_connection(fault)


def _judge_connection(fault: BaseException) -> tuple[Fault, str]:
    """What keeps a connection from being had, or has ended it."""
    if any(isinstance(cause, PermissionError) for cause in causes_of(fault)):
        return "configuration", "its socket may not be opened; see unixSocket, and who may use it"
    if (reason := tls_reason(fault)) is not None:
        return "configuration", reason
    kind: Fault = "configuration" if is_misaddressed(fault) else "transient"
    return kind, f"cannot be reached ({fault}); see whether it runs, and whether host, port and TLS are right"


def code_of(fault: BaseException) -> str | None:
    """The code of an error reply, or None when no reply is behind it."""
    if isinstance(fault, hiredis.ReplyError):
        return str(fault).partition(" ")[0]
    if isinstance(fault, redis.exceptions.ResponseError) and _IN_A_SCRIPT in str(fault):
        return "NOPERM"
    status: str | None = getattr(fault, "status_code", None)
    if status not in (None, "ERR"):
        return status
    for kind, code in _CODE_OF_CLASS.items():
        if isinstance(fault, kind):
            return code
    if isinstance(fault, redis.exceptions.ResponseError):
        return status or str(fault).partition(" ")[0]
    return None
