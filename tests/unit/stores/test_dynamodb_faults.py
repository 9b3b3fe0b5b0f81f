from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from worker.stores.dynamodb_faults import unavailable

WHERE = "table in eu-west-1"
ENDPOINT = {"endpoint_url": "https://dynamodb.example"}


def answered(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "quotes secret-key"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
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
