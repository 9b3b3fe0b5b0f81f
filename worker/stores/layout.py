"""What LaunchDarkly's SDKs read: how a context key is hashed, and how keys and items are named.

Beside it stands what is segsync's own, and no SDK asks for: the sentinel, which says whose store this is and when it
was last told so, and probes that vanish again when a person has the store checked.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from worker.model import MemberList, SegmentPatch

MEMBER_LISTS: Final[tuple[MemberList, ...]] = ("included", "excluded")

# DynamoDB attribute names. They, and the key names below, are the SDKs' words, fixed for ever. The two sets of an item
# are named as the lists are.
DYNAMODB_PARTITION_KEY = "namespace"
DYNAMODB_SORT_KEY = "key"
DYNAMODB_INCLUDED = "included"
DYNAMODB_EXCLUDED = "excluded"
DYNAMODB_SYNCHRONIZED_ON = "synchronizedOn"
# The sentinel, on the metadata item. SDKs and LaunchDarkly's relay take the attributes they know and leave the rest.
DYNAMODB_INCARNATION = "segsyncIncarnation"
DYNAMODB_BEAT = "segsyncBeat"

HASH_BYTES = 44


def context_hashes(context_keys: Iterable[str]) -> list[bytes]:
    """Hash context keys: standard padded base64 of SHA-256 of the UTF-8 key, 44 ASCII bytes each, in order."""
    return [b2a_base64(sha256(key.encode()).digest(), newline=False) for key in context_keys]


def context_hash(context_key: str) -> str:
    """Hash one context key, as text."""
    return context_hashes([context_key])[0].decode()


def is_hash(name: bytes) -> bool:
    """Whether this can be a context hash; other keys and items may lie where contexts' do."""
    return len(name) == HASH_BYTES and name.isascii()


def proved_hashes(hashes: Sequence[bytes]) -> Sequence[bytes]:
    """The same hashes: bulk commands are joined by their length, and one of another length would garble the rest.

    Raises:
        ValueError: one of them is no context hash.
    """
    if not all(map(is_hash, hashes)):
        raise ValueError("a context hash has 44 ASCII characters")
    return hashes


def portions(patch: SegmentPatch, size: int) -> Iterator[SegmentPatch]:
    """Cut a patch into patches of at most ``size`` members; one list comes after the other, a portion may hold several.

    Who stands in two lists counts twice.
    """
    lists = patch.add, patch.remove, patch.add_excluded, patch.remove_excluded
    for start in range(0, sum(map(len, lists)), size):
        yield SegmentPatch(patch.segment_ref, *_cut(lists, start, start + size))


def redis_include_key(prefix: str, hashed: str) -> str:
    """The Redis SET of segment refs that include a context."""
    return f"{prefix}:big_segment_include:{hashed}"


def redis_exclude_key(prefix: str, hashed: str) -> str:
    """The Redis SET of segment refs that exclude a context."""
    return f"{prefix}:big_segment_exclude:{hashed}"


def redis_context_key(prefix: str, hashed: str, of: MemberList) -> str:
    """The Redis SET of segment refs that have a context in that list. Without a hash, all are equally long."""
    return redis_include_key(prefix, hashed) if of == "included" else redis_exclude_key(prefix, hashed)


def redis_contexts_prefix(prefix: str) -> str:
    """What the keys of all contexts begin with, and no others of ours."""
    return f"{prefix}:big_segment_"


def redis_synchronized_on_key(prefix: str) -> str:
    """The Redis STRING with the store's freshness, in epoch milliseconds."""
    return f"{prefix}:big_segments_synchronized_on"


def redis_sentinel_key(prefix: str) -> str:
    """The Redis STRING with the sentinel: its incarnation, a space, its beat in epoch milliseconds."""
    return f"{prefix}:segsync_sentinel"


def redis_cell_key(prefix: str, tag: str) -> str:
    """The same of a part of a cluster: in the slot of that hash tag."""
    return f"{redis_sentinel_key(prefix)}:{{{tag}}}"


def redis_arbiter_key(prefix: str, tag: str) -> str:
    """The one among those parts that decides what they say."""
    return f"{redis_sentinel_key(prefix)}:arbiter:{{{tag}}}"


def redis_probe_keys(prefix: str, tag: str = "") -> tuple[tuple[str, ...], str]:
    """SETs and a STRING to try permissions on; the sets are named like a context's, and can be no context's hash.

    With a hash tag, they lie in its slot.
    """
    name = f"segsync_probe:{{{tag}}}" if tag else "segsync_probe"
    return tuple(redis_context_key(prefix, name, of) for of in MEMBER_LISTS), f"{prefix}:{name}"


def dynamodb_user_namespace(prefix: str) -> str:
    """The partition of all contexts of a prefix; with an empty prefix there is no colon."""
    return f"{prefix}:big_segments_user" if prefix else "big_segments_user"


def dynamodb_metadata_key(prefix: str) -> str:
    """Partition key and sort key of the metadata item."""
    return f"{prefix}:big_segments_metadata" if prefix else "big_segments_metadata"


def _cut(lists: Iterable[list[str]], start: int, end: int) -> Iterator[list[str]]:
    """From each list what lies between two places, as if they were one behind the other."""
    for each in lists:
        yield each[max(0, start) : max(0, end)]
        start, end = start - len(each), end - len(each)
