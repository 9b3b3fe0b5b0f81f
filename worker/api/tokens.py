"""``/api/v2/tokens``: access tokens, in LaunchDarkly's form. Only admins make, list and remove them.

A token is shown in the answer to the request that made it; nobody can be told again, for only its hash is kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field, StringConstraints

from worker.api.access import Administering, Asking
from worker.api.admission import create_router
from worker.api.errors import documented, refused
from worker.api.service import Service, the_service
from worker.api.wire import Asked, Limit, Links, Offset, Told, links, page_links
from worker.records.directory import Role, Token
from worker.records.rights import read_statements

BASE: Final = "/api/v2/tokens"
# LaunchDarkly's tokens belong to members of an account, and its clients require an id; here, nobody has one.
NO_MEMBER: Final = "0" * 24

TokenId = Annotated[str, Path(alias="id", description="The token's id")]
_Action = Annotated[str, StringConstraints(pattern=r"^[A-Za-z*]+$", max_length=1024)]
_Resource = Annotated[
    str,
    StringConstraints(pattern=r"^proj/[A-Za-z0-9_.*;,-]+(:env/[A-Za-z0-9_.*;,-]+(:segment/[A-Za-z0-9_.*;,-]+)?)?$"),
    Field(max_length=1024),
]
_Listed = Annotated[list[_Action], Field(max_length=64)]
_Named = Annotated[list[_Resource], Field(max_length=64)]


class AskedStatement(Asked):
    """A statement of an inline role: actions or all but those, on resources or all but those."""

    effect: Literal["allow", "deny"]
    actions: _Listed | None = None
    not_actions: _Listed | None = None
    resources: _Named | None = None
    not_resources: _Named | None = None


class AskedToken(Asked):
    """A token to make: with a role, or with an inline role."""

    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    description: Annotated[str, StringConstraints(max_length=4096)] | None = None
    role: Role | None = None
    inline_role: Annotated[list[AskedStatement], Field(max_length=64)] | None = None
    service_token: bool | None = None
    default_api_version: Annotated[int, Field(ge=0, le=99_999_999)] | None = None
    # What would give the token less than is asked for must not be overlooked.
    custom_role_ids: Annotated[list[str], Field(max_length=0)] | None = Field(
        default=None, description="There are no custom roles here; say inlineRole"
    )
    expiry: None = Field(default=None, description="Tokens do not expire here; remove them")


class StatementForm(Told):
    """A statement of an inline role."""

    effect: Literal["allow", "deny"]
    actions: list[str] | None = None
    not_actions: list[str] | None = None
    resources: list[str] | None = None
    not_resources: list[str] | None = None


class TokenForm(Told):
    """A token."""

    links: Links = Field(alias="_links")
    id: str = Field(alias="_id")
    owner_id: str = Field(default=NO_MEMBER, description="Nobody: there are no members here")
    member_id: str = Field(default=NO_MEMBER, description="Nobody: there are no members here")
    name: str | None = None
    description: str | None = None
    creation_date: int = Field(description="Epoch milliseconds")
    last_modified: int = Field(description="Epoch milliseconds")
    role: Role | None = None
    inline_role: list[StatementForm] | None = None
    token: str = Field(description="The token itself in the answer that made it, later its last four characters")
    service_token: bool
    default_api_version: int | None = None
    last_used: int | None = Field(default=None, description="Epoch milliseconds, a minute or two ago at the most")


class TokensForm(Told):
    """A page of tokens."""

    links: Links = Field(alias="_links")
    items: list[TokenForm]
    total_count: int


router: APIRouter = create_router("Access tokens")


@router.get(BASE, operation_id="getTokens", response_model_exclude_none=True)
def list_tokens(
    caller: Administering, service: Annotated[Service, Depends(the_service)], limit: Limit = 25, offset: Offset = 0
) -> TokensForm:
    """List all tokens, oldest first."""
    found = sorted(caller.directory.tokens.values(), key=lambda token: (token.created_ms, token.id))
    used = service.last_used()
    return TokensForm(
        links=page_links(BASE, limit, offset, len(found)),
        items=[_form(token, used.get(token.id)) for token in found[offset : offset + limit]],
        total_count=len(found),
    )


@router.post(
    BASE,
    operation_id="postToken",
    status_code=201,
    responses=documented(409, 413, 415),
    response_model_exclude_none=True,
)
def add_token(
    asked: AskedToken, _caller: Administering, service: Annotated[Service, Depends(the_service)]
) -> TokenForm:
    """Make a token, and show it, this once."""
    statements = [each.model_dump(by_alias=True) for each in asked.inline_role or ()]
    made, plain = service.tokens.add(
        asked.name or "",
        role=asked.role,
        inline_role=read_statements(statements) if statements else (),
        description=asked.description or "",
        service=bool(asked.service_token),
        api_version=asked.default_api_version,
    )
    return _form(made, None, plain)


@router.get(f"{BASE}/{{id}}", operation_id="getToken", responses=documented(404), response_model_exclude_none=True)
def show_token(token_id: TokenId, caller: Asking, service: Annotated[Service, Depends(the_service)]) -> TokenForm:
    """Show a token; any token may see itself."""
    if caller.token.role != "admin" and caller.token.id != token_id:
        raise refused(403, "Forbidden. A token may see itself; all others need a token with the role admin.")
    found = caller.directory.token_by_id(token_id)
    if found is None:
        raise refused(404)
    return _form(found, service.last_used().get(found.id))


@router.delete(f"{BASE}/{{id}}", operation_id="deleteToken", status_code=204, responses=documented(404))
def remove_token(
    token_id: TokenId, _caller: Administering, service: Annotated[Service, Depends(the_service)]
) -> Response:
    """Remove a token: nobody can use it any more."""
    service.tokens.remove(token_id)
    return Response(status_code=204)


def _form(token: Token, used_ms: int | None, plain: str | None = None) -> TokenForm:
    return TokenForm(
        links=links(self=f"{BASE}/{token.id}", parent=BASE),
        id=token.id,
        name=token.name or None,
        description=token.description or None,
        creation_date=token.created_ms,
        last_modified=token.created_ms,
        role=token.role,
        inline_role=[_statement(each.model_dump()) for each in token.inline_role] or None,
        token=plain or token.hint,
        service_token=token.service,
        default_api_version=token.api_version,
        last_used=used_ms,
    )


def _statement(fields: dict[str, Any]) -> StatementForm:
    return StatementForm.model_validate(
        {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items() if value}
    )
