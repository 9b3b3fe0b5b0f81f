"""The fast way to read a body: typed structs made once per requestParser; it answers only when it is certain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise, repeat
from operator import attrgetter
from typing import Any

from worker.errors import InvalidBatch
from worker.manifest.cohorts import LONGEST_COHORT_TEXT, Cohorts, is_context_kind
from worker.manifest.json_text import MAX_NESTING, is_utf8
from worker.manifest.pieces import PIECE_BYTES, Cut, array_at_end, cuts, path_of
from worker.manifest.request_parser import RequestParser, compile_matcher
from worker.manifest.shape import ACTION, Shape, UnsupportedShape, way
from worker.model import DEFAULT_CONTEXT_KIND, Cohort, Payload

_ONLY_TEXT = frozenset({str})
# What a decoded member takes, and what a body's members may take beside three times its size.
_MEMBER_BYTES = 110
_FREE_BYTES = 32 * 1024 * 1024
# Smaller bodies cannot have so many members.
_LARGE_BYTES = _FREE_BYTES // _MEMBER_BYTES
_VALUE = attrgetter("value")
_FEW_BRACKETS = 4


@dataclass(slots=True)
class _Run:
    """Pieces of a body that hold members of one array.

    Attributes:
        number: which of the arrays.
        before: how many of its members come before the first cut.
        places: where the pieces begin and end.
        of_first: how many members the first of them has.
        count: how many all of them have.
        named: which cohorts and names these name.
    """

    number: int
    before: int
    places: list[Cut]
    of_first: int = 0
    count: int = 0
    named: set[tuple[str, Any]] = field(default_factory=set)


class FastReader:
    """Reads bodies by one requestParser, decoding them into structs.

    Whatever is out of the ordinary is left to the exact reader, which alone knows how to refuse. So a doubt costs
    time and nothing else.
    """

    def __init__(self, parser: RequestParser, piece_bytes: int = PIECE_BYTES) -> None:
        """Compile a requestParser.

        Args:
            parser: the requestParser.
            piece_bytes: of bodies that are read in pieces.

        Raises:
            UnsupportedShape: only the exact reader can follow this parser's pointers.
        """
        member = parser.member_array_parser
        self._piece_bytes = piece_bytes
        self._bare = member.member_id_path == ""
        self._mode = parser.mode
        self._overrides_id = member.cohort_id_path is not None
        self._overrides_name = member.cohort_name_path is not None
        if self._bare and (self._mode == "boolean" or self._overrides_id or self._overrides_name):
            raise UnsupportedShape  # a bare id has no place for anything else
        if parser.array_inclusion is not None:
            # The value would be decoded for nothing, and might even be wrong: arrayInclusion wins over it.
            member = member.model_copy(update={"boolean_membership_path": None})
        self._matcher = None if parser.array_inclusion is None else compile_matcher(parser.array_inclusion.matcher)
        shape = Shape()
        arrays = (parser.member_array_path, parser.add_member_array_path, parser.remove_member_array_path)
        members = [shape.members(pointer, member) for pointer in arrays if pointer is not None]
        self._paths = [path_of(pointer) for pointer in arrays if pointer is not None]
        action = () if parser.array_inclusion is None else shape.value(parser.array_inclusion.path, ACTION)
        own = (parser.environment_id_path, parser.cohort_id_path, parser.cohort_name_path)
        values = [action, *map(shape.value, own)]
        optional = (parser.context_kind_path, parser.cohort_url_path)
        may_be = [None if pointer is None else shape.value(pointer) for pointer in optional]
        # Values may lie in members, named by their index: none of those may be cut away.
        steps = chain(*values, *filter(None, may_be))
        self._last_index = max((step for step in steps if isinstance(step, int)), default=-1)
        self._decoder = shape.decoder()
        self._member_decoders = [shape.members_decoder(steps) for steps in members]
        self._arrays = list(map(way, members))
        self._action, self._environment_id, self._cohort_id, self._cohort_name = map(way, values)
        self._context_kind, self._cohort_url = (None if steps is None else way(steps) for steps in may_be)

    def read(self, body: bytes, *, members: bool = True) -> Payload | None:
        """What a body means, or None when the exact reader must say. ``members``: see ``Decoder.decode``."""
        try:
            # Places that no pointer names are skipped without a look at their encoding.
            braces = body.count(b"{")
            if (len(body) >= _LARGE_BYTES and self._takes_too_much(body, braces)) or not is_utf8(body):
                return None
            root = self._decoder.decode(body)
        except (ValueError, RecursionError):  # no JSON, or a value of another type than expected
            return None
        arrays = self._member_arrays(root)
        if arrays is None or not self._is_shallow(body, braces, sum(map(len, arrays))):
            return None
        return self._payload(root, arrays, members)

    def read_in_pieces(self, body: bytes) -> Iterator[dict[str, bool]] | None:
        """The members of a large body of one cohort, piece by piece: what a later piece says of one holds.

        All of the body is judged before this returns, and decoded once more, piece by piece, as it is asked for.

        Returns:
            Member -> True (add) or False (remove), some thousands at a time; None where ``read`` must say: the body is
            too small, cannot be cut for certain, or is no good.
        """
        run = None if self._bare or not is_utf8(body) else self._run(body)
        if run is None:
            return None
        try:
            root, with_first = (self._without(body, place, run.places[-1]) for place in run.places[:2])
        except (ValueError, RecursionError):
            return None
        arrays, more = self._member_arrays(root), self._member_arrays(with_first)
        if arrays is None or more is None or len(more[run.number]) != len(arrays[run.number]) + run.of_first:
            return None  # a later array of the same name takes the place of the one that was cut
        payload = self._payload(root, arrays, members=True)
        if payload is None or len(payload.cohorts) != 1:
            return None
        if self._named_otherwise(run.named, root) or not self._is_shallow(
            body, body.count(b"{"), run.count + sum(map(len, arrays))
        ):
            return None

        def told() -> Iterator[dict[str, bool]]:
            for number, array in enumerate(arrays):
                if number != run.number:
                    yield self._said(root, number, array)
                    continue
                yield self._said(root, number, array[: run.before])
                for before, after in pairwise(run.places):
                    yield self._said(root, number, self._between(body, number, before, after))
                yield self._said(root, number, array[run.before :])

        return told()

    def _run(self, body: bytes) -> _Run | None:
        """The longer of the first two runs of pieces: there are no more arrays."""
        places = cuts(body, self._piece_bytes)
        first = self._run_from(body, places)
        second = self._run_from(body, places[len(first.places) :])
        longest = max(first, second, key=lambda run: run.count)
        return longest if longest.count and longest.before > self._last_index else None

    def _run_from(self, body: bytes, places: list[Cut]) -> _Run:
        """As many pieces, from the first cut on, as are members of one array and can be read."""
        found = array_at_end(body[: places[0].end], self._decoder) if places else None
        if found is None or found[0] not in self._paths:
            return _Run(0, 0, places[:1])
        run = _Run(self._paths.index(found[0]), found[1], places[:1])
        for before, after in pairwise(places):
            try:
                members = self._between(body, run.number, before, after)
            except (ValueError, RecursionError):
                break  # the end of the array, with what comes behind it
            run.places.append(after)
            run.of_first = run.of_first or len(members)
            run.count += len(members)
            run.named |= self._named(members)
        return run

    def _without(self, body: bytes, first: Cut, last: Cut) -> Any:
        """The body without the members between two cuts."""
        return self._decoder.decode(body[: first.end] + b"," + body[last.start :])

    def _between(self, body: bytes, number: int, before: Cut, after: Cut) -> list[Any]:
        return self._member_decoders[number].decode(b"[%b]" % body[before.start : after.end])

    def _said(self, root: Any, number: int, array: list[Any]) -> dict[str, bool]:
        return dict(zip(self._ids(array), self._membership(root, number, array), strict=False))

    def _member_arrays(self, root: Any) -> list[list[Any]] | None:
        """The arrays of members; None where a required one is missing."""
        arrays = [array(root) for array in self._arrays]
        if self._mode == "split arrays":
            return [array or [] for array in arrays]
        return None if arrays[0] is None else arrays

    def _takes_too_much(self, body: bytes, braces: int) -> bool:
        """Whether decoded members could take far more memory than the body: then they are better read one by one."""
        members = body.count(b",") if self._bare else braces
        return members * _MEMBER_BYTES > 3 * len(body) + _FREE_BYTES

    def _is_shallow(self, body: bytes, braces: int, members: int) -> bool:
        # Each member is one object and none lies in another. Braces in strings count too: a doubt, no more.
        objects_aside = 0 if self._bare else members
        return braces - objects_aside + _brackets(body) < MAX_NESTING

    def _payload(self, root: Any, arrays: list[list[Any]], members: bool) -> Payload | None:
        environment_id = _text(self._environment_id(root))
        cohort_id, cohort_name = _text(self._cohort_id(root)), _text(self._cohort_name(root))
        context_kind = DEFAULT_CONTEXT_KIND
        if self._context_kind is not None:
            context_kind = _text(self._context_kind(root)) or DEFAULT_CONTEXT_KIND
            if not is_context_kind(context_kind):
                return None
        if not (environment_id and cohort_id and cohort_name):
            return None
        url = None if self._cohort_url is None else _text(self._cohort_url(root))
        most = LONGEST_COHORT_TEXT
        if len(cohort_id) > most or len(cohort_name) > most or (url and len(url) > most):
            return None
        if self._matcher is not None and not self._action_of(root):
            return None
        own = Cohort(cohort_id, cohort_name, url)
        overrides = self._overrides_id or self._overrides_name
        if overrides and any(self._named_otherwise(self._named(array), root) for array in arrays):
            cohorts = self._sorted_out(root, own, arrays)
        else:
            cohorts = [own]
            if members:
                for number, array in enumerate(arrays):
                    own.members.update(zip(self._ids(array), self._membership(root, number, array), strict=False))
        return None if cohorts is None else Payload(environment_id, context_kind, cohorts)

    def _membership(self, root: Any, number: int, array: list[Any]) -> Iterable[bool]:
        """What the members of one of the arrays are, in their order; for as many as one asks, where all are alike."""
        if self._matcher is not None:
            action = self._action_of(root)
            assert action, "there is an action: the body was judged"
            return repeat(self._matcher.search(action) is not None)
        return map(_VALUE, array) if self._mode == "boolean" else repeat(number == 0)

    def _action_of(self, root: Any) -> str | None:
        value = self._action(root)
        return str(value).lower() if isinstance(value, bool) else _text(value)

    def _named(self, array: list[Any]) -> set[tuple[str, Any]]:
        """Which cohorts and which names members name themselves, each once."""
        named: set[tuple[str, Any]] = set()
        if self._overrides_id:
            named |= {("id", cohort_id) for cohort_id in {m.cohort_id for m in array}}
        if self._overrides_name:
            named |= {("name", name) for name in {m.cohort_name for m in array}}
        return named

    def _named_otherwise(self, named: set[tuple[str, Any]], root: Any) -> bool:
        """Whether one of them is not the payload's own."""
        own = {"id": self._cohort_id(root), "name": self._cohort_name(root)}
        return any(value not in {own[what], None, ""} for what, value in named)

    def _sorted_out(self, root: Any, own: Cohort, arrays: list[list[Any]]) -> list[Cohort] | None:
        cohorts = Cohorts(own)
        try:
            for number, array in enumerate(arrays):
                values = self._membership(root, number, array)
                for member_id, value, member in zip(self._ids(array), values, array, strict=False):
                    cohort_id = _text(member.cohort_id) if self._overrides_id else None
                    cohort_name = _text(member.cohort_name) if self._overrides_name else None
                    if max(len(cohort_id or ""), len(cohort_name or "")) > LONGEST_COHORT_TEXT:
                        return None
                    cohorts.state(member_id, added=value, cohort_id=cohort_id, cohort_name=cohort_name)
        except InvalidBatch:
            return None
        return cohorts.gathered()

    def _ids(self, array: list[Any]) -> Iterable[str]:
        ids = array if self._bare else [member.id for member in array]
        # Texts of integers are made one by one: many of them may be of the same member.
        return ids if _ONLY_TEXT.issuperset(map(type, ids)) else map(str, ids)


def _brackets(body: bytes) -> int:
    """How many ``[`` there are. Most bodies have one or two, and finding them takes a quarter of what counting does."""
    found, place = 0, body.find(b"[")
    while place >= 0:
        found += 1
        if found == _FEW_BRACKETS:
            return body.count(b"[")
        place = body.find(b"[", place + 1)
    return found


def _text(value: str | int | None) -> str | None:
    """A scalar's text; None when it is missing, null or empty."""
    return str(value) if isinstance(value, int) else value or None
