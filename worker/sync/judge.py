"""What becomes of each entry that a drain reads: its members, or a dead letter, or neither while the brake is on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
import structlog

from worker.errors import InvalidBatch, Unavailable
from worker.log.dead import DeadLetter
from worker.log.entry import Entry
from worker.log.lease import Behind, Lease
from worker.log.names import included_names
from worker.log.parsers import read_parser
from worker.sync.isolation import IsolatedParser, ParserCrashed
from worker.sync.members import read_in_pieces
from worker.wiring import Wiring

# So often may a batch kill the process that parses it, alone, before it is dead.
MOST_CRASHES = 3
# So many of the batches that wait are tried before a brake is let go.
PROBE_ENTRIES = 10
SLOW_DEATHS = {"crashed"}
# Entries that came through the integration, from its partner.
PARTNERS = {"body", "slice"}

_log = structlog.get_logger(__name__)


class Braked(Exception):
    """Raised when most batches of an integration die: what waits is left as it is, for the deploy may be at fault."""


class Judge:
    """One drain's judgement of its entries.

    Only a fault of the batch's own kills it. A parser that is missing, an entry of a newer version, memory that runs
    out: these are the deployment's, and the batch waits until they are put right.

    After a drain whose lease expired, entries are parsed in a process of their own: perhaps one of them killed the last
    worker. Who does so alone, three times, is dead; a worker that was killed by others never gets to count.
    """

    def __init__(self, wiring: Wiring, lease: Lease) -> None:
        self._wiring = wiring
        self._lease = lease
        self._isolated = IsolatedParser() if lease.suspect else None
        self._lived = 0
        self.dead = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._isolated is not None:
            self._isolated.close()

    def check_brake(self) -> None:
        """Let the drain go on, or not; whose turn it is tries whether the next batches would live.

        A store that lacks what the snapshot has is given that in any case: it was read before.

        Raises:
            Braked: the brake is on.
            Unavailable: the state server is away.
        """
        brakes, where = self._wiring.brakes, self._where()
        if not brakes.engaged(*where):
            return
        try:
            entries = self._lease.read(most_bytes=1024 * 1024, most_entries=PROBE_ENTRIES)
        except Behind:
            return
        if not brakes.probe_due(*where):
            raise Braked
        try:
            lives, reason = self._probe(entries)
        except BaseException:
            brakes.abstained(*where)
            raise
        if lives is None:
            brakes.abstained(*where)
            return
        brakes.probed(*where, ok=lives, reason=reason)
        if not lives:
            raise Braked

    def _probe(self, entries: Sequence[Entry]) -> tuple[bool | None, str]:
        """Whether most of these would live, and why the last that would not does not; None where there is nobody."""
        faults: list[str | None] = []
        with IsolatedParser() as isolated:  # among what waits may be one that kills whoever parses it
            for entry in entries:
                if not entry.dead and entry.kind in PARTNERS:  # what people made says nothing of the integration
                    faults.append(self._fault(isolated, entry))
                    if faults[-1] in SLOW_DEATHS:  # it may have taken half a minute, and the right to probe has an end
                        break
        reasons = [fault for fault in faults if fault is not None]
        if not faults:
            return None, ""
        return 2 * len(reasons) < len(faults), reasons[-1] if reasons else ""

    def members(self, entry: Entry) -> Iterable[Mapping[str, bool]]:
        """What an entry says, in names; one that can never be read is dead from now on, for all stores.

        A large one says it in pieces, of which the last that names a member decides; judged is all of it, here.

        Raises:
            Braked: it would be dead, but so are most of the others.
            LeaseLost: the drain's lease is gone.
            ParserInterrupted: the worker is being stopped; nothing is known of the entry.
            Unavailable: the state server is away, or a parser cannot be had.
        """
        self._lease.renew()
        try:
            said = self._parse(entry)
        except InvalidBatch as error:
            self._bury(entry, DeadLetter("dead", error.reason, error.message, error.pointer))
            return []
        self._lived += entry.kind in PARTNERS
        return said

    def note_lived(self) -> None:
        """Tell the brake of the entries that were read since the last call."""
        if self._lived:
            self._wiring.brakes.lived(*self._where(), count=self._lived)
            self._lived = 0

    def _where(self) -> tuple[str, str]:
        return self._lease.segment.environment_id, self._lease.integration_key

    def _parse(self, entry: Entry) -> Iterable[Mapping[str, bool]]:
        if self._isolated is None or entry.kind != "body":
            return read_in_pieces(self._wiring, entry)
        crashes = 0
        while True:
            try:
                return [included_names(self._parse_alone(self._isolated, entry))]
            except ParserCrashed as error:
                crashes = max(crashes + 1, self._lease.count_crash(entry))
                _log.error("batch.crashed", batch_id=entry.batch_id, segment=self._lease.segment.ref, how=error.how)
                if crashes >= MOST_CRASHES:
                    message = f"Parsing it brought down the process that did, {crashes} times: it {error.how}"
                    raise InvalidBatch("crashed", message) from error

    def _parse_alone(self, isolated: IsolatedParser, entry: Entry) -> dict[str, bool]:
        text = read_parser(self._wiring.client, entry.parser_digest)
        if text is None:
            raise Unavailable(f"the state server does not have requestParser {entry.parser_digest}", dependency="state")
        payload = isolated.parse(text, entry.content(), entry.policy, meanwhile=self._lease.renew)
        return payload.cohorts[0].members

    def _fault(self, isolated: IsolatedParser, entry: Entry) -> str | None:
        """Why an entry would die; None when it would not."""
        self._lease.renew()
        if entry.kind == "slice":
            return None
        try:
            self._parse_alone(isolated, entry)
        except InvalidBatch as error:
            return error.reason
        except ParserCrashed:
            return "crashed"
        return None

    def _bury(self, entry: Entry, letter: DeadLetter) -> None:
        self.note_lived()
        if self._wiring.brakes.died(*self._where(), reason=letter.reason):
            raise Braked
        wiring, segment = self._wiring, self._lease.segment
        whole = msgspec.structs.replace(
            letter,
            batch_id=entry.batch_id,
            integration_key=entry.integration_key,
            size_bytes=len(entry.data),
            attempts=MOST_CRASHES if letter.reason == "crashed" else 1,
            died_ms=wiring.upkeep.server_ms(),
        )
        if self._lease.bury(entry, whole):
            self.dead += 1
            wiring.dead_letters.index(segment, entry.entry_id, entry.batch_id)
            _log.error(
                "batch.dead",
                batch_id=entry.batch_id,
                segment=segment.ref,
                reason=letter.reason,
                pointer=letter.pointer,
                message=letter.message,
            )
