"""Which segment a cohort has: allotted once per environment, and never the same for two cohorts."""

from __future__ import annotations

import hashlib
import re
from typing import cast

import redis

from worker.state import state_errors

_VALID_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")  # LaunchDarkly's rule
_LONGEST_KEY = 256
_HASH_DIGITS = 10
_SEPARATOR = "\x1f"
# Allotments never change, so a process may remember them; this bounds what it remembers.
_MOST_REMEMBERED = 200_000

# KEYS: cohorts, segments. ARGV: cohort, the keys it would like, in order.
_ALLOT = """
local existing = redis.call('HGET', KEYS[1], ARGV[1])
if existing then return existing end
for i = 2, #ARGV do
  if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[1]) == 1 then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[i])
    return ARGV[i]
  end
end
local n = 2
while redis.call('HSETNX', KEYS[2], ARGV[#ARGV] .. '-' .. n, ARGV[1]) == 0 do n = n + 1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[#ARGV] .. '-' .. n)
return ARGV[#ARGV] .. '-' .. n
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

    def remembered(self, environment_id: str, integration_key: str, cohort_id: str) -> str | None:
        """The cohort's key if this process knows it; asks nobody."""
        return self._remembered.get((environment_id, integration_key, cohort_id))

    def forget(self) -> None:
        """Ask anew about every cohort: the state server may not be the one that was asked."""
        self._remembered.clear()

    def allot(self, environment_id: str, integration_key: str, cohort_id: str) -> str:
        """The cohort's segment key, allotted now if it has none.

        Raises:
            Unavailable: the state server is away.
        """
        known = (environment_id, integration_key, cohort_id)
        if key := self._remembered.get(known):
            return key
        cohort = f"{integration_key}{_SEPARATOR}{cohort_id}"
        cohorts, segments = _keys(environment_id)
        with state_errors():
            found = self._client.eval(_ALLOT, 2, cohorts, segments, cohort, *wished_keys(integration_key, cohort_id))
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        key = self._remembered[known] = cast("bytes", found).decode()
        return key

    def registered(self, environment_id: str) -> list[str]:
        """Every segment key ever allotted in the environment, in no order.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            return [key.decode() for key in cast("list[bytes]", self._client.hkeys(_keys(environment_id)[1]))]


def _keys(environment_id: str) -> tuple[str, str]:
    return f"segsync:{{{environment_id}}}:cohorts", f"segsync:{{{environment_id}}}:segments"
