"""What partners really send: for each bundled integration, a builder of its request bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Body = dict[str, Any]


class Change(NamedTuple):
    """A change of one cohort's membership, as a partner knows it."""

    environment_id: str
    cohort_id: str
    cohort_name: str
    add: list[str]
    remove: list[str]

    @property
    def by_direction(self) -> Iterable[tuple[bool, list[str]]]:
        """The directions that have members: (added, members). With none, one empty addition, as partners send."""
        return [(True, self.add)] * bool(self.add or not self.remove) + [(False, self.remove)] * bool(self.remove)


def example(key: str, change: Change) -> list[Body]:
    """The bodies, in the order sent, by which the partner behind ``key`` tells of ``change``.

    One body, except where a body has a single action for all its members: there an addition and a removal are two.

    Raises:
        KeyError: no bundled integration has this key.
    """
    return _BUILDERS[key](change)


def example_keys() -> list[str]:
    """The integration keys that have an example: all bundled ones."""
    return sorted(_BUILDERS)


def _amplitude(change: Change) -> list[Body]:
    cohort = {
        "cohortId": change.cohort_id,
        "cohortName": change.cohort_name,
        "cohortUrl": f"https://app.amplitude.com/analytics/demo/cohort/{change.cohort_id}",
    }
    return [{"environmentId": change.environment_id, "batch": _flagged(change, "userId", cohort)}]


def _segment(change: Change) -> list[Body]:
    cohort = {"cohortName": change.cohort_name, "cohortId": change.cohort_id}
    batch = _flagged(change, "userId", cohort)
    return [{"environmentId": change.environment_id, "contextKind": "user", "batch": batch}]


def _census(change: Change) -> list[Body]:
    batch = _flagged(change, "user_id", {"cohort_id": change.cohort_id, "cohort_name": change.cohort_name})
    return [{"environment_id": change.environment_id, "context_kind": "user", "batch": batch}]


def _two_arrays(name: str) -> Callable[[Change], list[Body]]:
    def build(change: Change) -> list[Body]:
        arrays = {"add": _members(change.add, "id"), "remove": _members(change.remove, "id")}
        return [{**_cohort(change), name: arrays}]

    return build


def _heap(change: Change) -> list[Body]:
    # Heap's segment ids are numbers, and an array without members is not sent.
    cohort_id = int(change.cohort_id) if change.cohort_id.isdecimal() else change.cohort_id
    arrays = {"add": _members(change.add, "id"), "remove": _members(change.remove, "id")}
    data = {
        "segment": {"id": cohort_id, "name": change.cohort_name},
        "sync_info": {"page_number": 1, "total_pages": 1, "sync_task_id": "8f14e45f"},
        **{name: members for name, members in arrays.items() if members},
    }
    return [{"parameters": {"environment_id": change.environment_id}, "heap": {"data": data}}]


def _example_1(change: Change) -> list[Body]:
    workspace = {"id": change.environment_id, "display_name": "Workspace 1"}
    data = {
        "segment": {"id": change.cohort_id, "name": change.cohort_name},
        "add": _members(change.add, "id"),
        "remove": _members(change.remove, "id"),
    }
    fields = [{"field_id": "workspace", "field_display_name": "Workspace", "value": workspace}]
    return [{"action_type": "segment.users.sync", "customer_config": {"fields": fields}, "data": data}]


def _hightouch(change: Change) -> list[Body]:
    return [
        {
            **_cohort(change),
            "action": "add" if added else "remove",
            "members": _members(members, "integration_distinct_id"),
        }
        for added, members in change.by_direction
    ]


def _parameters(prefix: str, member_id: str, actions: tuple[str, str]) -> Callable[[Change], list[Body]]:
    """Bodies with an ``action`` (``actions``: the one that adds, the one that removes) and ``parameters``."""

    def build(change: Change) -> list[Body]:
        cohort = {
            f"{prefix}_project_id": change.environment_id,
            f"{prefix}_cohort_id": change.cohort_id,
            f"{prefix}_cohort_name": change.cohort_name,
        }
        return [
            {
                "action": actions[0] if added else actions[1],
                "parameters": {**cohort, "members": _members(members, member_id)},
            }
            for added, members in change.by_direction
        ]

    return build


def _mixpanel(change: Change) -> list[Body]:
    # A cohort of up to 1,000 members is one page; what was exported at once has one session id.
    return [
        {
            "action": "add_members" if added else "remove_members",
            "parameters": {
                "mixpanel_project_id": change.environment_id,
                "mixpanel_cohort_name": change.cohort_name,
                "mixpanel_cohort_id": change.cohort_id,
                "mixpanel_cohort_description": "",
                "mixpanel_session_id": "5b2f1c9e",
                "page_info": {"total_pages": 1, "page_count": 1},
                "members": [{**member, "email": ""} for member in _members(members, "mixpanel_distinct_id")],
            },
        }
        for added, members in change.by_direction
    ]


def _cohort(change: Change) -> Body:
    return {
        "environmentId": change.environment_id,
        "cohortId": change.cohort_id,
        "cohortName": change.cohort_name,
        "contextKind": "user",
    }


def _members(ids: list[str], key: str) -> list[Body]:
    return [{key: member_id} for member_id in ids]


def _flagged(change: Change, key: str, cohort: Body) -> list[Body]:
    directions = ((True, change.add), (False, change.remove))
    return [{key: member_id, **cohort, "value": added} for added, ids in directions for member_id in ids]


_BUILDERS: dict[str, Callable[[Change], list[Body]]] = {
    "amplitude": _amplitude,
    "census-synced-segments": _census,
    "example-synced-segment-integration1": _example_1,
    "example-synced-segment-integration2": _parameters(
        "mixpanel", "mixpanel_distinct_id", ("add_members", "remove_members")
    ),
    "fulcrum": _two_arrays("included"),
    "heap-inbound": _heap,
    "hightouch": _hightouch,
    "mixpanel": _mixpanel,
    "rudderstack": _two_arrays("listData"),
    "segment-audiences": _segment,
    "sumatra-synced-segments": _two_arrays("included"),
    "tealium-synced-segments": _parameters("tealium", "member_id", ("add_member", "remove_member")),
    "zeotap": _parameters("integration", "integration_distinct_id", ("add_members", "remove_members")),
}
