"""LaunchDarkly's own Python client, unmodified, against a receiver that runs: projects, environments, tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from launchdarkly_api import (
    AccessTokenPost,
    AccessTokensApi,
    EnvironmentPost,
    EnvironmentsApi,
    ProjectPost,
    ProjectsApi,
    StatementPost,
)
from launchdarkly_api.exceptions import (
    ApiException,
    BadRequestException,
    ConflictException,
    ForbiddenException,
    NotFoundException,
    UnauthorizedException,
)
from management_api import ManagementApi, managed
from servers import ValkeyServer


def told(error: ApiException) -> dict[str, str]:
    """The error as the client's own model holds it: it does so only for statuses that LaunchDarkly documents."""
    assert error.data is not None
    body: dict[str, str] = error.data.to_dict()
    return body


@pytest.fixture(scope="module")
def api(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagementApi]:
    with managed(valkey, tmp_path_factory.mktemp("official")) as running:
        yield running


def test_a_project_lives_from_its_making_to_its_removal(api: ManagementApi) -> None:
    projects = ProjectsApi(api.client())
    wanted = ProjectPost(
        key="shop",
        name="The shop",
        tags=["web"],
        environments=[EnvironmentPost(key="live", name="Live", color="DADBEE", tags=["eu"])],
    )
    made = projects.post_project(wanted)
    assert (made.key, made.name, made.tags, [each.key for each in made.environments]) == (
        "shop", "The shop", ["web"], ["live"],
    )  # fmt: skip
    shown = projects.get_project("shop", expand="environments")
    assert shown.id == made.id
    assert shown.environments is not None
    assert [each.id for each in shown.environments.items] == [made.environments[0].id]
    assert "shop" in {each.key for each in projects.get_projects().items}
    assert projects.delete_project("shop") is None
    with pytest.raises(NotFoundException) as missing:
        projects.get_project("shop")
    assert told(missing.value)["code"] == "not_found"


def test_a_list_of_projects_is_read_page_by_page(api: ManagementApi) -> None:
    projects = ProjectsApi(api.client())
    for number in range(3):
        projects.post_project(ProjectPost(key=f"paged-{number}", name=f"Paged {number}"))
    total = projects.get_projects().total_count
    assert total is not None
    pages = [projects.get_projects(limit=1, offset=offset) for offset in range(total)]
    assert [len(page.items) for page in pages] == [1] * total
    assert len({page.items[0].key for page in pages}) == total
    assert ("next" in pages[0].links, "next" in pages[-1].links) == (True, False)
    for number in range(3):
        projects.delete_project(f"paged-{number}")


def test_an_environment_lives_from_its_making_to_its_removal(api: ManagementApi) -> None:
    environments = EnvironmentsApi(api.client())
    made = environments.post_environment(
        "default", EnvironmentPost(key="staging", name="Staging", color="F5A623", tags=["test"])
    )
    assert (made.key, made.name, made.color, made.tags) == ("staging", "Staging", "F5A623", ["test"])
    assert environments.get_environment("default", "staging") == made
    listed = environments.get_environments_by_project("default")
    assert listed.total_count == 2
    assert {each.key for each in listed.items} == {"production", "staging"}
    assert environments.delete_environment("default", "staging") is None
    with pytest.raises(NotFoundException):
        environments.get_environment("default", "staging")


def test_the_client_side_id_of_an_environment_is_what_payloads_carry(api: ManagementApi) -> None:
    shown = EnvironmentsApi(api.client()).get_environment("default", "production")
    assert shown.id == api.environment_id
    assert "no-sdk-keys" in shown.api_key


def test_a_token_is_shown_once_and_works_until_it_is_removed(api: ManagementApi) -> None:
    tokens = AccessTokensApi(api.client())
    made = tokens.post_token(
        AccessTokenPost(
            name="dashboard", description="looks", role="reader", service_token=True, default_api_version=20240415
        )
    )
    assert made.token is not None
    ProjectsApi(api.client(made.token)).get_projects()
    shown = tokens.get_token(made.id)
    assert (shown.name, shown.description, shown.role, shown.service_token) == ("dashboard", "looks", "reader", True)
    assert shown.token == made.token[-4:]
    assert shown.last_used is not None
    assert shown.last_used >= made.creation_date
    listed = tokens.get_tokens()
    assert listed.items is not None
    assert made.id in {each.id for each in listed.items}
    tokens.delete_token(made.id)
    with pytest.raises(UnauthorizedException) as refused:
        ProjectsApi(api.client(made.token)).get_projects()
    assert told(refused.value)["code"] == "unauthorized"


def test_a_token_with_statements_sees_the_environments_that_they_are_about(api: ManagementApi) -> None:
    statement = StatementPost(
        effect="allow", actions=["updateIncluded", "createSegment"], resources=["proj/default:env/production:segment/*"]
    )
    made = AccessTokensApi(api.client()).post_token(AccessTokenPost(name="partner", inline_role=[statement]))
    assert made.inline_role is not None
    assert made.inline_role[0].resources == statement.resources
    EnvironmentsApi(api.client()).post_environment(
        "default", EnvironmentPost(key="other", name="Other", color="000000")
    )
    partner = EnvironmentsApi(api.client(made.token))
    assert [each.key for each in partner.get_environments_by_project("default").items] == ["production"]
    with pytest.raises(ForbiddenException) as refused:
        partner.get_environment("default", "other")
    assert told(refused.value)["code"] == "forbidden"
    AccessTokensApi(api.client(made.token)).get_token(made.id)
    EnvironmentsApi(api.client()).delete_environment("default", "other")


def test_what_is_taken_is_a_conflict(api: ManagementApi) -> None:
    with pytest.raises(ConflictException) as refused:
        ProjectsApi(api.client()).post_project(ProjectPost(key="default", name="Again"))
    assert told(refused.value)["code"] == "optimistic_locking_error"
    with pytest.raises(ConflictException):
        EnvironmentsApi(api.client()).post_environment(
            "default", EnvironmentPost(key="production", name="Again", color="000000")
        )


def test_what_cannot_be_is_a_bad_request_that_names_the_place(api: ManagementApi) -> None:
    with pytest.raises(BadRequestException) as refused:
        ProjectsApi(api.client()).post_project(
            ProjectPost(key="fine", name="Fine", environments=[EnvironmentPost(key="not a key", name="x", color="fff")])
        )
    assert told(refused.value)["code"] == "invalid_request"
    assert "/environments/0/key" in told(refused.value)["message"]


def test_only_admins_make_anything(api: ManagementApi) -> None:
    for token in (api.writer_token, AccessTokensApi(api.client()).post_token(AccessTokenPost(role="reader")).token):
        client = api.client(token)
        with pytest.raises(ForbiddenException):
            ProjectsApi(client).post_project(ProjectPost(key="mine", name="Mine"))
        with pytest.raises(ForbiddenException):
            ProjectsApi(client).delete_project("default")
        with pytest.raises(ForbiddenException):
            EnvironmentsApi(client).delete_environment("default", "production")
        with pytest.raises(ForbiddenException):
            AccessTokensApi(client).post_token(AccessTokenPost(role="admin"))
        with pytest.raises(ForbiddenException):
            AccessTokensApi(client).get_tokens()
    ProjectsApi(api.client()).get_project("default")


def test_a_token_that_nobody_knows_is_unauthorized(api: ManagementApi) -> None:
    with pytest.raises(UnauthorizedException) as refused:
        ProjectsApi(api.client("segsync-nobody-knows-this-one")).get_projects()
    assert told(refused.value)["code"] == "unauthorized"
