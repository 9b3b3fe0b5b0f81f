"""What LaunchDarkly's refusals and silences are turned into, what a check says, and what nobody is ever told."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from launchdarkly_server import LaunchDarklyServer
from pydantic import SecretStr
from servers import free_port

from worker.errors import Fault, Unavailable
from worker.model import LaunchDarklyStoreConfiguration, SegmentId, SegmentPatch, SegmentProfile, StoreRecord
from worker.stores import open_store
from worker.stores.launchdarkly import LaunchDarklyStore
from worker.stores.segment_store import Sentinel

PROFILE = SegmentProfile(SegmentId("env", "beta", 1), "user", "Beta users", fresh=True)


@pytest.fixture
def server() -> Iterator[LaunchDarklyServer]:
    with LaunchDarklyServer() as server:
        yield server


@pytest.fixture
def store(server: LaunchDarklyServer) -> Iterator[LaunchDarklyStore]:
    store = LaunchDarklyStore(server.configuration(), answer_timeout_s=10)
    yield store
    store.close()


def write(store: LaunchDarklyStore, *add: str) -> None:
    with store.session() as session:
        session.prepare(lambda: PROFILE)
        session.write(SegmentPatch("beta.g1", list(add), []), lambda: None)


def with_changes(server: LaunchDarklyServer, **changes: object) -> LaunchDarklyStore:
    return LaunchDarklyStore(server.configuration(**changes), answer_timeout_s=0.5, connect_timeout_s=0.5)


USES: dict[str, Callable[[LaunchDarklyStore], object]] = {
    "session": lambda store: write(store, "ann"),
    "included": lambda store: store.included("ann"),
    "includes_keys": lambda store: store.includes_keys("beta.g1", ["ann"]),
    "sentinel": lambda store: store.sentinel(),
    "claim": lambda store: store.claim("ours", 1),
    "replace_sentinel": lambda store: store.replace_sentinel("ours", 1),
    "synchronized_on": lambda store: store.synchronized_on(),
    "set_synchronized_on": lambda store: store.set_synchronized_on(1, Sentinel("ours", 1)),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_instance_that_is_away_is_unavailable_and_nothing_can_land(
    server: LaunchDarklyServer, use: Callable[[LaunchDarklyStore], object]
) -> None:
    store = with_changes(server, baseUri=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="cannot be reached") as raised:
        use(store)
    error = raised.value
    assert (error.dependency, error.fault, error.fate_unknown) == ("store", "transient", False)
    store.close()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_unknown_token_is_a_matter_of_configuration_and_is_not_told(
    server: LaunchDarklyServer, use: Callable[[LaunchDarklyStore], object]
) -> None:
    store = with_changes(server, accessToken=SecretStr("sdk-wrong-one"))
    with pytest.raises(Unavailable, match=r"it answered 401 \(unauthorized\): the access token is not known") as raised:
        use(store)
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    assert "sdk-wrong-one" not in str(raised.value)
    store.close()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("wrong", ["projectKey", "environmentKey"])
def test_an_environment_that_is_not_there_is_a_matter_of_configuration(
    server: LaunchDarklyServer, use: Callable[[LaunchDarklyStore], object], wrong: str
) -> None:
    store = with_changes(server, **{wrong: "unheard-of"})
    with pytest.raises(Unavailable, match=r"there is no project .*unheard-of.*correct the keys") as raised:
        use(store)
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    store.close()


@pytest.mark.parametrize("action", ["createSegment", "updateIncluded", "viewProject"])
def test_a_right_that_is_missing_is_named(store: LaunchDarklyStore, server: LaunchDarklyServer, action: str) -> None:
    server.forbid(action)
    with pytest.raises(Unavailable, match=r"it answered 403 \(forbidden\)") as raised:
        write(store, "ann")
    assert f"give its role {action}" in str(raised.value)
    assert "proj/default:env/production:segment/*" in str(raised.value)
    assert raised.value.fault == "configuration"
    server.allow()
    write(store, "ann")
    assert server.members("beta") == {"ann"}, "it goes on without a restart"


@pytest.mark.parametrize(
    ("status", "fault", "said"),
    [
        (301, "configuration", "not LaunchDarkly's API"),
        (404, "configuration", "no project"),
        (405, "configuration", "does not take such a request"),
        (409, "transient", "somebody else"),
        (500, "transient", "status page"),
        (503, "transient", "status page"),
    ],
)
def test_answers_to_a_question_are_told_apart(
    store: LaunchDarklyStore, server: LaunchDarklyServer, status: int, fault: Fault, said: str
) -> None:
    server.answer_next(status, times=2)
    with pytest.raises(Unavailable, match=said) as raised:
        store.included("ann")
    assert (raised.value.fault, raised.value.fate_unknown) == (fault, False)


@pytest.mark.parametrize("use", ["claim", "replace_sentinel", "set_synchronized_on"])
def test_a_change_that_is_not_answered_may_still_land(
    store: LaunchDarklyStore, server: LaunchDarklyServer, use: str
) -> None:
    if use != "claim":
        store.claim("ours", 1)
    server.answer_next(503, applied=True, method="POST" if use == "claim" else "PATCH")
    with pytest.raises(Unavailable, match="may still land") as raised:
        USES[use](store)
    assert raised.value.fate_unknown


def test_tls_that_fails_is_a_matter_of_configuration(server: LaunchDarklyServer) -> None:
    store = with_changes(server, baseUri=server.url.replace("http://", "https://"))
    with pytest.raises(Unavailable, match="the TLS handshake failed") as raised:
        write(store, "ann")
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    store.close()


@pytest.mark.parametrize("address", ["app.launchdarkly.com", "ftp://app.launchdarkly.com", "http://[::1", "https://"])
def test_a_base_uri_that_is_none_is_a_matter_of_configuration(server: LaunchDarklyServer, address: str) -> None:
    store = with_changes(server, baseUri=address)
    with pytest.raises(Unavailable, match="see the base URI") as raised:
        store.sentinel()
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    store.close()


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "schlüssel"])
def test_a_token_that_can_be_none_is_refused_without_being_told(server: LaunchDarklyServer, token: str) -> None:
    store = with_changes(server, accessToken=SecretStr(token))
    with pytest.raises(Unavailable, match="the access token holds characters") as raised:
        store.sentinel()
    assert token not in str(raised.value)
    assert raised.value.__cause__ is None
    store.close()


def test_a_page_of_somebody_else_is_no_answer(server: LaunchDarklyServer, store: LaunchDarklyStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = with_changes(server, baseUri=f"http://127.0.0.1:{listener.getsockname()[1]}")

        def greet() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.recv(65_536)
                caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<p>hi</p>")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(Unavailable, match="not LaunchDarkly's API; see the base URI") as raised:
            other.sentinel()
        thread.join()
    assert raised.value.fault == "configuration"
    other.close()


def test_neither_keys_nor_the_token_are_told_or_logged(
    store: LaunchDarklyStore, server: LaunchDarklyServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write(store, "secret-person")
    store.included("secret-person")
    server.answer_next(503, matching="/contexts", times=2)
    told = []
    for use in (lambda: write(store, "secret-person"), lambda: store.included("secret-person")):
        with pytest.raises(Unavailable) as raised:
            use()
        told += [str(raised.value), repr(raised.value)]
    told += [repr(store), str(server.configuration()), repr(server.configuration()), caplog.text]
    assert not any(secret in text for text in told for secret in ("secret-person", server.token))


def test_a_record_opens_the_store_of_its_kind_without_connecting() -> None:
    configuration = LaunchDarklyStoreConfiguration(
        baseUri="https://nowhere.invalid", projectKey="web", environmentKey="test", accessToken=SecretStr("api-secret")
    )
    record = StoreRecord(store_id="store-1", environment_id="env-1", name="ours", configuration=configuration)
    copied = StoreRecord.model_validate(record.model_dump())
    opened = open_store(copied)
    assert isinstance(opened, LaunchDarklyStore)
    assert repr(opened) == "LaunchDarklyStore(launchdarkly web/test at https://nowhere.invalid)"


def test_a_child_process_opens_connections_of_its_own(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write(store, "ann")
    inherited = store._link._open_client()
    child = os.fork()
    if not child:
        status = 1
        try:
            write(store, "bob")
            status = int(store._link._open_client() is inherited)
            store.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    write(store, "cyd")
    assert server.members("beta") == {"ann", "bob", "cyd"}


def test_a_closed_store_opens_again_when_it_is_used(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write(store, "ann")
    store.close()
    store.close()
    write(store, "bob")
    assert server.members("beta") == {"ann", "bob"}


@pytest.mark.parametrize("claimed", [True, False])
def test_a_check_of_a_store_that_is_well_finds_nothing_and_changes_nothing(
    store: LaunchDarklyStore, server: LaunchDarklyServer, claimed: bool
) -> None:
    if claimed:
        store.claim("ours", 1)
        store.set_synchronized_on(17, Sentinel("ours", 2))
    before = {key: (segment.description, set(segment.included)) for key, segment in server.segments.items()}
    assert store.check() == []
    assert {key: (segment.description, segment.included) for key, segment in server.segments.items()} == before


@pytest.mark.parametrize("action", ["createSegment", "updateDescription", "updateIncluded"])
def test_a_check_names_a_right_that_is_missing(
    store: LaunchDarklyStore, server: LaunchDarklyServer, action: str
) -> None:
    store.claim("ours", 1)
    server.forbid(action)
    [fault] = store.check()
    assert f"give its role {action}" in fault


def test_a_check_names_every_right_that_is_missing(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    store.claim("ours", 1)
    server.forbid("createSegment", "updateDescription", "updateIncluded")
    assert len(store.check()) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accessToken": SecretStr("wrong")}, "the access token is not known there"),
        ({"projectKey": "unheard-of"}, "no project unheard-of"),
        ({"environmentKey": "unheard-of"}, "an environment unheard-of"),
        ({"baseUri": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"baseUri": "app.launchdarkly.com"}, "see the base URI"),
        ({"accessToken": SecretStr("two words")}, "holds characters"),
    ],
)
def test_a_check_says_what_is_wrong_and_raises_nothing(
    server: LaunchDarklyServer, changes: dict[str, object], said: str
) -> None:
    store = with_changes(server, **changes)
    [fault] = store.check()
    assert said in fault
    store.close()
