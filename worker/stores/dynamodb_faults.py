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

from worker.errors import Unavailable

# Error codes. Only the code is ever repeated: the text of an answer may quote keys.
_ADVICE = {
    "ResourceNotFoundException": "there is no such table; create it, or correct table name and region",
    "AccessDeniedException": "access is denied; allow GetItem and UpdateItem on the table",
    "AccessDenied": "the role cannot be assumed; see its trust policy and the external id",
    "UnrecognizedClientException": "the credentials are unknown; correct them",
    "InvalidClientTokenId": "the credentials are unknown; correct them",
    "ExpiredTokenException": "the credentials have expired; renew them",
    "InvalidSignatureException": "the secret key or this machine's clock is wrong; correct it",
    "ValidationException": "the table refuses the item; its keys must be the strings namespace and key",
    "ProvisionedThroughputExceededException": "the table is throttled; raise its write capacity",
    "ThrottlingException": "the table is throttled; raise its write capacity",
    "RequestLimitExceeded": "the account is throttled; raise its DynamoDB quota",
}
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
    return Unavailable(f"DynamoDB table {where}: {_reason(fault)}{fate}", dependency="store", fate_unknown=lost)


def _may_have_landed(fault: BotoCoreError | ClientError) -> bool:
    if isinstance(fault, ClientError):
        # An internal error says nothing about whether the write was done.
        status: int = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= _FIRST_SERVER_ERROR
    # The rest of botocore's own errors comes before the request is sent: no credentials, no connection.
    return isinstance(fault, HTTPClientError | SSLError)


def _reason(fault: BotoCoreError | ClientError) -> str:
    if isinstance(fault, ClientError):
        code = str(fault.response.get("Error", {}).get("Code", "an error without a code"))
        return f"it answered {code}: {_ADVICE.get(code, 'see the documentation of this AWS error')}"
    if isinstance(fault, ReadTimeoutError | ConnectTimeoutError):
        return "no answer in time; see the network between here and AWS"
    if isinstance(fault, HTTPClientError | BotoConnectionError):
        return "cannot be reached; see the endpoint, and the network between here and AWS"
    return f"no request could be made ({type(fault).__name__}); see the AWS credentials and settings of this process"
