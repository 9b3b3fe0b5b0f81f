"""One requestParser of each mode, as a manifest has it."""

from __future__ import annotations

from typing import Any

BOOLEAN: dict[str, Any] = {
    "environmentIdPath": "/environmentId",
    "cohortIdPath": "/batch/0/cohortId",
    "cohortNamePath": "/batch/0/cohortName",
    "memberArrayPath": "/batch",
    "memberArrayParser": {"memberIdPath": "/userId", "booleanMembershipPath": "/value"},
}
SPLIT: dict[str, Any] = {
    "environmentIdPath": "/environmentId",
    "cohortIdPath": "/cohortId",
    "cohortNamePath": "/cohortName",
    "addMemberArrayPath": "/add",
    "removeMemberArrayPath": "/remove",
    "memberArrayParser": {"memberIdPath": "/id"},
}
INCLUSION: dict[str, Any] = {
    "environmentIdPath": "/environmentId",
    "cohortIdPath": "/cohortId",
    "cohortNamePath": "/cohortName",
    "memberArrayPath": "/members",
    "arrayInclusion": {"path": "/action", "matcher": "^add$"},
    "memberArrayParser": {"memberIdPath": "/id"},
}
