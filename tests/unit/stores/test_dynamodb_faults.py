from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ReadTimeoutError,
    SSLError,
)

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.dynamodb.faults import is_throttled, refusal_of, unavailable, verdicts_of

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
        (answered("TransactionInProgressException", 400), True),
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
        (answered("TransactionConflictException"), "transient"),
        (answered("TransactionCanceledException"), "transient"),
        (answered("ValidationException", message="news to us"), "configuration"),
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
        (InvalidRegionError(region_name="eu west"), "configuration"),
    ],
    ids=str,
)
def test_a_fault_says_how_soon_to_try_again_and_whose_it_is(fault: ClientError | BotoCoreError, kind: str) -> None:
    assert unavailable(fault, WHERE, writes=True).fault == kind


@pytest.mark.parametrize(
    ("fault", "words", "is_the_items"),
    [
        (answered("ItemCollectionSizeLimitExceededException"), "10 GB", True),
        (
            answered("ValidationException", message="Item size to update has exceeded the maximum allowed"),
            "400 KB",
            True,
        ),
        (answered("ValidationException", message="Item size has exceeded the maximum allowed size"), "400 KB", True),
        (
            answered("ValidationException", message="An operand in the update expression has an incorrect data type"),
            "no string set",
            True,
        ),
        (answered("ValidationException", message="secret-key"), "refuses its item", False),
    ],
    ids=str,
)
def test_what_concerns_one_item_is_told_of_it_alone(fault: ClientError, words: str, is_the_items: bool) -> None:
    refusal = refusal_of(fault)
    assert refusal is not None
    assert words in refusal.reason
    assert refusal.is_the_items is is_the_items
    assert "secret-key" not in refusal.reason


@pytest.mark.parametrize(
    "fault",
    [
        answered("ValidationException", message="The provided key element does not match the schema"),
        answered("ValidationException", 500),
        answered("ThrottlingException"),
        answered("ResourceNotFoundException"),
    ],
    ids=str,
)
def test_what_concerns_all_or_may_have_landed_is_no_items_refusal(fault: ClientError) -> None:
    assert refusal_of(fault) is None


@pytest.mark.parametrize(
    ("code", "status", "throttled"),
    [
        ("ProvisionedThroughputExceededException", 400, True),
        ("ThrottlingException", 400, True),
        ("RequestLimitExceeded", 400, True),
        ("ThrottlingException", 503, False),
        ("InternalServerError", 500, False),
        ("TransactionConflictException", 400, False),
    ],
)
def test_throttled_is_what_was_certainly_not_done(code: str, status: int, throttled: bool) -> None:
    assert is_throttled(answered(code, status)) is throttled


def cancelled(*codes: str, status: int = 400) -> ClientError:
    fault = answered("TransactionCanceledException", status)
    fault.response["CancellationReasons"] = [{"Code": code} for code in codes]
    return fault


@pytest.mark.parametrize(
    ("fault", "verdicts"),
    [
        (cancelled("None", "ConditionalCheckFailed"), ["again", "alone"]),
        (cancelled("ValidationError", "None"), ["alone", "again"]),
        (cancelled("ItemCollectionSizeLimitExceeded", "TransactionConflict"), ["alone", "conflict"]),
        (cancelled("ThrottlingError", "ProvisionedThroughputExceeded"), ["throttled", "throttled"]),
        (cancelled("NewfangledReason", "None"), ["alone", "again"]),
        (cancelled(), ["alone", "alone"]),
        (cancelled("None", "ConditionalCheckFailed", status=500), []),
        (answered("ValidationException", message="Item size to update has exceeded"), ["alone", "alone"]),
        (answered("ValidationException", message="does not match the schema"), []),
        (answered("TransactionInProgressException"), []),
        (answered("AccessDeniedException"), []),
    ],
    ids=str,
)
def test_a_cancelled_transaction_tells_what_to_do_with_each_of_its_members(
    fault: ClientError, verdicts: list[str]
) -> None:
    assert verdicts_of(fault, 2) == verdicts


def test_a_certificate_that_is_refused_needs_a_person() -> None:
    """As botocore raises it: while it handles what urllib3 raised while it handled what the handshake said."""
    fault = EndpointConnectionError(**ENDPOINT)
    fault.__context__ = OSError("failed to connect")
    fault.__context__.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert unavailable(fault, WHERE, writes=True).fault == "configuration"


@pytest.mark.parametrize("role", ["", "arn:aws:iam::123456789012:role/segsync"])
@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.session().__enter__(),
        lambda store: store.included("ann"),
        lambda store: next(store.scan()),
        lambda store: store.claim("ours", 1),
    ],
    ids=["session", "included", "scan", "claim"],
)
def test_an_endpoint_that_refuses_connections_is_tried_again_within_seconds(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[DynamoDBStore], object], role: str
) -> None:
    """As botocore itself raises it, of the table's endpoint and of the one that would lend a role."""
    nobody = "http://127.0.0.1:1"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", nobody)
    store = DynamoDBStore(
        DynamoDBStoreConfiguration(tableName="segments", region="eu-west-1", endpoint=nobody, roleArn=role)
    )
    with pytest.raises(Unavailable, match="cannot be reached") as raised:
        use(store)
    assert (raised.value.fault, raised.value.fate_unknown) == ("transient", False)
    store.close()


def test_without_credentials_a_person_must_act_wherever_the_endpoint_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked for before a connection is, so that nothing is known of the endpoint yet."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = DynamoDBStore(
        DynamoDBStoreConfiguration(tableName="segments", region="eu-west-1", endpoint="http://127.0.0.1:1")
    )
    with pytest.raises(Unavailable, match="NoCredentialsError") as raised:
        store.included("ann")
    assert raised.value.fault == "configuration"
    store.close()
