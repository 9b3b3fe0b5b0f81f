"""The manifests of a run: three shapes, and what becomes of each when it is broken."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

Parser = dict[str, Any]

_PARSERS: dict[str, Parser] = {
    "chaos-split": {
        "environmentIdPath": "/environment",
        "cohortIdPath": "/cohort/id",
        "cohortNamePath": "/cohort/name",
        "addMemberArrayPath": "/add",
        "removeMemberArrayPath": "/remove",
        "memberArrayParser": {"memberIdPath": "/id"},
    },
    "chaos-flags": {
        "environmentIdPath": "/environment",
        "cohortIdPath": "/batch/0/cohort",
        "cohortNamePath": "/batch/0/cohortName",
        "memberArrayPath": "/batch",
        "memberArrayParser": {
            "memberIdPath": "/id",
            "booleanMembershipPath": "/in",
            "cohortIdPath": "/cohort",
            "cohortNamePath": "/cohortName",
        },
    },
    "chaos-action": {
        "environmentIdPath": "/environment",
        "cohortIdPath": "/cohort",
        "cohortNamePath": "/cohort",
        "memberArrayPath": "/members",
        "memberArrayParser": {"memberIdPath": ""},
        "arrayInclusion": {"path": "/action", "matcher": "^enter$"},
    },
}
INTEGRATIONS = tuple(_PARSERS)


class Manifests:
    """The directory of a run's manifests. Every change replaces a file whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._edition = 0
        for integration in INTEGRATIONS:
            self.mend(integration)

    def mend(self, integration: str) -> None:
        """The manifest as it should be. Each time another one, of the same meaning: batches keep their own."""
        self._edition += 1
        parser = copy.deepcopy(_PARSERS[integration])
        parser["cohortUrlPath"] = f"/url/{self._edition % 3}"
        self._write(integration, _manifest(parser))

    def refuse(self, integration: str) -> None:
        """A manifest that can be read and is wrong: every body is answered 400."""
        self._edition += 1
        parser = copy.deepcopy(_PARSERS[integration])
        if self._edition % 2:
            parser["memberArrayParser"]["memberIdPath"] = "/not/there"
        else:
            parser["cohortIdPath"] = "/not/there"
        self._write(integration, _manifest(parser))

    def spoil(self, integration: str) -> None:
        """A file that is no manifest: every body is answered 503."""
        self._write(integration, "{")

    def _write(self, integration: str, text: str) -> None:
        path = self.directory / f"{integration}.json"
        draft = path.with_suffix(".draft")
        draft.write_text(text)
        os.replace(draft, path)  # noqa: PTH105 - what counts is that it is atomic


def _manifest(parser: Parser) -> str:
    return json.dumps({"name": "Chaos", "capabilities": {"syncedSegment": {"requestParser": parser}}})
