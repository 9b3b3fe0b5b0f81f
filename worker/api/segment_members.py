"""``/api/v2/segments/…/contexts``: who is in a segment, asked and changed by hand. ``/users`` is the same.

Source: https://launchdarkly.com/docs/api/segments/update-big-segment-context-targets
"""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import Field, StringConstraints

from worker.api.admission import create_router
from worker.api.errors import documented
from worker.api.segment_access import AboutSegment, actions_of, segment_id
from worker.api.segments import OF_A_SEGMENT
from worker.api.wire import Asked, Told
from worker.log.changes import ManualChange
from worker.sync.csv_keys import MOST_KEY_CHARACTERS
from worker.sync.membership import membership

router: APIRouter = create_router("Segments")

# What imports take, so that what was exported can be imported. Partners' own may be longer, and can be removed.
AddedKey = Annotated[str, StringConstraints(min_length=1, max_length=MOST_KEY_CHARACTERS)]
RemovedKey = Annotated[str, StringConstraints(min_length=1)]


class ListForm(Asked):
    """Context keys to add to a list, and to remove from it; one that is in both is removed."""

    add: list[AddedKey] | None = None
    remove: list[RemovedKey] | None = None


class ChangeForm(Asked):
    """What is to become of a segment's two lists."""

    included: ListForm | None = None
    excluded: ListForm | None = None


class MembershipForm(Told):
    """In which lists of a segment a context stands; who is in both is in the segment."""

    user_key: str = Field(description="The context key that was asked about, of whatever kind")
    included: bool
    excluded: bool


@router.post(
    f"{OF_A_SEGMENT}/contexts",
    operation_id="updateBigSegmentContextTargets",
    status_code=204,
    response_class=Response,
    responses=documented(400, 404, 413, 415),
)
@router.post(
    f"{OF_A_SEGMENT}/users",
    operation_id="updateBigSegmentTargets",
    status_code=204,
    response_class=Response,
    responses=documented(400, 404, 413, 415),
)
def change(asked: AboutSegment, body: ChangeForm) -> None:
    """Add contexts to the lists of a segment, and remove them: one entry of its log, in order with all others."""
    included, excluded = body.included or ListForm(), body.excluded or ListForm()
    wanted = ManualChange(
        uuid.uuid4().hex,
        add=included.add or (),
        remove=included.remove or (),
        add_excluded=excluded.add or (),
        remove_excluded=excluded.remove or (),
    )
    actions = actions_of(wanted)
    environment, listed = asked.changed(*(actions or ("updateIncluded",)))
    if actions:
        asked.change_members(environment, listed, wanted)


@router.get(
    f"{OF_A_SEGMENT}/contexts/{{contextKey:path}}",
    operation_id="getSegmentMembershipForContext",
    responses=documented(400, 404),
)
@router.get(
    f"{OF_A_SEGMENT}/users/{{contextKey:path}}",
    operation_id="getSegmentMembershipForUser",
    responses=documented(400, 404),
)
def show(
    asked: AboutSegment,
    context_key: Annotated[str, Path(alias="contextKey", min_length=1, description="The context's key")],
) -> MembershipForm:
    """Whether a context stands in the segment's lists, read from a store as SDKs read it."""
    environment, listed = asked.viewed()
    found = membership(asked.service.wiring, segment_id(environment, listed), context_key)
    return MembershipForm(user_key=context_key, included=found.included, excluded=found.excluded)
