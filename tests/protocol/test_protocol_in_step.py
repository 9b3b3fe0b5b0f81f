"""The scripts do what the model's functions do: long random walks over both, compared after every call."""

from __future__ import annotations

import random
from typing import cast

import pytest
import redis
import slot as model
from slot import Slot, Taken

from worker.log import keyspace
from worker.log.append import Appends, Batch, Target
from worker.log.scripts import script
from worker.log.upkeep import Upkeep
from worker.model import Cohort, SegmentId

SEGMENT = SegmentId("env", "rudderstack-walk", 1)
STORE = "s1"


class Scripts:
    """The scripts, seen through the model's eyes: entry ids are ordinals, tokens are numbers."""

    def __init__(self, client: redis.Redis, walk: int) -> None:
        self._client = client
        self._segment = SEGMENT._replace(environment_id=f"env{walk}")
        self._ids: list[bytes] = [b"0-0"]

    def state(self) -> Slot:
        [status] = Upkeep(self._client).statuses(self._segment.environment_id, [self._segment.segment_key], [STORE])
        store = status.stores[STORE]
        return Slot(
            last=status.batches,
            position=self._ids.index(store.position.encode()),
            epoch=int(store.epoch),
            woken=store.woken,
            lease=int(store.lease or 0),
            beat=int(store.beat),
            marks=frozenset((int(mark.token), self._ids.index(mark.began.encode())) for mark in store.marks),
        )

    def append(self) -> bool:
        batch = Batch(
            f"b{len(self._ids)}",
            self._segment.environment_id,
            "user",
            "rudderstack",
            "d",
            b"{}",
            [Target(self._segment.segment_key, Cohort("walk"))],
            [STORE],
            not_after_ms=10**15,
        )
        [due] = Appends(self._client).append([batch])
        assert not isinstance(due, Exception)
        base = keyspace.base(self._segment.environment_id, self._segment.segment_key)
        [(entry_id, _)] = cast("list[tuple[bytes, object]]", self._client.xrevrange(f"{base}:g1:log", count=1))
        self._ids.append(entry_id)
        return bool(due)

    def take(self, token: int, fenced: list[int], waived: list[int]) -> object:
        reply = self._run("take", token, "connection", "", "", "0", len(fenced), *fenced, *waived)
        if reply[0] == b"orphans":
            return frozenset(int(token) for token in reply[1::2])
        if reply[0] == b"taken":
            return Taken(self._ids.index(reply[1]), int(reply[2]))
        return reply[0].decode()

    def renew(self, token: int, epoch: int) -> bool:
        return bool(self._run("renew", token, epoch))

    def advance(self, token: int, epoch: int, position: int) -> bool:
        return bool(self._run("advance", token, epoch, self._ids[position], position, position * 100, 0))

    def release(self, token: int, clean: bool) -> bool | None:
        reply = self._run("release", token, "1" if clean else "0", "1", "1")
        return None if reply[0] == b"lost" else bool(reply[1])

    def rewind(self, token: int) -> bool:
        return bool(self._run("rewind", token)[1])

    def settle(self, token: int) -> bool:
        return bool(self._run("settle", token)[1])

    def expire(self, token: int, beat: int) -> bool:
        return bool(self._run("expire", token, beat)[1])

    def _run(self, name: str, *arguments: object) -> list[bytes]:
        base = keyspace.base(self._segment.environment_id, self._segment.segment_key)
        reply: list[bytes] = script(name)(self._client, base, 1, STORE, *arguments)
        return reply


def one_step(dice: random.Random, slot: Slot, scripts: Scripts, tokens: int) -> tuple[Slot, object, object]:
    """Do one thing, likely or not, to both; return the model's new state and both answers."""
    token = dice.randint(1, tokens)
    epoch = dice.choice([slot.epoch, slot.epoch, max(0, slot.epoch - 1)])
    marks = [mark for mark, _ in slot.marks]
    action = dice.choice(
        ["append", "take", "take", "renew", "advance", "advance", "release", "rewind", "settle", "expire"]
    )
    match action:
        case "append":
            after, answer = model.append(slot)
            return after, answer, scripts.append()
        case "take":
            fenced = [mark for mark in marks if dice.random() < 0.3]
            waived = [mark for mark in marks if dice.random() < 0.6]
            new = tokens + 1
            after, found = model.take(slot, new, fenced=fenced, waived=waived)
            return after, found, scripts.take(new, fenced, waived)
        case "renew":
            after, answer = model.renew(slot, token, epoch)
            return after, answer, scripts.renew(token, epoch)
        case "advance" if slot.position < slot.last:
            position = dice.randint(slot.position + 1, slot.last)
            after, answer = model.advance(slot, token, epoch, position)
            return after, answer, scripts.advance(token, epoch, position)
        case "release":
            clean = dice.random() < 0.6
            after, due = model.release(slot, token, clean=clean)
            return after, due, scripts.release(token, clean)
        case "rewind":
            after, answer = model.rewind(slot, token)
            return after, answer, scripts.rewind(token)
        case "settle":
            after, answer = model.settle(slot, token)
            return after, answer, scripts.settle(token)
        case "expire":
            beat = dice.choice([slot.beat, slot.beat, slot.beat + 1])
            after, answer = model.expire(slot, token, beat)
            return after, answer, scripts.expire(token, beat)
    return slot, None, None


@pytest.mark.parametrize("seed", range(6))
def test_scripts_and_model_agree_call_by_call(redis_client: redis.Redis, seed: int) -> None:
    dice = random.Random(seed)
    for walk in range(8):
        scripts = Scripts(redis_client, walk)
        slot, _ = model.append(Slot())
        scripts.append()
        tokens, history = 1, ["append"]
        for _ in range(60):
            before = slot
            slot, expected, got = one_step(dice, slot, scripts, tokens)
            tokens += isinstance(expected, Taken)
            history.append(f"{before} -> {expected}")
            assert (got, scripts.state()) == (expected, slot), history[-5:]
