"""``/api/v2/integration-capabilities/big-segment-store``: the stores that SDKs read, as LaunchDarkly's integrations.

In beta at LaunchDarkly, so behind its gate here. Any role may read, admins may change. Stores of the kind
``launchdarkly`` are no integrations of this API, and never seen in it.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Path
from pydantic import WithJsonSchema

from worker.api.access import BETA_GATE, Administering, Caller, Reading
from worker.api.admission import create_router
from worker.api.errors import documented, refused
from worker.api.integration_config import KINDS, InvalidField, read_config
from worker.api.integration_form import (
    BASE,
    EDITABLE,
    Integration,
    IntegrationCollection,
    IntegrationPost,
    Patch,
    collection_form,
    integration_form,
    read_changes,
    unique,
)
from worker.api.integration_schema import BETA
from worker.api.json_patch import PatchRefused, apply_patch
from worker.api.service import Service, the_service
from worker.api.store_status import read_statuses
from worker.api.wire import EnvironmentKey, ProjectKey
from worker.model import StoreRecord
from worker.records.directory import Environment

# Another kind is a place that there is not: 404, which a type of its own would make 400.
Kind = Annotated[
    str,
    Path(alias="integrationKey", description="The kind of store"),
    WithJsonSchema({"type": "string", "enum": list(KINDS)}),
]
IntegrationId = Annotated[str, Path(alias="integrationId", description="The store's id")]
Serving = Annotated[Service, Depends(the_service)]

_MADE: Final = f"{BASE}/{{projectKey}}/{{environmentKey}}/{{integrationKey}}"
_ONE: Final = f"{_MADE}/{{integrationId}}"

router: APIRouter = create_router("Persistent store integrations (beta)")


@router.get(
    BASE,
    operation_id="getBigSegmentStoreIntegrations",
    response_model_exclude_none=True,
    responses=documented(404),
    dependencies=[BETA_GATE],
    openapi_extra=BETA,
)
def list_integrations(service: Serving, caller: Reading) -> IntegrationCollection:
    """List all store integrations, of all environments, oldest first."""
    environments = caller.directory.environments
    records = [
        record
        for record in caller.directory.stores
        if record.configuration.kind in KINDS and record.environment_id in environments
    ]
    statuses = read_statuses(service.wiring, records)
    return collection_form(
        [integration_form(record, environments[record.environment_id], statuses[record.store_id]) for record in records]
    )


@router.post(
    _MADE,
    operation_id="createBigSegmentStoreIntegration",
    status_code=201,
    response_model_exclude_none=True,
    responses=documented(400, 404, 409),
    dependencies=[BETA_GATE],
    openapi_extra=BETA,
)
def create_integration(
    *,
    service: Serving,
    caller: Administering,
    project_key: ProjectKey,
    environment_key: EnvironmentKey,
    integration_key: Kind,
    body: IntegrationPost,
) -> Integration:
    """Give an environment one more store. It is not tried, and fills itself once it is on."""
    environment = caller.environment(project_key, environment_key)
    if integration_key not in KINDS:
        raise refused(404, f"There is no kind of store {integration_key!r}; there are {', '.join(KINDS)}")
    try:
        configuration = read_config(integration_key, body.config)
    except InvalidField as error:
        raise refused(400, str(error)) from None
    made = service.wiring.store_records.add(
        environment.environment_id, body.name, configuration, on=body.on, tags=unique(body.tags)
    )
    return _form(service, made, environment)


@router.get(
    _ONE,
    operation_id="getBigSegmentStoreIntegration",
    response_model_exclude_none=True,
    responses=documented(404),
    dependencies=[BETA_GATE],
    openapi_extra=BETA,
)
def get_integration(
    *,
    service: Serving,
    caller: Reading,
    project_key: ProjectKey,
    environment_key: EnvironmentKey,
    integration_key: Kind,
    integration_id: IntegrationId,
) -> Integration:
    """Get a store integration."""
    environment = caller.environment(project_key, environment_key)
    return _form(service, _find(caller, environment, integration_key, integration_id), environment)


@router.patch(
    _ONE,
    operation_id="patchBigSegmentStoreIntegration",
    response_model_exclude_none=True,
    responses=documented(400, 404, 409, 422),
    dependencies=[BETA_GATE],
    openapi_extra=BETA,
)
def patch_integration(
    *,
    service: Serving,
    caller: Administering,
    project_key: ProjectKey,
    environment_key: EnvironmentKey,
    integration_key: Kind,
    integration_id: IntegrationId,
    body: Annotated[Patch, Body()],
) -> Integration:
    """Change a store integration by JSON Patch (RFC 6902): ``name``, ``on``, ``tags`` and ``config``.

    The operations see what a GET answers: secrets masked, and a mask that is left there keeps its secret. The version
    grows by one, unless nothing changes. Of patches at the same time one wins, and the others are answered 409.
    """
    environment = caller.environment(project_key, environment_key)
    record = _find(caller, environment, integration_key, integration_id)
    shown = _form(service, record, environment).model_dump(mode="json", exclude_none=True)
    try:
        changes = read_changes(apply_patch(shown, body, EDITABLE), record)
    except PatchRefused as refusal:
        raise refused(refusal.status, refusal.message) from None
    except InvalidField as error:
        raise refused(400, str(error)) from None
    changed = (
        service.wiring.store_records.set(record.store_id, expected_version=record.version, **changes)
        if changes
        else record
    )
    return _form(service, changed, environment)


@router.delete(
    _ONE,
    operation_id="deleteBigSegmentStoreIntegration",
    status_code=204,
    responses=documented(404, 409),
    dependencies=[BETA_GATE],
    openapi_extra=BETA,
)
def delete_integration(
    *,
    service: Serving,
    caller: Administering,
    project_key: ProjectKey,
    environment_key: EnvironmentKey,
    integration_key: Kind,
    integration_id: IntegrationId,
) -> None:
    """Remove a store integration: writes to it end within five seconds, what lies in the store stays there."""
    environment = caller.environment(project_key, environment_key)
    service.wiring.store_records.remove(_find(caller, environment, integration_key, integration_id).store_id)


def _find(caller: Caller, environment: Environment, kind: str, store_id: str) -> StoreRecord:
    """The store of that environment, kind and id.

    Raises:
        Refused: 404; also where it is under another path.
    """
    found = caller.directory.store(store_id)
    where = (environment.environment_id, kind)
    if found is None or kind not in KINDS or (found.environment_id, found.configuration.kind) != where:
        raise refused(404)
    return found


def _form(service: Service, record: StoreRecord, environment: Environment) -> Integration:
    return integration_form(record, environment, read_statuses(service.wiring, [record])[record.store_id])
