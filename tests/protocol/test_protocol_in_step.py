"""The scripts do what the model's functions do: long random walks over both, compared after every call."""

from __future__ import annotations

import random
from typing import cast

import pytest
import redis
import slot as model
from slot import Cursor, Draft, Slot, Taken

from worker.log import keyspace
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.imports import append_import, import_of
from worker.log.position import before, ms_of, order
from worker.log.scripts import script
from worker.log.segments import Segment
from worker.model import Cohort, SegmentId

SEGMENT = SegmentId("env", "rudderstack-walk", 1)
STORES = ["s1", "s2"]
GAP = 1 << 20  # between entries, so that replayed ones find a place
RECORD = '{"status":"dead"}'


class Scripts:
    """The scripts, seen through the model's eyes: positions, tokens and identities are numbers."""

    def __init__(self, client: redis.Redis, walk: int) -> None:
        self._client = client
        self.stores = STORES[: 1 + walk % 2]
        self._segment = SEGMENT._replace(environment_id=f"env{walk}")
        self._base = keyspace.base(self._segment.environment_id, self._segment.segment_key)
        self.ids = {0: "0-0"}
        self._places = {"0-0": 0}
        self._batches = 0

    def note(self, place: int, entry_id: str) -> None:
        self.ids[place] = entry_id
        self._places[entry_id] = place
        self._places.setdefault(before(entry_id), place - 1)

    def there(self, place: int) -> int:
        """The place that the scripts have for one that may be just before an entry's."""
        entry_id = self.ids.get(place + 1)
        return place if entry_id is None else self._places[before(entry_id)]

    def place_for(self, entry_id: str) -> int:
        """A place among those that are known for a position that is not."""
        below = max((place for place, known in self.ids.items() if order(known) < order(entry_id)), default=0)
        above = min((place for place in self.ids if place > below), default=below + 2 * GAP)
        return (below + above) // 2

    def state(self) -> Slot:
        head = self._hash("head")
        return Slot(
            stream=tuple(self._place(entry_id) for entry_id, _ in self._entries()),
            last=self._place(head.get("last", "0-0")),
            dead=frozenset(map(self._place, self._hash("dead"))),
            late=frozenset(
                self._place(entry_id.decode())
                for entry_id in cast("list[bytes]", self._client.zrange(f"{self._base}:g1:late", 0, -1))
            ),
            snapshot=int(head.get("snapshot", "0")),
            trimmed=self._place(head.get("trimmed", "0-0")),
            floor=self._place(head.get("floor", "0-0")),
            cursors=tuple(map(self._cursor, self.stores)),
            imports=frozenset(
                self._place(entry_id)
                for entry_id, fields in self._entries()
                if cast("dict[bytes, bytes]", fields).get(b"k") == b"import"
            ),
        )

    def append(self) -> list[bool]:
        self._batches += 1
        batch = Batch(
            f"b{self._batches}",
            self._segment.environment_id,
            "user",
            "rudderstack",
            "d",
            b"{}",
            [Target(self._segment.segment_key, Cohort("walk"))],
            self.stores,
            not_after_ms=10**15,
        )
        [due] = Appends(self._client).append([batch])
        assert not isinstance(due, Exception)
        self.note(max(self.ids) + GAP, self._entries()[-1][0])
        return [store in {wake_up.store_id for wake_up in due} for store in self.stores]

    def append_import(self) -> list[bool]:
        self._batches += 1
        said = import_of(f"i{self._batches}", "replace", chunks=0, members=0)
        due = append_import(
            Appends(self._client),
            self._segment.environment_id,
            Segment(
                self._segment.segment_key,
                1,
                "user",
                "rudderstack",
                "walk",
                "",
                "",
                0,
                members_exact=True,
                accepted_ms=None,
            ),
            said,
            store_ids=self.stores,
            not_after_ms=10**15,
        )
        self.note(max(self.ids) + GAP, self._entries()[-1][0])
        return [store in {wake_up.store_id for wake_up in due} for store in self.stores]

    def insert(self, entry_id: str, *, of_dead: bool) -> tuple[str, list[bool]]:
        self._batches += 1
        told = (f"b{self._batches}", "1" if of_dead else "0", 2, "m", "digest", *self.stores)
        verdict, *due = self._run("insert", entry_id, *told)
        if verdict != b"inserted":
            return verdict.decode(), []
        return verdict.decode(), [store.encode() in due for store in self.stores]

    def take(
        self, store: int, token: int, fenced: list[int], waived: list[int], identity: tuple[int, int], *, audit: bool
    ) -> object:
        reply = self._run(
            "take",
            self.stores[store],
            token,
            "connection",
            *identity,
            "1" if audit else "",
            len(fenced),
            *fenced,
            *waived,
        )
        if reply[0] == b"orphans":
            return frozenset(int(token) for token in reply[1::2])
        if reply[0] == b"taken":
            base, chunks = int(reply[4] or b"0"), int(reply[5])
            return Taken(self._place(reply[1].decode()), int(reply[2]), base=base, chunks=chunks)
        return reply[0].decode()

    def renew(self, store: int, token: int, epoch: int) -> bool:
        return bool(self._run("renew", self.stores[store], token, epoch))

    def advance(self, store: int, token: int, epoch: int, place: int) -> bool:
        return bool(self._run("advance", self.stores[store], token, epoch, self.ids[place], 0, 0, "", 0))

    def advance_base(self, store: int, token: int, epoch: int, base: int, chunks: int) -> bool:
        return bool(self._run("advance_base", self.stores[store], token, epoch, base, chunks, "", 0))

    def release(self, store: int, token: int, clean: bool) -> bool | None:
        flag = "1" if clean else "0"
        reply = self._run("release", self.stores[store], token, flag, "1", flag)
        return None if reply[0] == b"lost" else bool(reply[1])

    def rewind(self, store: int, token: int) -> bool:
        return bool(self._run("rewind", self.stores[store], token)[1])

    def settle(self, store: int, token: int) -> bool:
        return bool(self._run("settle", self.stores[store], token)[1])

    def expire(self, store: int, token: int, beat: int) -> bool:
        return bool(self._run("expire", self.stores[store], token, beat)[1])

    def void(self, store: int) -> bool:
        return bool(self._run("void", self.stores[store]))

    def bury(self, store: int, token: int, epoch: int, place: int) -> bool:
        verdict = self._run("bury", self.stores[store], token, epoch, self.ids[place], RECORD)
        return cast("int", verdict) == 1

    def forget(self, place: int) -> bool:
        return bool(self._run("dead_expire", self.ids[place], RECORD))

    def entries(self, place: int) -> list[int] | None:
        verdict, *found = self._run("read", self.ids[place], 1 << 20, 1000)
        if verdict == b"behind":
            return None
        rows = cast("list[tuple[bytes, object, int]]", list(zip(*[iter(found)] * 3, strict=True)))
        return [self._place(entry_id.decode()) for entry_id, _, dead in rows if not dead]

    def beside(self, place: int) -> list[int]:
        reply = self._run("base", self.ids[place], 1 << 20)
        return [self._place(entry_id.decode()) for entry_id in reply[7::2]]

    def commit(self, token: int, draft: Draft) -> bool:
        self._client.rpush(f"{self._base}:g1:snapshot:{token}", b"chunk")
        verdict = self._run(
            "compact",
            *(draft.seen or "", token, 1, 0, 0, 0, 0, self.ids[draft.upto], self.ids[draft.floor], 0),
            *(len(draft.passed), *(self.ids[place] for place in draft.passed)),
            *(len(draft.merged), *(told for place in draft.merged for told in (self.ids[place], "digest"))),
            *(len(self.stores), *self.stores),
        )
        return cast("bytes", verdict) == b"committed"

    def let_ten_minutes_go_by(self, store: int) -> None:
        """The trail of a cursor is as old as the epoch."""
        key = f"{self._base}:g1:cursor:{self.stores[store]}"
        if self._client.hexists(key, "rotated_ms"):
            self._client.hset(key, "rotated_ms", "0")

    def _run(self, name: str, *arguments: object) -> list[bytes]:
        reply: list[bytes] = script(name)(self._client, self._base, 1, *arguments)
        return reply

    def _hash(self, name: str) -> dict[str, str]:
        found = cast("dict[bytes, bytes]", self._client.hgetall(f"{self._base}:g1:{name}"))
        return {key.decode(): value.decode() for key, value in found.items()}

    def _entries(self) -> list[tuple[str, object]]:
        found = cast("list[tuple[bytes, object]]", self._client.xrange(f"{self._base}:g1:log"))
        return [(entry_id.decode(), fields) for entry_id, fields in found]

    def _place(self, entry_id: str) -> int:
        return self._places[entry_id.split(" ", maxsplit=1)[0]]

    def _cursor(self, store: str) -> Cursor:
        found, marks = self._hash(f"cursor:{store}"), self._hash(f"open:{store}")
        return Cursor(
            position=self._place(found.get("position", "0-0")),
            epoch=int(found.get("epoch", "0")),
            woken=found.get("woken") == "1",
            lease=int(found.get("lease") or "0"),
            beat=int(found.get("beat", "0")),
            marks=frozenset((int(token), self._place(mark)) for token, mark in marks.items()),
            suspect=found.get("suspect") == "1",
            base=int(found.get("base", "0")),
            chunks=int(found.get("base_chunks", "0")),
            incarnation=int(found.get("incarnation", "0")),
            process=int(found.get("process", "0")),
            past=self._place(found["past"]) if "past" in found else model.NONE,
            recent=self._place(found["recent"]) if "recent" in found else model.NONE,
            ripe=found.get("rotated_ms", "0") == "0",
        )


def comparable(slot: Slot, scripts: Scripts) -> Slot:
    """Without what only the model knows, and with positions as the scripts have them.

    The model knows which stores may hold what no log names; and between two of its positions there is always room,
    where just before an id may be the id before it.
    """

    def at(place: int) -> int:
        return place if place == model.NONE else scripts.there(place)

    return slot._replace(
        cursors=tuple(
            cursor._replace(
                fresh=True,
                strays=False,
                position=at(cursor.position),
                past=at(cursor.past),
                recent=at(cursor.recent),
                marks=frozenset((token, at(began)) for token, began in cursor.marks),
            )
            for cursor in slot.cursors
        )
    )


ACTIONS = {
    "append": 3,
    "import": 1,
    "insert": 2,
    "revive": 2,
    "take": 6,
    "renew": 1,
    "advance": 5,
    "advance_base": 2,
    "release": 2,
    "rewind": 1,
    "settle": 2,
    "expire": 1,
    "void": 1,
    "bury": 2,
    "forget": 1,
    "read": 1,
    "commit": 4,
    "ten minutes": 3,
}


def one_step(  # noqa: PLR0915 - one script after the other
    dice: random.Random, slot: Slot, scripts: Scripts, tokens: int
) -> tuple[Slot, object, object]:
    """Do one thing, likely or not, to both; return the model's new state and both answers."""
    store = dice.randrange(len(scripts.stores))
    cursor = slot.cursors[store]
    token = dice.choice([cursor.lease, cursor.lease, dice.randint(1, tokens)]) or 1
    epoch = dice.choice([cursor.epoch, cursor.epoch, max(0, cursor.epoch - 1)])
    marks = [mark for mark, _ in cursor.marks]
    places = [place for place in scripts.ids if place]
    [action] = dice.choices(list(ACTIONS), list(ACTIONS.values()))
    match action:
        case "append":
            got = scripts.append()
            after, due = model.append(slot, max(scripts.ids))
            return after, due, got
        case "import":
            got = scripts.append_import()
            after, due = model.append(slot, max(scripts.ids), imports=True)
            return after, due, got
        case "insert" | "revive":
            of_dead = action == "revive"
            pool = sorted(slot.dead or places) if of_dead else places
            place = dice.choice(pool)
            entry_id = scripts.ids[place]
            if not of_dead and place not in slot.late:
                entry_id = f"{ms_of(entry_id)}-{10**12 + dice.randrange(10**6)}"
                if entry_id in scripts.ids.values():
                    return slot, None, None
                place = scripts.place_for(entry_id)
                scripts.note(place, entry_id)
            if place < slot.floor and ms_of(entry_id) == ms_of(scripts.ids[slot.floor]):
                return slot, None, None
            after, verdict, due = model.insert(slot, place, of_dead=of_dead)
            return after, (verdict, due), scripts.insert(entry_id, of_dead=of_dead)
        case "take":
            fenced = [mark for mark in marks if dice.random() < 0.3]
            waived = [mark for mark in marks if dice.random() < 0.7]
            identity = (dice.choice([1] * 9 + [2]), dice.choice([1] * 3 + [2]))
            new, audit = tokens + 1, dice.random() < 0.1
            after, found = model.take(slot, store, new, fenced=fenced, waived=waived, identity=identity, audit=audit)
            if isinstance(found, Taken):
                found = found._replace(position=scripts.there(found.position), fresh=False, strays=False)
            return after, found, scripts.take(store, new, fenced, waived, identity, audit=audit)
        case "renew":
            after, answer = model.renew(slot, store, token, epoch)
            return after, answer, scripts.renew(store, token, epoch)
        case "advance" if ahead := [place for place in places if cursor.position < place <= slot.last]:
            place = dice.choice(ahead)
            after, answer = model.advance(slot, store, token, epoch, place)
            return after, answer, scripts.advance(store, token, epoch, place)
        case "advance_base":
            base, chunks = dice.randint(1, 3), dice.randint(1, 3)
            after, answer = model.advance_base(slot, store, token, epoch, (base, chunks))
            return after, answer, scripts.advance_base(store, token, epoch, base, chunks)
        case "release":
            clean = dice.random() < 0.6
            after, due_now = model.release(slot, store, token, clean=clean)
            return after, due_now, scripts.release(store, token, clean)
        case "rewind":
            after, answer = model.rewind(slot, store, token)
            return after, answer, scripts.rewind(store, token)
        case "settle" if marks:
            token = dice.choice(marks)
            after, answer = model.settle(slot, store, token)
            return after, answer, scripts.settle(store, token)
        case "expire":
            beat = dice.choice([cursor.beat, cursor.beat, cursor.beat + 1])
            after, answer = model.expire(slot, store, token, beat)
            return after, answer, scripts.expire(store, token, beat)
        case "void":
            after, answer = model.void(slot, store)
            return after, answer, scripts.void(store)
        case "bury" if there := [*slot.stream, *slot.late]:
            place = dice.choice(there)
            after, answer = model.bury(slot, store, token, epoch, place)
            return after, answer, scripts.bury(store, token, epoch, place)
        case "forget" if slot.dead:
            place = dice.choice(sorted(slot.dead))
            after, answer = model.forget(slot, place)
            return after, answer, scripts.forget(place)
        case "read":
            place = dice.choice([0, *places])
            beside = sorted(late for late in slot.late - slot.dead if place < late <= slot.trimmed)
            expected = (model.entries(slot, place), beside if slot.snapshot else [])
            return slot, expected, (scripts.entries(place), scripts.beside(place))
        case "commit":
            return _commit(dice, slot, scripts, places, tokens)
        case "ten minutes":
            scripts.let_ten_minutes_go_by(store)
            return model.put(slot, store, cursor._replace(ripe=True)), None, None
    return slot, None, None


def _commit(
    dice: random.Random, slot: Slot, scripts: Scripts, places: list[int], tokens: int
) -> tuple[Slot, bool, bool]:
    seen = slot.snapshot if dice.random() < 0.9 else slot.snapshot + 1
    at_most = model.limit(slot) if dice.random() < 0.8 else slot.last
    upto = max([place for place in places if place <= at_most] + [slot.trimmed])
    if slot.imports and dice.random() < 0.5:
        upto = min(slot.imports)
    if not upto:
        return slot, False, False
    floor = dice.choice([slot.floor, slot.floor, *(place for place in places if place <= upto)])
    merged = frozenset(place for place in slot.late - slot.dead if place <= upto and dice.random() < 0.9)
    passed = frozenset(place for place in slot.dead if place <= upto and dice.random() < 0.95)
    token = tokens + 1000 + dice.randrange(10**9)
    draft = Draft(seen, upto, floor, merged, passed)
    after, answer = model.commit(slot, token, draft)
    return after, answer, scripts.commit(token, draft)


@pytest.mark.parametrize("seed", range(6))
def test_scripts_and_model_agree_call_by_call(redis_client: redis.Redis, seed: int) -> None:
    dice = random.Random(seed)
    for walk in range(8):
        scripts = Scripts(redis_client, walk)
        scripts.append()
        slot, _ = model.append(Slot(cursors=(Cursor(),) * len(scripts.stores)), GAP)
        tokens, history = 1, ["append"]
        for _ in range(80):
            before_it = slot
            slot, expected, got = one_step(dice, slot, scripts, tokens)
            tokens += isinstance(expected, Taken)
            history.append(f"{before_it} -> {expected}")
            assert (got, scripts.state()) == (expected, comparable(slot, scripts)), history[-5:]
