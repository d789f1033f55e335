"""Revoked tokens in Redis; see ``processors.documents.revocations.Revocations``.

Two keys: ``dpj:revoked``, a sorted set of marks by the Unix time of their end, and ``dpj:revoked:version``, a random number: a counter
that a failover set back would come to the same number twice, and hide what came with the second. Both change in one transaction. What Redis forgets is not revoked any more: it must keep what it was told (``appendonly yes``, ``appendfsync
always``) and must not evict (``maxmemory-policy noeviction``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from domain.errors import RevocationsUnavailable
from domain.revocations import Revocation, RevocationSnapshot

CALL_SECONDS: Final = 1.0
CONNECTIONS: Final = 4
_MARKS: Final = "dpj:revoked"
_VERSION: Final = "dpj:revoked:version"
_VERSION_BITS: Final = 62


class RedisRevocations:
    """``url``: ``redis://`` or, over TLS, ``rediss://``; credentials, host, port, and the number of the database."""

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            timeout=CALL_SECONDS,
            socket_timeout=CALL_SECONDS,
            socket_connect_timeout=CALL_SECONDS,
            max_connections=CONNECTIONS,
            retry=Retry(NoBackoff(), 1),  # once anew, on a connection that the server closed while it rested
            decode_responses=True,
        )
        self._redis = Redis.from_pool(pool)

    async def add(self, revocations: Sequence[Revocation]) -> None:
        with _translated():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.zremrangebyscore(_MARKS, "-inf", f"({time.time()}")
                pipeline.zadd(_MARKS, {one.mark: one.until.timestamp() for one in revocations}, gt=True)
                pipeline.set(_VERSION, secrets.randbits(_VERSION_BITS))
                await pipeline.execute()

    async def version(self) -> int:
        with _translated():
            return int(await self._redis.get(_VERSION) or 0)

    async def active(self) -> RevocationSnapshot:
        with _translated():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.get(_VERSION)
                pipeline.zrangebyscore(_MARKS, f"({time.time()}", "+inf", withscores=True)
                version, marks = await pipeline.execute()
        return RevocationSnapshot(int(version or 0), {mark: datetime.fromtimestamp(end, UTC) for mark, end in marks})

    async def aclose(self) -> None:
        await self._redis.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError):
        raise RevocationsUnavailable("Redis does not answer.") from None
