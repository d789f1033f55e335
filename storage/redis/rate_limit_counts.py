"""Calls counted in Redis, for all processes of the API together; see ``ingest_api.rate_limits.CallCounter``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from redis.asyncio import Redis
from redis.exceptions import RedisError

CALL_SECONDS: Final = 0.25
#: After a failure Redis is not asked for so long: nobody's request should wait for it again and again.
REST_SECONDS: Final = 2.0
CONNECTIONS: Final = 64


class RedisCallCounter:
    """Windows begin at multiples of their length, so that one call to Redis says all. ``url`` as ``redis://host:port/number``."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._storage = RedisStorage(
            f"async+{url}",
            implementation="redispy",
            key_prefix="dpj:rate",
            socket_timeout=CALL_SECONDS,
            socket_connect_timeout=CALL_SECONDS,
            max_connections=CONNECTIONS,
        )
        self._clock = clock
        self._rests_until = 0.0

    async def hit(self, item: RateLimitItem, key: str) -> tuple[int, float] | None:
        """Count a call; how many there were in this window, and when it ends (Unix seconds). None while Redis is away."""
        now = self._clock()
        if now < self._rests_until:
            return None
        seconds = item.get_expiry()
        window = int(now // seconds)
        try:
            count = await self._storage.incr(item.key_for(key, str(window)), seconds)
        except (RedisError, OSError, TimeoutError):
            self._rests_until = now + REST_SECONDS
            return None
        return count, float((window + 1) * seconds)

    async def aclose(self) -> None:
        client: Redis = vars(self._storage.bridge)["storage"]  # the package has no way to close it
        await client.aclose()
