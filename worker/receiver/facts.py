"""What a manifest's template is told of one request: the same facts, whether it is answered or only explained."""

from __future__ import annotations

from worker.manifest.response.template import ResponseFacts
from worker.receiver.refusals import Refused


def accepted_facts(
    body: bytes, *, base_url: str, project_key: str, environment_key: str, segment_key: str
) -> ResponseFacts:
    """The facts of a payload that was accepted.

    Args:
        body: the request's bytes, decompressed.
        base_url: where the receiver was reached, with a slash at its end.
        project_key: of the payload's environment.
        environment_key: of the payload's environment.
        segment_key: the segment of the payload's own cohort.
    """
    return ResponseFacts(
        request_body=body,
        status_code=200,
        project_key=project_key,
        environment_key=environment_key,
        segment_key=segment_key,
        segment_url=f"{base_url}{project_key}/{environment_key}/segments/{segment_key}",
    )


def refused_facts(body: bytes, refused: Refused) -> ResponseFacts:
    """The facts of a payload that was refused; the body is empty unless it was read whole."""
    return ResponseFacts(request_body=body, status_code=refused.status, error_message=refused.message)
