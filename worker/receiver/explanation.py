"""What one payload would do and be answered, told without a server; the decoder and the answers are the webhook's."""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType
from starlette.responses import Response

from worker.errors import InvalidBatch
from worker.manifest.manifest import BrokenManifest, Manifest
from worker.manifest.response.template import ResponseFacts, UnrenderableResponse
from worker.model import DEFAULT_MEMBER_POLICY, Cohort, MemberPolicy, Payload, Rejections
from worker.receiver.answers import error_answer, success_answer
from worker.receiver.facts import accepted_facts, refused_facts
from worker.receiver.refusals import Refused, bad_request, too_large, unusable_manifest
from worker.records.records import DEFAULT_ENVIRONMENT, DEFAULT_PROJECT
from worker.records.segment_keys import wished_keys

# Where the payload is thought to arrive, which only templates mention: a receiver started here, as it comes.
BASE_URL = "http://127.0.0.1:8080/"


class Answer(Struct):
    """What the partner gets: the status, and the body's JSON as it is sent (null: there is none).

    ``problem`` is there when the manifest has a template that did not come out as JSON, and says why.
    """

    status: int
    body: Raw
    problem: str | UnsetType = UNSET


class SegmentChange(Struct, rename="camel"):
    """What becomes of one segment; ids stand in the order in which the body first names them."""

    segment_key: str
    cohort_id: str
    cohort_name: str | None
    cohort_url: str | None
    add: list[str]
    remove: list[str]


class Unreadable(Struct):
    """A member that was left out: where its fault lies in the body, and the reason's slug."""

    pointer: str
    reason: str


class Accepted(Struct, rename="camel", kw_only=True):
    """A payload that is accepted; ``msgspec.json.encode`` gives the form that `segsync manifest explain` prints.

    ``rejected`` has the first hundred members that were left out; where there are more, ``rejected_count`` has them
    all counted.
    """

    ok: bool = True
    environment_id: str
    context_kind: str
    segments: list[SegmentChange]
    rejected: list[Unreadable]
    rejected_count: int | UnsetType = UNSET
    response: Answer


class ManifestFault(Struct):
    """What is wrong with the manifest, and where."""

    pointer: str
    message: str


class Error(Struct):
    """Why a payload is refused; ``faults`` are the manifest's, when that is the reason."""

    pointer: str | None
    reason: str
    message: str
    faults: list[ManifestFault] | UnsetType = UNSET


class Rejected(Struct, kw_only=True):
    """A payload that is refused."""

    ok: bool = False
    error: Error
    response: Answer


Explanation = Accepted | Rejected


def explain(
    manifest: Manifest | BrokenManifest,
    body: bytes,
    *,
    policy: MemberPolicy = DEFAULT_MEMBER_POLICY,
    max_body_bytes: int | None = None,
    base_url: str = BASE_URL,
    project_key: str = DEFAULT_PROJECT,
    environment_key: str = DEFAULT_ENVIRONMENT,
) -> Explanation:
    """Say what a body would do, sent with a good token to an environment that exists.

    What only a service can know is left out: a segment key that another cohort has already, a segment of another
    context kind.

    Args:
        manifest: the integration that receives it.
        body: the bytes, decompressed.
        policy: what becomes of members that cannot be read.
        max_body_bytes: the receiver's bound; None for no bound.
        base_url: where the receiver is reached, with a slash at its end.
        project_key: of the environment.
        environment_key: of the environment.
    """
    if not isinstance(manifest, Manifest):
        faults = [ManifestFault(fault.pointer, fault.message) for fault in manifest.faults]
        refused = unusable_manifest()
        return _rejected(refused, _answer(error_answer(refused.status, refused.message)), faults)
    if max_body_bytes is not None and len(body) > max_body_bytes:
        return _refused(manifest, b"", too_large(max_body_bytes))
    try:
        payload = manifest.decoder.decode(body, policy)
    except InvalidBatch as error:
        return _refused(manifest, body, bad_request(error))
    segments = [_change(manifest.key, cohort) for cohort in payload.cohorts]
    facts = accepted_facts(
        body,
        base_url=base_url,
        project_key=project_key,
        environment_key=environment_key,
        segment_key=segments[0].segment_key,
    )
    body_of_answer, problem = _rendered(manifest, facts)
    return _accepted(payload, segments, _answer(success_answer(body_of_answer), problem))


def unreadable_members(manifest: Manifest, body: bytes) -> Rejections:
    """The members of a body that cannot be read; none when a fault of the payload itself stands before them."""
    try:
        return manifest.decoder.decode(body, "skip").rejected
    except InvalidBatch:
        return Rejections()


def _change(integration_key: str, cohort: Cohort) -> SegmentChange:
    return SegmentChange(
        segment_key=wished_keys(integration_key, cohort.cohort_id)[0],
        cohort_id=cohort.cohort_id,
        cohort_name=cohort.name,
        cohort_url=cohort.url,
        add=[member for member, added in cohort.members.items() if added],
        remove=[member for member, added in cohort.members.items() if not added],
    )


def _rendered(manifest: Manifest, facts: ResponseFacts) -> tuple[bytes | None, str | UnsetType]:
    """The manifest's own body for an answer, if it has one; and why it has to do without, if its template failed."""
    if manifest.response_template is None:
        return None, UNSET
    try:
        return manifest.response_template.render(facts), UNSET
    except UnrenderableResponse as error:
        return None, str(error)


def _accepted(payload: Payload, segments: list[SegmentChange], response: Answer) -> Accepted:
    count, listed = payload.rejected.count, payload.rejected.listed
    return Accepted(
        environment_id=payload.environment_id,
        context_kind=payload.context_kind,
        segments=segments,
        rejected=[Unreadable(member.pointer, member.reason) for member in listed],
        rejected_count=count if count > len(listed) else UNSET,
        response=response,
    )


def _refused(manifest: Manifest, body: bytes, refused: Refused) -> Rejected:
    own, problem = _rendered(manifest, refused_facts(body, refused))
    return _rejected(refused, _answer(error_answer(refused.status, refused.message, body=own), problem))


def _rejected(refused: Refused, response: Answer, faults: list[ManifestFault] | UnsetType = UNSET) -> Rejected:
    error = Error(refused.pointer, refused.reason, refused.message, faults)
    return Rejected(error=error, response=response)


def _answer(response: Response, problem: str | UnsetType = UNSET) -> Answer:
    return Answer(response.status_code, Raw(bytes(response.body) or b"null"), problem)
