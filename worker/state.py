"""The state server: how it is opened, and its driver's errors, translated once at the edge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from worker.errors import Unavailable
from worker.settings import Settings

# A state server that has not answered for this long is away: the receiver must answer its partner within seconds.
ANSWER_SECONDS = 3.0
CONNECT_SECONDS = 2.0


def open_state(settings: Settings) -> redis.Redis:
    """A client of the state server; connects when first used, never retries by itself, replies are bytes.

    A request that timed out has an unknown fate: what repeats it must know that repeating is safe.
    """
    return redis.Redis.from_url(
        settings.state_url.get_secret_value(),
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=False,
    )


@contextmanager
def state_errors() -> Iterator[None]:
    """Translate the driver's errors.

    Raises:
        Unavailable: for every error of the driver; its fate is unknown unless the server answered.
    """
    try:
        yield
    except ResponseError as error:
        raise refused(error) from error
    except (RedisError, OSError) as error:
        raise Unavailable(f"state server is away: {error}", dependency="state", fate_unknown=True) from error


def refused(error: Exception) -> Unavailable:
    """An error reply of the server, without what redis-py or the server quote of the command: that may be a payload."""
    said = str(error).rpartition("caused error: ")[2].partition(", with args beginning with")[0]
    return Unavailable(f"state server refused ({type(error).__name__}): {said[:200]}", dependency="state")


def memory_share(client: redis.Redis) -> float:
    """How much of the memory that it may use the server uses; 0 when it has no bound, or does not tell.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        try:
            info = client.info("memory")
        except ResponseError:  # managed servers may forbid INFO
            return 0.0
    most = int(info.get("maxmemory", 0))
    return int(info.get("used_memory", 0)) / most if most else 0.0
