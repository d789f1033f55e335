"""Whether checkpoints still come: who keeps a chain from being signed may do to it what nobody can prove.

The times that count are the store's and ours. A database administrator writes any other, so what the database says about when a
checkpoint is due is not asked here.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final

from operations.audit.checkpoints import AuditFinding, SignedHistory
from operations.audit.export import Checkpoints, EntryReader, UnflushedEntryReader, entries_of
from processors.ports.clock import Clock

#: Of the time between two checkpoints, after which one is overdue; and the least, for a worker that is at its work or restarts.
INTERVALS: Final = 2
MIN_LIMIT: Final = timedelta(minutes=1)
#: An idle tenant's newest checkpoint is old, and an entry that came just now has its own in a moment: so many looks for that.
MAX_CHECKS: Final = 10


class OverdueCheck:
    """``seconds``: how long after its last checkpoint a tenant with new entries has the next at the latest; ``pause``: between looks."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        reader: EntryReader,
        pending: UnflushedEntryReader,
        clock: Clock,
        *,
        seconds: float,
        pause: float = 1.0,
    ) -> None:
        self._checkpoints = checkpoints
        self._reader = reader
        self._pending = pending
        self._clock = clock
        self._limit: Final = max(timedelta(seconds=seconds) * INTERVALS, MIN_LIMIT)
        self._pause = pause

    async def finding(self, tenant: str, head: int, proof: SignedHistory) -> AuditFinding | None:
        """UNSIGNED, if the chain goes on to ``head`` and no checkpoint has come for too long. Raises CheckpointStoreUnavailable,
        AuditStoreUnavailable or DatabaseUnavailable."""
        if head <= proof.size:
            return None
        since = proof.time or await self._first(tenant)
        if since is not None and abs(self._clock.now() - since) <= self._limit:
            return None
        for _ in range(MAX_CHECKS):
            if await self._checkpoints.sizes(tenant, proof.size + 1, 1):
                return None
            await asyncio.sleep(self._pause)
        newest = (
            f"the newest checkpoint is of {proof.time:%Y-%m-%dT%H:%M:%SZ}" if proof.time else "there is no checkpoint"
        )
        text = (
            f"entries {proof.size + 1} to {head} are not signed, and {newest}: the audit worker does not run, or something keeps it "
            "from signing"
        )
        return AuditFinding(tenant, "UNSIGNED", proof.size + 1, text)

    async def _first(self, tenant: str) -> datetime | None:
        """When the first entry says that it was made. The database's word, but there is no other; None if it says nothing of use."""
        async with aclosing(entries_of(self._reader, self._pending, tenant, 1)) as entries:
            async for stored in entries:
                try:
                    at = datetime.fromisoformat(stored.entry.fields()["at"])
                except (ValueError, KeyError, TypeError):
                    return None
                return at if at.tzinfo is not None else None
        return None
