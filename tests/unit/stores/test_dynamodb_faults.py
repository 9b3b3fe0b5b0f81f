from __future__ import annotations

import ssl

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ReadTimeoutError,
    SSLError,
)

from worker.stores.dynamodb_faults import unavailable

WHERE = "table in eu-west-1"
ENDPOINT = {"endpoint_url": "https://dynamodb.example"}


def answered(code: str, status: int = 400, message: str = "quotes secret-key") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "UpdateItem",
    )


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        (answered("ThrottlingException", 400), False),
        (answered("ResourceNotFoundException", 400), False),
        (answered("InternalServerError", 500), True),
        (answered("ServiceUnavailable", 503), True),
        (ReadTimeoutError(**ENDPOINT), True),
        (ConnectionClosedError(**ENDPOINT), True),
        (ConnectTimeoutError(**ENDPOINT), False),
        (EndpointConnectionError(**ENDPOINT), False),
        (NoCredentialsError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_was_sent_and_not_refused_may_have_landed(fault: Exception, lost: bool) -> None:
    assert unavailable(fault, WHERE, writes=True).fate_unknown is lost  # type: ignore[arg-type]
    assert not unavailable(fault, WHERE, writes=False).fate_unknown  # type: ignore[arg-type]


def test_an_answer_is_told_by_its_code_and_its_text_is_not_repeated() -> None:
    error = unavailable(answered("ThrottlingException", 400), WHERE, writes=True)
    assert str(error).startswith("DynamoDB table table in eu-west-1: it answered ThrottlingException: the table is")
    assert "secret-key" not in str(error)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (answered("ProvisionedThroughputExceededException"), "transient"),
        (answered("ThrottlingException"), "transient"),
        (answered("RequestLimitExceeded"), "transient"),
        (answered("InternalServerError", 500), "transient"),
        (answered("ServiceUnavailable", 503), "transient"),
        (answered("NewfangledException"), "transient"),
        (answered("ResourceNotFoundException"), "configuration"),
        (answered("AccessDeniedException"), "configuration"),
        (answered("AccessDenied", 403), "configuration"),
        (answered("UnrecognizedClientException"), "configuration"),
        (answered("InvalidClientTokenId", 403), "configuration"),
        (answered("ExpiredTokenException"), "configuration"),
        (answered("InvalidSignatureException"), "configuration"),
        (answered("SignatureDoesNotMatch", 403), "configuration"),
        (answered("ItemCollectionSizeLimitExceededException"), "item"),
        (answered("ValidationException", message="Item size to update has exceeded the maximum allowed size"), "item"),
        (
            answered(
                "ValidationException",
                message="An operand in the update expression has an incorrect data type",
            ),
            "item",
        ),
        (
            answered("ValidationException", message="The provided key element does not match the schema"),
            "configuration",
        ),
        (
            answered("ValidationException", message="Query condition missed key schema element: id"),
            "configuration",
        ),
        (
            answered(
                "ValidationException",
                message="One or more parameter values were invalid: Type mismatch for key key expected: N actual: S",
            ),
            "configuration",
        ),
        (ReadTimeoutError(**ENDPOINT), "transient"),
        (ConnectTimeoutError(**ENDPOINT), "transient"),
        (ConnectionClosedError(**ENDPOINT), "transient"),
        (EndpointConnectionError(**ENDPOINT), "transient"),
        (SSLError(**ENDPOINT, error=OSError("EOF occurred in violation of protocol")), "transient"),
        (NoCredentialsError(), "configuration"),
        (NoRegionError(), "configuration"),
    ],
    ids=str,
)
def test_a_fault_says_how_soon_to_try_again_and_whose_it_is(fault: ClientError | BotoCoreError, kind: str) -> None:
    assert unavailable(fault, WHERE, writes=True).fault == kind


def test_a_certificate_that_is_refused_needs_a_person() -> None:
    """As botocore raises it: while it handles what urllib3 raised while it handled what the handshake said."""
    fault = EndpointConnectionError(**ENDPOINT)
    fault.__context__ = OSError("failed to connect")
    fault.__context__.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert unavailable(fault, WHERE, writes=True).fault == "configuration"
