"""What brakes tell of themselves: plain values for commands and status pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class BrakeState:
    """What a status page says of an engaged brake.

    Attributes:
        since_ms: when it was engaged; like all times here by the state server's clock.
        reason: of the last death, or of the last probe that failed.
        dead: how many batches had died when it was engaged, ``of`` how many.
        by: host and process that engaged it.
        probes: how many probes have failed since.
        next_probe_ms: when the next probe may come.
        due: that time has come, and nobody probes.
    """

    environment_id: str
    integration_key: str
    since_ms: int
    reason: str
    dead: int
    of: int
    by: str
    probes: int
    next_probe_ms: int
    due: bool


@dataclass(slots=True, frozen=True)
class LetDie:
    """An integration that a person has said may not be braked for now, however many of its batches die.

    Attributes:
        until_ms: by the state server's clock.
    """

    environment_id: str
    integration_key: str
    until_ms: int


@dataclass(slots=True, frozen=True)
class Release:
    """What a command has ended.

    Attributes:
        was_engaged: the brake was; otherwise, batches could still die after an earlier release.
        let_die_until_ms: until then no death engages it again, by the state server's clock; None: any may, from now on.
    """

    was_engaged: bool
    let_die_until_ms: int | None
