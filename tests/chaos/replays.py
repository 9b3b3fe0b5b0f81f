"""Replays and discards what died or was refused, in random order, by the product's own API and command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

import httpx2

from chaos.history import now
from chaos.manifests import INTEGRATIONS

_PATIENCE_SECONDS = 30.0
_INSIST_SECONDS = 120.0
_AWAY = frozenset({429, 503})
# A replay of one batch starts a process that parses it: of so many, each by itself.
_ONE_BY_ONE = 12
_AGAIN = 5
_SLICE = 75


class _Slice(NamedTuple):
    """The batches of one integration that were accepted in a time, in epoch milliseconds."""

    integration: str
    since: int
    until: int


class Replays:
    """Decides about batches that wait.

    Attributes:
        discarded: ids of the batches that it gave up.
        dead: ids of the batches that it saw dead.
        done: how many replays it was told of.
        problems: answers that there should not have been.
    """

    def __init__(self, urls: Sequence[str], admin_token: str, seed: int) -> None:
        self.discarded: set[str] = set()
        self.dead: set[str] = set()
        self.done = 0
        self.problems: list[str] = []
        self._asked: set[str] = set()
        self._slices: list[_Slice] = []
        self._urls = urls
        self._headers = {"Authorization": admin_token}
        self._dice = Random(f"{seed}:replays")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def asked_for(self, batch_id: str, integration: str, accepted_ms: int) -> bool:
        """Whether it ever asked for the replay of this batch, alone or with others."""
        return batch_id in self._asked or any(
            integration == asked.integration and asked.since <= accepted_ms < asked.until for asked in self._slices
        )

    def start(self) -> None:
        """Replay this and that until ``stop``; what fails then fails."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._replay_on, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2 * _PATIENCE_SECONDS)

    def replay_some(self, share: float) -> None:
        """Replay that share of what waits, some one by one, the rest by slices; give up a few.

        Insists: it is the product's duty to do the same thing only once.
        """
        waiting = self._dice.sample(found := self.waiting(), round(len(found) * share))
        for batch_id in waiting[: _ONE_BY_ONE // 4]:
            self._insist(f"/{batch_id}/discard", {"why": "chaos"})
            self.discarded.add(batch_id)
        for batch_id in waiting[_ONE_BY_ONE // 4 : _ONE_BY_ONE]:
            self._replay_one(batch_id)
        if len(waiting) > _ONE_BY_ONE:
            slices = list(self._slices_of_all())
            for each in self._dice.sample(slices, round(len(slices) * share)):
                self._replay_slice(each)

    def replay_the_rest(self, command: Callable[..., str]) -> None:
        """The same by command, with all that waits, in random order: every replay must succeed."""
        waiting = self.waiting()
        for batch_id in self._dice.sample(waiting, min(_ONE_BY_ONE // 4, len(waiting))):
            self._asked.add(batch_id)
            command("batches", "replay", batch_id, "--yes", "--json")
        slices = list(self._slices_of_all())
        for each in self._dice.sample(slices, len(slices)):
            self._slices.append(each)
            times = ("--since", _iso(each.since), "--until", _iso(each.until))
            command("batches", "replay", "--integration", each.integration, *times, "--yes", "--json")

    def waiting(self) -> list[str]:
        """The ids of all batches that wait for somebody's decision."""
        return list(dict.fromkeys(item["id"] for item in self._list()))

    def replay_some_again(self) -> None:
        """Replay what was replayed or given up, which must change nothing."""
        for batch_id in self._dice.sample(sorted(self._asked), min(_AGAIN, len(self._asked))):
            # What was asked for in a storm may have been discarded, or never kept.
            found = self._insist(f"/{batch_id}/replay", {"preview": False}, or_not_found=True)
            if found and found["replayed"]:
                self.problems.append(f"batch {batch_id} was replayed twice: {found}")

    def _replay_on(self) -> None:
        while not self._stop.wait(self._dice.uniform(1, 5)):
            page = self._ask("GET", "?limit=50")
            items = page["items"] if page else []
            for item in self._dice.sample(items, min(2, len(items))):
                self._asked.add(item["id"])
                self._note(self._ask("POST", f"/{item['id']}/replay", {"preview": self._dice.random() < 0.2}))
            if self._dice.random() < 0.3:
                until = round(now() * 1000) - self._dice.randrange(10_000)
                each = _Slice(self._dice.choice(INTEGRATIONS), until - self._dice.randrange(10_000), until)
                self._slices.append(each)
                self._note(self._ask("POST", "/replay", self._many(each)))

    def _replay_one(self, batch_id: str) -> None:
        self._asked.add(batch_id)
        self._note(self._insist(f"/{batch_id}/replay", {"preview": False}))

    def _replay_slice(self, each: _Slice) -> None:
        self._slices.append(each)
        before = None
        while True:
            found = self._insist("/replay", self._many(each) | ({"before": before} if before else {}))
            self._note(found)
            before = found["before"] if found else None
            if before is None:
                return

    def _slices_of_all(self) -> Iterator[_Slice]:
        """Everything that waits, in some pieces."""
        for integration in INTEGRATIONS:
            times = sorted(item["acceptedAt"] for item in self._list() if item["integrationKey"] == integration)
            cuts = [times[place] for place in range(0, len(times), _SLICE)]
            for since, until in zip(cuts, [*cuts[1:], times[-1] + 1] if times else [], strict=True):
                if since < until:
                    yield _Slice(integration, since, until)

    @staticmethod
    def _many(each: _Slice) -> dict[str, Any]:
        wanted = {"integrationKey": each.integration, "since": each.since, "until": each.until}
        return {"filter": wanted, "preview": False}

    def _list(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        before = ""
        while True:
            page = self._insist(f"?limit=200{before}")
            found = page["items"] if page else []
            self.dead |= {item["id"] for item in found if item["status"] == "dead"}
            items += found
            if not page or "next" not in page["_links"]:
                return items
            before = "&before=" + page["_links"]["next"]["href"].partition("before=")[2].partition("&")[0]

    def _note(self, found: dict[str, Any] | None) -> None:
        self.done += found.get("replayed", 0) if found and not found["preview"] else 0

    def _insist(
        self, path: str, body: dict[str, Any] | None = None, *, or_not_found: bool = False
    ) -> dict[str, Any] | None:
        """Ask until there is an answer."""
        until = now() + _INSIST_SECONDS
        while now() < until:
            found = self._ask("GET" if body is None else "POST", path, body, or_not_found=or_not_found)
            if found is not None:
                return found
            self._stop.wait(0.3)
        self.problems.append(f"no answer to {path} within {_INSIST_SECONDS:g} s")
        return None

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, or_not_found: bool = False
    ) -> dict[str, Any] | None:
        """One request; None when nobody answers, or somebody is away."""
        url = f"{self._dice.choice(self._urls)}/api/v2/batches{path}"
        try:
            answer = httpx2.request(method, url, json=body, headers=self._headers, timeout=_PATIENCE_SECONDS)
        except httpx2.TransportError:
            return None
        if answer.status_code in _AWAY:
            return None
        if answer.status_code != 200:
            if not (or_not_found and answer.status_code == 404):
                self.problems.append(f"{method} {path} was answered {answer.status_code}: {answer.text}")
            return {"items": [], "_links": {}, "preview": True, "before": None, "replayed": 0}
        found: dict[str, Any] = answer.json()
        return found


def _iso(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds")
