"""Every way in which DynamoDB can fail us, turned once into ``Unavailable`` that says what, where and what to do."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from worker.errors import Fault, Unavailable
from worker.stores.addressing import is_misaddressed

_UNKNOWN_CREDENTIALS: tuple[Fault, str] = ("configuration", "the credentials are unknown; correct them")
_WRONG_SECRET: tuple[Fault, str] = ("configuration", "the secret key or this machine's clock is wrong; correct it")
# Error codes: what to do, and how soon trying again is of use. Only the code is ever repeated: the text of an answer
# may quote keys.
_ADVICE: dict[str, tuple[Fault, str]] = {
    "ResourceNotFoundException": (
        "configuration",
        "there is no such table; create it, or correct table name and region",
    ),
    "AccessDeniedException": (
        "configuration",
        "access is denied; allow GetItem, BatchGetItem, Query and UpdateItem on the table",
    ),
    "AccessDenied": ("configuration", "the role cannot be assumed; see its trust policy and the external id"),
    "UnrecognizedClientException": _UNKNOWN_CREDENTIALS,
    "InvalidClientTokenId": _UNKNOWN_CREDENTIALS,
    "MissingAuthenticationTokenException": _UNKNOWN_CREDENTIALS,
    "ExpiredTokenException": ("configuration", "the credentials have expired; renew them"),
    "ExpiredToken": ("configuration", "the credentials have expired; renew them"),
    "InvalidSignatureException": _WRONG_SECRET,
    "SignatureDoesNotMatch": _WRONG_SECRET,
    "ProvisionedThroughputExceededException": ("transient", "the table is throttled; raise its capacity"),
    "ThrottlingException": ("transient", "the table is throttled; raise its capacity"),
    "RequestLimitExceeded": ("transient", "the account is throttled; raise its DynamoDB quota"),
    "ItemCollectionSizeLimitExceededException": ("item", "a context's item is full; see the limits of DynamoDB"),
}
_WRONG_KEYS: tuple[Fault, str] = ("configuration", "the table's keys must be the strings namespace and key")
_SPOILT_ITEM: tuple[Fault, str] = (
    "item",
    "one item is refused: it is over 400 KB, or its attribute of segments is no string set; see who else writes there",
)
# What DynamoDB says of a key that is not the table's, in its several words.
_OF_KEYS = (
    "does not match the schema",
    "missing the key",
    "type mismatch for key",
    "key schema",
    "required keys",
    "conditions on the keys",
)
_FIRST_SERVER_ERROR = 500


def unavailable(fault: BotoCoreError | ClientError, where: str, *, writes: bool) -> Unavailable:
    """What to raise, ``from fault``, in place of an error of boto3.

    Args:
        fault: what boto3 raised.
        where: table and region.
        writes: whether the request was a write, whose fate can matter.
    """
    lost = writes and _may_have_landed(fault)
    fate = "; what was sent and not answered may still land" if lost else ""
    kind, reason = _judge(fault)
    return Unavailable(f"DynamoDB table {where}: {reason}{fate}", dependency="store", fate_unknown=lost, fault=kind)


def reason_of(fault: BotoCoreError | ClientError) -> str:
    """What happened and what to do, without saying where."""
    return _judge(fault)[1]


def _may_have_landed(fault: BotoCoreError | ClientError) -> bool:
    if isinstance(fault, ClientError):
        # An internal error says nothing about whether the write was done.
        status: int = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= _FIRST_SERVER_ERROR
    # The rest of botocore's own errors comes before the request is sent: no credentials, no connection.
    return isinstance(fault, HTTPClientError | SSLError)


def _judge(fault: BotoCoreError | ClientError) -> tuple[Fault, str]:
    if isinstance(fault, ClientError):
        error = fault.response.get("Error", {})
        code = str(error.get("Code", "an error without a code"))
        if code == "ValidationException":
            kind, advice = _judge_refused_item(str(error.get("Message", "")))
        else:
            kind, advice = _ADVICE.get(code, ("transient", "see the documentation of this AWS error"))
        return kind, f"it answered {code}: {advice}"
    if isinstance(fault, ReadTimeoutError | ConnectTimeoutError):
        return "transient", "no answer in time; see the network between here and AWS"
    if isinstance(fault, HTTPClientError | BotoConnectionError):
        kind = "configuration" if is_misaddressed(fault) else "transient"
        return kind, "cannot be reached; see the endpoint, and the network between here and AWS"
    name = type(fault).__name__
    return (
        "configuration",
        f"no request could be made ({name}); see the AWS credentials and settings of this process",
    )


def _judge_refused_item(message: str) -> tuple[Fault, str]:
    """DynamoDB has one code for a table with other keys, which takes no item, and for one item it will not take."""
    told = message.lower()
    return _WRONG_KEYS if any(words in told for words in _OF_KEYS) else _SPOILT_ITEM
