"""Every way in which DynamoDB can fail us, turned once into ``Unavailable`` that says what, where and what to do."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    PartialCredentialsError,
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
        "access is denied; allow GetItem, BatchGetItem, Query, UpdateItem and DeleteItem on the table",
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
    # What else can be behind it is seen to, member by member.
    "TransactionCanceledException": ("transient", "the table is throttled; raise its capacity"),
    "RequestLimitExceeded": ("transient", "the account is throttled; raise its DynamoDB quota"),
    "TransactionConflictException": ("transient", "others' transactions hold an item; see who else writes there"),
    "TransactionInProgressException": ("transient", "a request was repeated on its way; see the proxies to AWS"),
}
_WRONG_KEYS: tuple[Fault, str] = ("configuration", "the table's keys must be the strings namespace and key")
_REFUSED: tuple[Fault, str] = ("configuration", "it takes none of our requests; see who else uses the table, and how")
# What operations that segsync does not always need are permitted by.
_PERMITTED_APART = {
    "CreateTable": "CreateTable and DescribeTable",
    "DescribeTable": "CreateTable and DescribeTable",
    # There is no permission of that name.
    "TransactWriteItems": "UpdateItem and DeleteItem in transactions, too, or take the write mode update",
}
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
_THROTTLED = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    # As a transaction tells it of an item.
    "ProvisionedThroughputExceeded",
    "ThrottlingError",
}
_STALE = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}
_NO_SET = "the attribute included or excluded of its item is no string set; see who else writes there"
# What DynamoDB says of one item, and what that means to a person.
_OF_ITEMS = {
    "item size": "its item is full: DynamoDB takes 400 KB for one context; take it out of segments that nobody needs",
    "incorrect data type": _NO_SET,
    "type mismatch for attribute": _NO_SET,
}
_FULL_PARTITION = "a local secondary index limits all contexts together to 10 GB; use a table without one"
_UNEXPLAINED = "DynamoDB refuses its item (ValidationException), and not others; see who else writes there"

Verdict = Literal["again", "alone", "conflict", "throttled"]


class Told(Protocol):
    """What to raise, ``from fault``, in place of an error of boto3."""

    def __call__(self, fault: BotoCoreError | ClientError, *, writes: bool) -> Unavailable:
        """As ``unavailable``, which knows where."""


class Refusal(NamedTuple):
    """Why a table does not take one item.

    Attributes:
        reason: a sentence for a person.
        is_the_items: it is known to be the item's own trouble; else it may be that of every request.
    """

    reason: str
    is_the_items: bool


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
    answered = _code(fault) if isinstance(fault, ClientError) else ""
    return Unavailable(
        f"DynamoDB table {where}: {reason}{fate}",
        dependency="store",
        fate_unknown=lost,
        fault=kind,
        answered=answered,
    )


def reason_of(fault: BotoCoreError | ClientError) -> str:
    """What happened and what to do, without saying where."""
    return _judge(fault)[1]


def is_throttled(fault: ClientError) -> bool:
    """Whether a request was too much for the table or the account, and has certainly done nothing."""
    return _code(fault) in _THROTTLED and not _may_have_landed(fault)


def is_conflict(fault: ClientError) -> bool:
    """Whether a request met another transaction on its item, and has certainly done nothing."""
    return _code(fault) == "TransactionConflictException" and not _may_have_landed(fault)


def refusal_of(fault: ClientError) -> Refusal | None:
    """Why the table does not take an item, when it is not for what would hold for all of them."""
    code, message = _code(fault), _message(fault)
    if _may_have_landed(fault):
        return None
    if code == "ItemCollectionSizeLimitExceededException":
        return Refusal(_FULL_PARTITION, is_the_items=True)
    if code != "ValidationException" or _is_of_keys(message):
        return None
    for words, reason in _OF_ITEMS.items():
        if words in message:
            return Refusal(reason, is_the_items=True)
    return Refusal(_UNEXPLAINED, is_the_items=False)


def verdicts_of(fault: ClientError, changes: int) -> list[Verdict]:
    """What to do with each change of a transaction that was refused; it has done nothing.

    Returns:
        One for each change; none when the fault is not theirs.
    """
    code = _code(fault)
    if _may_have_landed(fault):
        return []
    if code == "TransactionCanceledException":
        reasons = [str(each.get("Code")) for each in fault.response.get("CancellationReasons", ())]
        if len(reasons) == changes:
            return [_verdict(reason) for reason in reasons]
        return ["alone"] * changes
    # A limit of all of them together, such as 4 MB, or an item's own that is not told as such.
    return ["alone"] * changes if is_conflict(fault) or refusal_of(fault) is not None else []


def has_stale_credentials(fault: BotoCoreError | ClientError) -> bool:
    """Whether other credentials, if there are any by now, would help."""
    if isinstance(fault, ClientError):
        return _code(fault) in _STALE
    return isinstance(fault, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError)


def _verdict(reason: str) -> Verdict:
    if reason in _THROTTLED:
        return "throttled"
    if reason == "TransactionConflict":
        return "conflict"
    return "again" if reason == "None" else "alone"


def _code(fault: ClientError) -> str:
    return str(fault.response.get("Error", {}).get("Code", "an error without a code"))


def _message(fault: ClientError) -> str:
    return str(fault.response.get("Error", {}).get("Message", "")).lower()


def _is_of_keys(message: str) -> bool:
    return any(words in message for words in _OF_KEYS)


def _may_have_landed(fault: BotoCoreError | ClientError) -> bool:
    if isinstance(fault, ClientError):
        # An internal error says nothing about whether the write was done; and a transaction of ours that is in progress
        # is one that we know nothing else of: each has a token of its own, and is sent once.
        status: int = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= _FIRST_SERVER_ERROR or _code(fault) == "TransactionInProgressException"
    # The rest of botocore's own errors comes before the request is sent: no credentials, no connection.
    return isinstance(fault, HTTPClientError | SSLError)


def _judge(fault: BotoCoreError | ClientError) -> tuple[Fault, str]:
    if isinstance(fault, ClientError):
        code = _code(fault)
        if code == "ValidationException":
            kind, advice = _WRONG_KEYS if _is_of_keys(_message(fault)) else _REFUSED
        elif code == "AccessDeniedException" and fault.operation_name in _PERMITTED_APART:
            kind, advice = "configuration", f"access is denied; allow {_PERMITTED_APART[fault.operation_name]}"
        else:
            kind, advice = _ADVICE.get(code, ("transient", "see the documentation of this AWS error"))
        return kind, f"it answered {code}: {advice}"
    if isinstance(fault, ReadTimeoutError | ConnectTimeoutError):
        return "transient", "no answer in time; see the network between here and AWS"
    if isinstance(fault, HTTPClientError | BotoConnectionError):
        kind = "configuration" if is_misaddressed(fault) else "transient"
        return kind, "cannot be reached; see region and endpoint, and the network between here and AWS"
    if isinstance(fault, InvalidRegionError):
        return "configuration", "its region is not the name of one; correct it"
    name = type(fault).__name__
    return (
        "configuration",
        f"no request could be made ({name}); see the AWS credentials and settings of this process",
    )
