"""What went wrong with each store: its last errors, the newest first, kept for days and forgotten with the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis

from worker.errors import Fault, Unavailable
from worker.state import state_errors

MOST_KEPT: Final = 10
KEPT_SECONDS: Final = 7 * 86_400
_LONGEST_MESSAGE: Final = 300

# What an HTTP client makes of a failure. Of what a store answers with a code, the status that says the same; of the
# rest, whether it passes by itself (503, "try again"), lasts until the configuration is put right (400), or is one
# item's alone (422).
_OF_CODES: Final[dict[str, int]] = {
    **dict.fromkeys(("NOAUTH", "WRONGPASS"), 401),
    **dict.fromkeys(("NOPERM", "DENIED"), 403),
    **dict.fromkeys(
        ("UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException"), 401
    ),
    **dict.fromkeys(("ExpiredTokenException", "ExpiredToken"), 401),
    **dict.fromkeys(("InvalidSignatureException", "SignatureDoesNotMatch"), 401),
    **dict.fromkeys(("AccessDeniedException", "AccessDenied"), 403),
    "ResourceNotFoundException": 404,
    **dict.fromkeys(("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"), 429),
}
_OF_FAULTS: Final[dict[Fault, int]] = {"transient": 503, "configuration": 400, "item": 422}

# ARGV: status, message, most, kept (ms). An error that is met again and again stays one, with the time of the last:
# else ten tries within two minutes would be all that is known of a week.
_NOTE = """
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local told = ARGV[1] .. ' ' .. ARGV[2]
local newest = redis.call('LINDEX', KEYS[1], 0)
if newest and string.sub(newest, string.find(newest, ' ', 1, true) + 1) == told then
  redis.call('LSET', KEYS[1], 0, now .. ' ' .. told)
else
  redis.call('LPUSH', KEYS[1], now .. ' ' .. told)
  redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[3]) - 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
"""


class StoreError(NamedTuple):
    """One failure of a store.

    Attributes:
        status_code: an HTTP status that says the same.
        message: one sentence for a person; no secrets, no members.
        at_ms: when it was last met, by the state server's clock.
    """

    status_code: int
    message: str
    at_ms: int


class StoreErrors:
    """Keeps the last ten errors of each store: ``segsync:errors:{STORE}``, a list of "at_ms status message"."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._note = client.register_script(_NOTE)

    def note(self, store_id: str, error: Unavailable) -> None:
        """Keep a failure of that store.

        Raises:
            Unavailable: the state server is away; it is kept or not.
        """
        message = str(error)[:_LONGEST_MESSAGE]
        with state_errors():
            self._note(keys=[_key(store_id)], args=[status_of(error), message, MOST_KEPT, KEPT_SECONDS * 1000])

    def read(self, store_ids: Sequence[str]) -> dict[str, list[StoreError]]:
        """The errors of these stores, the newest first, in one round trip.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            for store_id in store_ids:
                pipe.lrange(_key(store_id), 0, MOST_KEPT - 1)
            found: list[Any] = pipe.execute()
        return {store_id: [_read(text) for text in texts] for store_id, texts in zip(store_ids, found, strict=True)}

    def forget(self, store_id: str) -> None:
        """The store was removed: nothing is known of it any more.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.delete(_key(store_id))


def status_of(error: Unavailable) -> int:
    """The HTTP status that says of a failure what it is."""
    return _OF_CODES.get(error.answered, _OF_FAULTS[error.fault])


def _read(text: bytes) -> StoreError:
    at_ms, status, message = text.decode().split(" ", 2)
    return StoreError(int(status), message, int(at_ms))


def _key(store_id: str) -> str:
    return f"segsync:errors:{{{store_id}}}"
