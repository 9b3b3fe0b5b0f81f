"""Which segment a cohort has: allotted once per environment, and never the same for two cohorts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

import redis

from worker.registry import cohorts_key, registration, segments_key
from worker.state import state_errors

_VALID_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")  # LaunchDarkly's rule
_LONGEST_KEY = 256
_HASH_DIGITS = 10
# Allotments never change, so a process may remember them; this bounds what it remembers.
_MOST_REMEMBERED = 200_000
_LONGEST_REMEMBERED = 1024

# KEYS: cohorts, segments. ARGV: cohort, the keys it would like, in order.
_ALLOT = """
local existing = redis.call('HGET', KEYS[1], ARGV[1])
if existing then
  -- Hardly ever anything new: but nobody else would find a segment again whose registration alone was lost.
  redis.call('HSETNX', KEYS[2], existing, ARGV[1])
  return existing
end
for i = 2, #ARGV do
  -- Registered to this cohort already: a receiver that remembered it wrote the registration again.
  if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[1]) == 1 or redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[1] then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[i])
    return ARGV[i]
  end
end
local n = 2
while redis.call('HSETNX', KEYS[2], ARGV[#ARGV] .. '-' .. n, ARGV[1]) == 0 do n = n + 1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[#ARGV] .. '-' .. n)
return ARGV[#ARGV] .. '-' .. n
"""

# KEYS: cohorts, segments. ARGV: for each cohort: itself, how many keys it would like, then each of them, behind "1" if
# it may have it and "0" if not. All are allotted, or none: 'refused' when the key that one of them would get is not for
# it (or all are taken, and it would get one that nobody has judged), 'again' when one has a key by now.
_ALLOT_WHERE = """
local at, chosen, taken = 1, {}, {}
while at <= #ARGV do
  local cohort, count, found = ARGV[at], tonumber(ARGV[at + 1]), nil
  if redis.call('HEXISTS', KEYS[1], cohort) == 1 then return 'again' end
  for i = at + 2, at + 2 * count, 2 do
    local key = ARGV[i + 1]
    local holder = redis.call('HGET', KEYS[2], key) or taken[key] or cohort
    if not found and holder == cohort then
      if ARGV[i] ~= '1' then return 'refused' end
      found, taken[key], chosen[cohort] = key, cohort, key
    end
  end
  if not found then return 'refused' end
  at = at + 2 + 2 * count
end
for cohort, key in pairs(chosen) do
  redis.call('HSET', KEYS[2], key, cohort)
  redis.call('HSET', KEYS[1], cohort, key)
end
return 'allotted'
"""


def wished_keys(integration_key: str, cohort_id: str) -> list[str]:
    """The segment keys that a cohort would like, best first: ``{integrationKey}-{cohortId}``, then one with a hash.

    The first is left out when it is no valid LaunchDarkly key; the second is readable and unlikely to be taken.
    """
    plain = f"{integration_key}-{cohort_id}"
    digest = hashlib.sha256(plain.encode()).hexdigest()[:_HASH_DIGITS]
    slug = re.sub(r"[^a-zA-Z0-9_.-]+", "-", plain).strip("-")[: _LONGEST_KEY - _HASH_DIGITS - 6]
    hashed = f"{slug}-{digest}" if _VALID_KEY.fullmatch(slug) else f"cohort-{digest}"
    return [plain, hashed] if _VALID_KEY.fullmatch(plain) and len(plain) <= _LONGEST_KEY else [hashed]


class SegmentKeys:
    """Allots segment keys. The allotment is also the registry of segments: written before anything is appended.

    Keys: ``segsync:{ENVIRONMENT}:cohorts`` hash, integration and cohort id -> segment key;
    ``segsync:{ENVIRONMENT}:segments`` hash, segment key -> integration and cohort id.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._remembered: dict[tuple[str, str, str], str] = {}

    def remembered(self, environment_id: str, integration_key: str, cohort_ids: Sequence[str]) -> list[str] | None:
        """The cohorts' keys if this process knows all of them, else None; asks nobody."""
        keys = [self._remembered.get((environment_id, integration_key, cohort_id)) for cohort_id in cohort_ids]
        return None if None in keys else cast("list[str]", keys)

    def forget(self) -> None:
        """Ask anew about every cohort: the state server may not be the one that was asked."""
        self._remembered.clear()

    def allot(self, environment_id: str, integration_key: str, cohort_ids: Sequence[str]) -> list[str]:
        """The cohorts' segment keys, allotted now to those that have none; one round trip.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            for cohort_id in cohort_ids:
                key, _, cohort = registration(environment_id, integration_key, cohort_id, "")
                wishes = wished_keys(integration_key, cohort_id)
                pipe.eval(_ALLOT, 2, cohorts_key(environment_id), key, cohort, *wishes)
            allotted = [found.decode() for found in pipe.execute()]
        self._remember(environment_id, integration_key, zip(cohort_ids, allotted, strict=True))
        return allotted

    def allot_where(
        self, environment_id: str, integration_key: str, cohort_ids: Sequence[str], permitted: Callable[[str], bool]
    ) -> Literal["allotted", "refused", "again"]:
        """Allot keys to cohorts that have none, if each may have the key that it gets; else allot none. One round trip.

        Returns:
            What became of it; "again" when one of them has a key by now.

        Raises:
            Unavailable: the state server is away.
        """
        arguments: list[str] = []
        for cohort_id in dict.fromkeys(cohort_ids):
            wishes = wished_keys(integration_key, cohort_id)
            _, _, cohort = registration(environment_id, integration_key, cohort_id, "")
            arguments += [cohort, str(len(wishes))]
            for wish in wishes:
                arguments += ["1" if permitted(wish) else "0", wish]
        keys = (cohorts_key(environment_id), segments_key(environment_id))
        with state_errors():
            outcome = cast("bytes", self._client.eval(_ALLOT_WHERE, 2, *keys, *arguments)).decode()
        return cast('Literal["allotted", "refused", "again"]', outcome)

    def find(self, environment_id: str, integration_key: str, cohort_ids: Sequence[str]) -> list[str | None]:
        """The cohorts' segment keys, None for each that has none yet; allots nothing.

        Raises:
            Unavailable: the state server is away.
        """
        fields = [registration(environment_id, integration_key, cohort_id, "")[2] for cohort_id in cohort_ids]
        with state_errors():
            found = cast("list[bytes | None]", self._client.hmget(cohorts_key(environment_id), fields))
        keys = [None if key is None else key.decode() for key in found]
        self._remember(environment_id, integration_key, zip(cohort_ids, keys, strict=True))
        return keys

    def _remember(self, environment_id: str, integration_key: str, found: Iterable[tuple[str, str | None]]) -> None:
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        for cohort_id, key in found:
            if key is not None and len(cohort_id) <= _LONGEST_REMEMBERED:
                self._remembered[environment_id, integration_key, cohort_id] = key

    def registered(self, environment_id: str) -> list[str]:
        """Every segment key ever allotted in the environment, in no order.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            return [key.decode() for key in cast("list[bytes]", self._client.hkeys(segments_key(environment_id)))]
