"""Segments over HTTP, against a receiver and a worker that run, read back by LaunchDarkly's SDK where that can tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from launchdarkly_api import (
    AccessTokenPost,
    AccessTokensApi,
    PatchOperation,
    PatchWithComment,
    SegmentBody,
    SegmentsApi,
    SegmentUserList,
    SegmentUserState,
    StatementPost,
)
from launchdarkly_api.exceptions import (
    BadRequestException,
    ConflictException,
    ForbiddenException,
    NotFoundException,
    UnauthorizedException,
)
from management_api import ManagementApi, managed
from servers import ValkeyServer, wait_until

PLACE = "default", "production"
G = "/segments/default/production"


@pytest.fixture(scope="module")
def api(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagementApi]:
    with managed(valkey, tmp_path_factory.mktemp("segments")) as running:
        running.deployment.start("worker")
        running.deployment.start("scheduler")
        yield running


@pytest.fixture
def client(api: ManagementApi) -> SegmentsApi:
    """LaunchDarkly's own, unmodified."""
    return SegmentsApi(api.client())


def create(client: SegmentsApi, key: str, **fields: Any) -> Any:
    return client.post_segment(*PLACE, SegmentBody(name=fields.pop("name", key), key=key, unbounded=True, **fields))


def lists_of(client: SegmentsApi, key: str, context: str) -> tuple[bool, bool]:
    found = client.get_segment_membership_for_context(*PLACE, key, context)
    assert found.user_key == context
    return found.included, found.excluded


def located(answer: Any) -> str:
    """The id at the end of an answer's Location."""
    return str(answer.headers["location"]).rpartition("/")[2]


def change(client: SegmentsApi, key: str, **lists: dict[str, list[str]]) -> None:
    state = SegmentUserState(**{name: SegmentUserList(**said) for name, said in lists.items()})
    client.update_big_segment_context_targets(*PLACE, key, state)


def test_a_segment_lives_from_its_making_to_its_deletion_and_comes_back_empty(client: SegmentsApi) -> None:
    made = create(
        client, "lived", name="Lived", description="for a while", tags=["a", "b"], unbounded_context_kind="org"
    )
    assert (made.key, made.name, made.description, made.tags) == ("lived", "Lived", "for a while", ["a", "b"])
    assert (made.generation, made.unbounded, made.unbounded_context_kind, made.external) == (1, True, "org", None)
    assert client.get_segment(*PLACE, "lived") == made
    change(client, "lived", included={"add": ["ann"]})
    wait_until(lambda: lists_of(client, "lived", "ann") == (True, False))
    assert client.delete_segment(*PLACE, "lived") is None
    with pytest.raises(NotFoundException) as missing:
        client.get_segment(*PLACE, "lived")
    assert '"not_found"' in str(missing.value.body)
    again = create(client, "lived")
    assert (again.generation, again.description, again.tags) == (2, None, [])
    assert lists_of(client, "lived", "ann") == (False, False)


def test_contexts_are_added_to_both_lists_and_removed_in_the_order_asked(client: SegmentsApi) -> None:
    create(client, "manual")
    change(client, "manual", included={"add": ["ann", "bob"]}, excluded={"add": ["ann", "eve"]})
    change(client, "manual", included={"remove": ["bob"]}, excluded={"add": ["bob"], "remove": ["eve"]})
    expected = {"ann": (True, True), "bob": (False, True), "eve": (False, False), "nobody": (False, False)}
    wait_until(lambda: {key: lists_of(client, "manual", key) for key in expected} == expected)
    found = client.get_segment(*PLACE, "manual").unbounded_metadata
    assert found is not None
    assert (found.included_count, found.excluded_count) == (1, 2)


def test_users_are_contexts_by_another_name(client: SegmentsApi) -> None:
    create(client, "users")
    client.update_big_segment_targets(
        *PLACE, "users", SegmentUserState(included=SegmentUserList(add=["a/b c%2F", "ünï"]))
    )
    for key in ("a/b c%2F", "ünï"):
        wait_until(partial(_is_user, client, key))


def _is_user(client: SegmentsApi, key: str) -> bool:
    return client.get_segment_membership_for_user(*PLACE, "users", key).included


def test_a_page_of_segments_is_filtered_sorted_and_counted(client: SegmentsApi) -> None:
    for key, tags in (("page-b", ["paged", "x"]), ("page-a", ["paged"]), ("page-c", ["paged", "x"])):
        create(client, key, name=key.upper(), tags=tags)
    page = client.get_segments(*PLACE, limit=2, sort="-name", filter='tags anyOf ["paged"]')
    assert ([each.key for each in page.items], page.total_count) == (["page-c", "page-b"], 3)
    assert "offset=2" in str(page.links["next"].href)
    rest = client.get_segments(*PLACE, limit=2, offset=2, sort="-name", filter='tags anyOf ["paged"]')
    assert [each.key for each in rest.items] == ["page-a"]
    assert "next" not in rest.links
    found = client.get_segments(*PLACE, filter='query equals "PAGE-",tags anyOf ["x"],external exists false')
    assert {each.key for each in found.items} == {"page-b", "page-c"}
    assert client.get_segments(*PLACE, filter="unbounded equals false").items == []
    for wrong in ({"filter": "colour equals 1"}, {"sort": "size"}):
        with pytest.raises(BadRequestException) as refused:
            client.get_segments(*PLACE, **wrong)  # type: ignore[arg-type]
        assert '"invalid_request"' in str(refused.value.body)


def test_a_segment_that_a_partner_syncs_is_told_as_external(api: ManagementApi, client: SegmentsApi) -> None:
    body = {
        "environmentId": api.environment_id, "cohortId": "told", "cohortName": "Told", "contextKind": "user",
        "listData": {"add": [{"id": "ann"}], "remove": []},
    }  # fmt: skip
    api.request("POST", "/segment-targets/rudderstack", 204, token=api.writer_token, json=body)
    found = client.get_segment(*PLACE, "rudderstack-told")
    assert (found.external, found.name, found.import_in_progress) == ("rudderstack", "Told", False)
    change(client, "rudderstack-told", included={"add": ["bob"], "remove": ["ann"]})
    wait_until(lambda: [lists_of(client, "rudderstack-told", key)[0] for key in ("ann", "bob")] == [False, True])


def test_a_cohort_feeds_a_segment_of_ones_choice(api: ManagementApi, client: SegmentsApi) -> None:
    def send(*people: str) -> int:
        body = {
            "environmentId": api.environment_id, "cohortId": "chosen", "cohortName": "Chosen", "contextKind": "user",
            "listData": {"add": [{"id": key} for key in people], "remove": []},
        }  # fmt: skip
        headers = {"Authorization": api.writer_token}
        return api.http.post("/api/v2/segment-targets/rudderstack", json=body, headers=headers).status_code

    assert send("ann") == 204
    api.deployment.command("segments", "delete", "rudderstack-chosen", "--yes")
    api.deployment.command("segments", "map", "rudderstack", "chosen", "--key", "beta-testers", "--generation", "4")
    # The receiver remembers the key that the cohort had, is told so, and asks: the partner sends it again.
    wait_until(lambda: send("bob") == 204)
    wait_until(lambda: lists_of(client, "beta-testers", "bob") == (True, False))
    assert client.get_segment(*PLACE, "beta-testers").generation == 4
    assert lists_of(client, "beta-testers", "ann") == (False, False)


def test_texts_are_patched_and_a_failed_test_changes_nothing(client: SegmentsApi) -> None:
    version = create(client, "patched", tags=["a"]).version
    operations = [
        PatchOperation(op="test", path="/version", value=version),
        PatchOperation(op="replace", path="/name", value="New"),
        PatchOperation(op="add", path="/tags/-", value="b"),
    ]
    changed = client.patch_segment(*PLACE, "patched", PatchWithComment(patch=operations, comment="why"))
    assert (changed.name, changed.tags, changed.version) == ("New", ["a", "b"], version + 1)
    with pytest.raises(ConflictException):
        client.patch_segment(*PLACE, "patched", PatchWithComment(patch=operations))
    for path, value in (("/key", "x"), ("/tags", ["no blanks"]), ("/name", "")):
        with pytest.raises(BadRequestException):
            client.patch_segment(
                *PLACE, "patched", PatchWithComment(patch=[PatchOperation(op="replace", path=path, value=value)])
            )
    assert client.get_segment(*PLACE, "patched") == changed


def test_a_semantic_patch_changes_members_and_texts_or_nothing(api: ManagementApi, client: SegmentsApi) -> None:
    create(client, "semantic")
    kind = {"Content-Type": "application/json; domain-model=launchdarkly.semanticpatch"}
    instructions: list[dict[str, Any]] = [
        {"kind": "updateName", "value": "Semantic"},
        {"kind": "addBigSegmentIncludedTargets", "values": ["ann", "bob"]},
        {"kind": "removeBigSegmentIncludedTargets", "values": ["bob"]},
        {"kind": "addBigSegmentExcludedTargets", "values": ["eve"]},
    ]

    def patch(said: list[dict[str, Any]], expected: int, headers: dict[str, str]) -> Any:
        content = json.dumps({"instructions": said})
        return api.request("PATCH", f"{G}/semantic", expected, headers=headers, content=content)

    patch([*instructions, {"kind": "explode"}], 400, kind)
    patch(instructions, 400, {"Content-Type": "application/json"})
    assert client.get_segment(*PLACE, "semantic").name == "semantic"
    assert patch(instructions, 200, kind)["name"] == "Semantic"
    expected = {"ann": (True, False), "bob": (False, False), "eve": (False, True)}
    wait_until(lambda: {key: lists_of(client, "semantic", key) for key in expected} == expected)


def test_a_dry_run_of_a_patch_tells_what_would_be_and_changes_nothing(api: ManagementApi, client: SegmentsApi) -> None:
    made = create(client, "dry")
    told = api.request(
        "PATCH", f"{G}/dry?dryRun=true", 200, json=[{"op": "replace", "path": "/name", "value": "Would be"}]
    )
    assert told["name"] == "Would be"
    assert client.get_segment(*PLACE, "dry") == made


def test_a_file_is_imported_exported_and_replaced(api: ManagementApi, client: SegmentsApi) -> None:
    create(client, "filed")

    def imported(mode: str, keys: list[str]) -> Any:
        answer = client.create_big_segment_import_with_http_info(
            *PLACE, "filed", mode=mode, file=("keys.csv", "".join(f"{key},x\n" for key in keys).encode()),
            wait_on_approvals=False,
        )  # fmt: skip
        assert answer.status_code == 204
        import_id = located(answer)
        wait_until(lambda: client.get_big_segment_import(*PLACE, "filed", import_id).status == "complete")
        return client.get_big_segment_import(*PLACE, "filed", import_id)

    done = imported("merge", ["ann", "bob", "a,b"])
    assert (done.mode, done.segment_key, done.files[0].filename) == ("merge", "filed", "keys.csv")
    change(client, "filed", included={"add": ["late"]}, excluded={"add": ["eve"]})
    imported("replace", ["bob", "zoe"])
    expected = {
        "ann": (False, False),
        "bob": (True, False),
        "late": (False, False),
        "zoe": (True, False),
        "eve": (False, True),
    }
    assert {key: lists_of(client, "filed", key) for key in expected} == expected

    answer = client.create_big_segment_export_with_http_info(*PLACE, "filed")
    assert answer.status_code == 200
    export_id = located(answer)
    wait_until(lambda: client.get_big_segment_export(*PLACE, "filed", export_id).status == "complete")
    found = client.get_big_segment_export(*PLACE, "filed", export_id)
    assert (found.size_bytes, found.initiator.name) == (len(b"bob\r\nzoe\r\n"), "api:admin")
    file = api.http.get(str(found.links["file"].href), headers={"Authorization": api.admin_token})
    assert (file.status_code, file.headers["content-type"].partition(";")[0], file.text) == (
        200,
        "text/csv",
        "bob\r\nzoe\r\n",
    )


def test_an_import_whose_file_is_wrong_is_stopped_with_the_line(api: ManagementApi, client: SegmentsApi) -> None:
    create(client, "wrong")
    answer = client.create_big_segment_import_with_http_info(*PLACE, "wrong", mode="replace", file=b"ann\n,x\nbob\n")
    import_id = located(answer)
    wait_until(lambda: client.get_big_segment_import(*PLACE, "wrong", import_id).status == "stopped")
    told = api.request("GET", f"{G}/wrong/imports/{import_id}", 200)
    assert "line 2" in told["_progress"]["message"]


@pytest.mark.parametrize(
    ("data", "files", "told"),
    [
        ({"mode": "merge"}, None, "/file"),
        ({"mode": "upsert"}, {"file": ("k.csv", b"ann\n")}, "/mode"),
        ({}, {"file": ("k.csv", b"ann\n")}, "/mode"),
        ({"mode": "merge", "waitOnApprovals": "True"}, {"file": ("k.csv", b"ann\n")}, "approvals"),
    ],
)
def test_a_form_that_is_no_import_is_refused_with_its_place(
    api: ManagementApi, client: SegmentsApi, data: Any, files: Any, told: str
) -> None:
    if not client.get_segments(*PLACE, filter='includedKeys anyOf ["forms"]').items:
        create(client, "forms")
    found = api.request("POST", f"{G}/forms/imports", 400, data=data, files=files)
    assert told in found["message"]


def test_a_file_that_is_too_large_is_refused(start_valkey: Callable[..., ValkeyServer], tmp_path: Path) -> None:
    with managed(start_valkey(), tmp_path, {"SEGSYNC_IMPORT_BYTES": "1024"}) as small:
        create(SegmentsApi(small.client()), "large")
        for size in (2_000, 3_000_000):
            small.request(
                "POST", f"{G}/large/imports", 413, data={"mode": "merge"}, files={"file": ("k.csv", b"x" * size)}
            )


def test_every_documented_error_of_segments_is_raised_by_the_official_client(
    api: ManagementApi, client: SegmentsApi
) -> None:
    create(client, "errors")
    with pytest.raises(ConflictException):
        create(client, "errors")
    for wrong in ("-begins-wrong", "has blank", "x" * 257):
        with pytest.raises(BadRequestException):
            create(client, wrong)
    with pytest.raises(BadRequestException):
        create(client, "kinds", unbounded_context_kind="multi")
    with pytest.raises(BadRequestException):
        client.post_segment(*PLACE, SegmentBody(name="Standard", key="standard", unbounded=False))
    with pytest.raises(BadRequestException):
        change(client, "errors", included={"add": [""]})
    with pytest.raises(NotFoundException):
        change(client, "missing", included={"add": ["ann"]})
    calls: tuple[Callable[..., object], ...] = (
        client.get_segment,
        client.delete_segment,
        client.create_big_segment_export,
    )
    for call in calls:
        with pytest.raises(NotFoundException):
            call(*PLACE, "missing")
        with pytest.raises(NotFoundException):
            call("default", "nowhere", "errors")
    with pytest.raises(NotFoundException):
        client.get_big_segment_import(*PLACE, "errors", "0" * 24)
    with pytest.raises(NotFoundException):
        client.get_big_segment_export(*PLACE, "errors", "0" * 24)
    with pytest.raises(UnauthorizedException):
        SegmentsApi(api.client("segsync-nobody-has-this-token")).get_segment(*PLACE, "errors")


def test_a_token_for_another_environment_is_forbidden_everything_and_changes_nothing(
    api: ManagementApi, client: SegmentsApi
) -> None:
    api.request(
        "POST", "/projects/default/environments", 201, json={"key": "other", "name": "Other", "color": "00FF00"}
    )
    create(client, "guarded")
    statement = StatementPost(
        effect="allow", actions=["createSegment", "updateIncluded"], resources=["proj/*:env/other:segment/*"]
    )
    token = AccessTokensApi(api.client()).post_token(AccessTokenPost(name="other's", inline_role=[statement])).token
    theirs = SegmentsApi(api.client(token))
    before = client.get_segment(*PLACE, "guarded")
    attempts: list[Callable[[], object]] = [
        lambda: theirs.get_segment(*PLACE, "guarded"),
        lambda: theirs.get_segments(*PLACE),
        lambda: theirs.delete_segment(*PLACE, "guarded"),
        lambda: change(theirs, "guarded", included={"add": ["ann"]}),
        lambda: theirs.create_big_segment_import(*PLACE, "guarded", mode="merge", file=b"ann\n"),
        lambda: theirs.create_big_segment_export(*PLACE, "guarded"),
        lambda: create(theirs, "theirs"),
    ]
    for attempt in attempts:
        with pytest.raises(ForbiddenException) as refused:
            attempt()
        assert '"forbidden"' in str(refused.value.body)
    assert client.get_segment(*PLACE, "guarded") == before
    assert client.get_segments(*PLACE, filter='includedKeys anyOf ["theirs"]').items == []
    made = theirs.post_segment("default", "other", SegmentBody(name="Theirs", key="theirs", unbounded=True))
    assert theirs.get_segment("default", "other", "theirs") == made
    with pytest.raises(ForbiddenException):
        theirs.update_big_segment_context_targets(
            "default", "other", "theirs", SegmentUserState(excluded=SegmentUserList(add=["ann"]))
        )


def test_a_reader_reads_and_changes_nothing(api: ManagementApi, client: SegmentsApi) -> None:
    create(client, "read-only")
    token = AccessTokensApi(api.client()).post_token(AccessTokenPost(name="reader", role="reader")).token
    reader = SegmentsApi(api.client(token))
    assert reader.get_segment(*PLACE, "read-only").key == "read-only"
    for attempt in (
        lambda: reader.delete_segment(*PLACE, "read-only"),
        lambda: change(reader, "read-only", included={"add": ["ann"]}),
        lambda: create(reader, "readers"),
    ):
        with pytest.raises(ForbiddenException):
            attempt()


def test_a_context_key_that_is_longer_than_an_import_takes_is_not_added_but_can_be_removed(api: ManagementApi) -> None:
    api.request("POST", G, 201, json={"key": "long-keys", "name": "L"})
    longest, longer = "k" * 4096, "k" * 4097
    contexts = f"{G}/long-keys/contexts"
    semantic = {"Content-Type": "application/json; domain-model=launchdarkly.semanticpatch"}
    for added in ({"included": {"add": [longer]}}, {"excluded": {"add": ["ann", longer]}}):
        assert longer not in api.request("POST", contexts, 400, json=added)["message"]
    for kind, expected in (("addBigSegmentExcludedTargets", 400), ("removeBigSegmentExcludedTargets", 200)):
        body = {"instructions": [{"kind": kind, "values": [longer]}]}
        api.request("PATCH", f"{G}/long-keys", expected, json=body, headers=semantic)
    api.request("POST", contexts, 204, json={"included": {"add": [longest], "remove": [longer]}})


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ([{"op": "test", "path": "/name"}, {"op": "mend", "path": "/name"}], "/1/op:"),
        ({"patch": [{"op": "remove"}]}, "/patch/0/path:"),
        ({"comment": "c"}, "/patch:"),
        ({"instructions": {}}, "/instructions:"),
        (5, "the whole:"),
    ],
)
def test_what_is_wrong_with_a_patch_is_said_with_its_place_in_the_body(
    api: ManagementApi, body: object, place: str
) -> None:
    api.http.post(f"/api/v2{G}", headers={"Authorization": api.admin_token}, json={"key": "places", "name": "P"})
    told = api.request("PATCH", f"{G}/places", 400, json=body)["message"]
    assert told.startswith(f"Invalid request body: {place}")


def test_a_tag_that_is_there_twice_is_kept_once(api: ManagementApi) -> None:
    assert api.request("POST", G, 201, json={"key": "twice", "name": "T", "tags": ["a", "b", "a"]})["tags"] == [
        "a",
        "b",
    ]
    patch = [{"op": "add", "path": "/tags/-", "value": "b"}]
    assert api.request("PATCH", f"{G}/twice", 200, json=patch)["tags"] == ["a", "b"]
