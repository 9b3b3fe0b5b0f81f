"""Every key of the segment log: its name, its type and its meaning. The rules that they serve: PROTOCOL.md.

A segment's keys share the hash tag ``{environment_id/segment_key}``, so that each script stays in one slot of a Redis
Cluster; all but two: the append takes segments as they come, each by itself (a cluster would have it called once for
each slot), and map.lua moves a cohort from one to another. ``gN`` is the generation; keys of different generations
never meet. Written S below for ``segsync:{environment_id/segment_key}``:

    S:segment          hash    generation (a counter; survives deletion), context_kind, integration_key, cohort_id,
                               name, url, created_ms, members, excluded (counts of the two lists),
                               members_exact (0 after an unclean drain); what people say of it: description, tags,
                               described_ms, revisions; deleted_ms (the last time that it was);
                               moved_to, and reserved, reserved_over (generations): see worker/sync/mapping.py
    S:gN:log           stream  one entry per batch, in the order accepted; the id is the accept time by the server's
                               clock. Fields: see entry.py
    S:gN:head          hash    last (id of the last entry), reached (the last that any store ever applied),
                               batches and bytes (totals ever appended), tidied (when old batch ids last went, ms),
                               inserted (entries that came beside the stream), snapshot (its token), trimmed
                               (its position), trimmed_batches and trimmed_bytes (totals up to there), floor (below
                               it, nobody knows who was decided when), snapshot_bytes, snapshot_members,
                               snapshot_excluded, snapshot_removed, folded (live entries that are in it), expired (dead
                               entries) and forgotten (others);
                               before_import (where the snapshot ends in an import: the position before that)
    S:gN:snapshot:T    list    the chunks of the snapshot with the token T: see snapshot.py; an hour to live, until it
                               is committed
    S:gN:recent        zset    batch id -> accept time, for a minute at least: a retried append changes nothing
    S:gN:dead          hash    entry id -> JSON (dead.py): why it died, what was decided since; folds skip all of them
    S:gN:crashes       hash    entry id -> how often parsing it, alone, killed the process that did
    S:gN:late          zset    position -> its ms, of entries beside the stream: replayed, or dead and left behind
    S:gN:late:ID       hash    such an entry; the fields of entry.py
    S:gN:import:ID     hash    number -> chunk of an import: an hour to live until it is appended; see imports.py
    S:gN:imports       hash    import id -> position of its entry, until the floor has passed it
    S:gN:refs          zset    payload id -> the entry's ordinal, of entries that share a payload with other segments
    S:gN:rejected      zset    entry id -> the entry's ordinal, of entries whose payload had members that were left out
    S:gN:releasing     set     payload ids whose entries are trimmed and whose payload must still be told
    S:gN:cursor:STORE  hash    position (id of the last applied entry), batches and bytes (totals up to there), epoch
                               (rewinds so far), woken (1: a wake-up is outstanding), lease (token), beat (renewals);
                               incarnation and process of the store that it was made for; past, recent, rotated_ms,
                               advanced_ms (the trail of rule 13); suspect (1: a lease expired); base, base_chunks (how
                               much of which snapshot is in the store); drained (1: a drain was there), filling (the
                               snapshot with which filling it from nothing began)
    S:gN:stores        set     the stores that have ever had a cursor here, and were not forgotten
    S:gN:open:STORE    hash    lease token -> "position batches bytes connection": the open mark of a drain
    S:closed           set     the generations that were deleted, and of which no store should hold anything any more

Beside these, in slots of their own:

    segsync:payload:{ID}        hash    body, codec: a payload that names several cohorts, stored once
    segsync:payload:{ID}:logs   set     log names that refer to it; when it is empty, both go
    segsync:payloads            zset    payload id -> time until which its appends may land; those not known complete
    segsync:ahead               hash    log name -> ticket: logs that may be ahead of a cursor (a hint, see rule 11)
    segsync:confirmed           string  empty; written to have a write: for replicas to confirm, or to see it refused
    segsync:manifests           hash    digest -> canonical requestParser: what every later parse of an entry uses
    segsync:current_parsers     hash    integration key -> digest of the requestParser that receivers use now
    segsync:incarnations        hash    store id -> the life of the store that cursors must have been made for (rule 12)
    segsync:processes           hash    store id -> server process that answers for it, and until when another did, ms
    segsync:store:{ID}          hash    what is noticed of a store: see worker/incarnation.py
    segsync:refused:{ID}        hash    members whom the store does not take: see refused_members.py
    segsync:rebuild:{ID}        hash    log name -> what a rebuild is about: see worker/sync/rebuild.py
    segsync:pending             hash    environment id -> what waits in its logs, as last measured: see pending.py
    segsync:closing             zset    log name -> time until which its deletion may land: see closing.py
    segsync:{imports}:*, segsync:{exports}:*    see jobs.py
    segsync:{rejected}:*                bodies that were answered 400: see rejected_bodies.py
    segsync:dead                zset    dead entries of all logs -> accept time (an index; see dead_letters.py)
    segsync:replayed            hash    dead entries that came to life again -> what was known of them (for people)
"""

from __future__ import annotations

from worker.model import SegmentId

AHEAD = "segsync:ahead"
CONFIRMED = "segsync:confirmed"
PAYLOADS = "segsync:payloads"
MANIFESTS = "segsync:manifests"
CURRENT_PARSERS = "segsync:current_parsers"
INCARNATIONS = "segsync:incarnations"
PROCESSES = "segsync:processes"


def base(environment_id: str, segment_key: str) -> str:
    """The common beginning of a segment's keys; scripts derive the rest from it."""
    return f"segsync:{{{environment_id}/{segment_key}}}"


def prefix(segment: SegmentId) -> str:
    """The common beginning of the keys of one generation of a segment."""
    return f"{base(segment.environment_id, segment.segment_key)}:g{segment.generation}"


def payload(payload_id: str) -> str:
    """Key of a shared payload."""
    return f"segsync:payload:{{{payload_id}}}"


def log_name(segment: SegmentId) -> str:
    """A log's name in indexes; no part of it can hold a slash (see records)."""
    return f"{segment.environment_id}/{segment.segment_key}/{segment.generation}"


def segment_of(name: str) -> SegmentId:
    """The inverse of ``log_name``."""
    environment_id, segment_key, generation = name.split("/")
    return SegmentId(environment_id, segment_key, int(generation))
