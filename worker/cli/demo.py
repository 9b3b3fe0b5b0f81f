"""``segsync demo``: every bundled partner's payload in, LaunchDarkly's own SDK out; exit 0 only if all agree."""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from worker.cli.connection import DataDir, Service, find_service
from worker.cli.console import console
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.wiring import Wiring

_COHORT_ID = "4711"  # a number: some partners' ids are
_APPLIED_WITHIN_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Verdict(NamedTuple):
    """What the SDK says after one partner's payloads."""

    integration_key: str
    segment_key: str
    payloads: int
    member: bool
    leaver: bool
    status: str

    @property
    def right(self) -> bool:
        """The member is in, the one who left is out, and the store counts as fresh."""
        return self.member and not self.leaver and self.status == "HEALTHY"


def command(
    data_dir: DataDir = None,
    own_stack: Annotated[
        bool, typer.Option("--own-stack", help="Start a service of its own on free ports, and stop it afterwards.")
    ] = False,
) -> None:
    """Send every bundled partner's payloads and evaluate a flag on each with LaunchDarkly's SDK."""
    stack: AbstractContextManager[Path | None] = nullcontext(data_dir)
    if own_stack:
        from worker.cli.own_stack import own_stack as started

        stack = started()
    with stack as directory:
        verdicts = run(find_service(directory))
    _print(verdicts)
    if not all(verdict.right for verdict in verdicts):
        raise typer.Exit(1)


def run(service: Service) -> list[Verdict]:
    """Send the payloads, wait until they are applied, evaluate.

    For each partner, one person is added and another is added and then removed; both are new with every run.

    Raises:
        Misconfigured: the service cannot be used for it; the message says why.
    """
    from worker.wiring import Wiring

    if service.url is None or service.writer_token is None or service.environment_id is None:
        raise Misconfigured("the demo needs a running `segsync up`: name its directory with --data-dir")
    wiring = Wiring(service.settings)
    try:
        run_id = secrets.token_hex(4)
        member, leaver = f"ann-{run_id}", f"bob-{run_id}"
        sent = _send_all(service.url, service.writer_token, service.environment_id, member, leaver)
        segment_keys = {key: wiring.segment_keys.allot(service.environment_id, key, [_COHORT_ID])[0] for key in sent}
        _wait_until_applied(wiring, service.environment_id, list(segment_keys.values()))
        seen = _evaluate(wiring, service.environment_id, list(segment_keys.values()), (member, leaver))
        return [Verdict(key, segment, sent[key], *seen[segment]) for key, segment in segment_keys.items()]
    finally:
        wiring.close()


def _send_all(url: str, token: str, environment_id: str, member: str, leaver: str) -> dict[str, int]:
    """Send each partner's payloads, in order; integration key -> how many."""
    import httpx2

    from worker.manifest.examples import Change, example, example_keys

    sent: dict[str, int] = {}
    with httpx2.Client(base_url=url, headers={"Authorization": token}, timeout=10) as client:
        for key in example_keys():
            arrivals = Change(environment_id, _COHORT_ID, "Demo cohort", [member, leaver], [])
            departures = Change(environment_id, _COHORT_ID, "Demo cohort", [], [leaver])
            bodies = example(key, arrivals) + example(key, departures)
            for body in bodies:
                try:
                    answer = client.post(f"/api/v2/segment-targets/{key}", json=body)
                except httpx2.HTTPError as error:
                    raise Misconfigured(f"the receiver at {url} does not answer: {error}") from None
                if not answer.is_success:
                    raise Misconfigured(f"{key}: the receiver answered {answer.status_code}: {answer.text}")
            sent[key] = len(bodies)
    return sent


def _wait_until_applied(wiring: Wiring, environment_id: str, segment_keys: list[str]) -> None:
    stores = [store.store_id for store in wiring.stores_of(environment_id)]
    deadline = time.monotonic() + _APPLIED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        statuses = list(wiring.upkeep.statuses(environment_id, segment_keys, stores))
        if all(store.settled for status in statuses for store in status.stores.values()):
            return
        time.sleep(_POLL_SECONDS)
    raise Misconfigured(f"not applied within {_APPLIED_WITHIN_SECONDS:g} s: is a worker running?")


def _evaluate(
    wiring: Wiring, environment_id: str, segment_keys: list[str], people: tuple[str, str]
) -> dict[str, tuple[bool, bool, str]]:
    """Segment key -> whether the SDK finds each of the two people in it, and what it thinks of the store."""
    try:
        from ldclient import Context
        from ldclient.client import LDClient
        from ldclient.config import BigSegmentsConfig, Config
        from ldclient.integrations import Files, Redis
    except ImportError:
        raise Misconfigured("the demo reads with LaunchDarkly's SDK: pip install 'segsync[demo]'") from None

    url, prefix = _redis_store(wiring, environment_id)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as flags:
        json.dump(demo_flags(segment_keys), flags)
        flags.flush()
        config = Config(
            "sdk-key-of-nobody",
            update_processor_class=Files.new_data_source(paths=[flags.name]),
            send_events=False,
            big_segments=BigSegmentsConfig(store=Redis.new_big_segment_store(url=url, prefix=prefix)),
        )
        client = LDClient(config)
        try:
            seen = {}
            for key in segment_keys:
                details = [client.variation_detail(key, Context.create(person), default=False) for person in people]
                status = str(details[0].reason.get("bigSegmentsStatus"))
                seen[key] = (details[0].value is True, details[1].value is True, status)
            return seen
        finally:
            client.close()  # type: ignore[no-untyped-call]


def _redis_store(wiring: Wiring, environment_id: str) -> tuple[str, str]:
    from worker.model import RedisStoreConfiguration

    for store in wiring.stores_of(environment_id):
        if isinstance(store.configuration, RedisStoreConfiguration):
            return store.configuration.url.get_secret_value(), store.configuration.prefix
    raise Misconfigured("the demo reads a Redis store, and the environment has none")


def demo_flags(segment_keys: list[str]) -> dict[str, Any]:
    """Flag data as LaunchDarkly sends it: per segment, a flag that is true for its members."""
    from worker.cli.flag_data import SegmentReference, flag_data, segment_data

    segments = [SegmentReference(key) for key in segment_keys]
    return {"segments": segment_data(segments), "flags": flag_data(segments)}


def _print(verdicts: list[Verdict]) -> None:
    from rich.table import Table

    table = Table(title="Sent by each partner, read back by LaunchDarkly's SDK", title_justify="left")
    for column in ("Integration", "Sent", "Member", "Leaver", "Store", ""):
        table.add_column(column, no_wrap=True)
    for verdict in verdicts:
        table.add_row(
            verdict.integration_key,
            str(verdict.payloads),
            "in" if verdict.member else "out",
            "in" if verdict.leaver else "out",
            verdict.status,
            "ok" if verdict.right else "WRONG",
        )
    console().print(table)
