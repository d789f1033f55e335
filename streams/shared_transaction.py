"""A transaction that is shared by the commits that wait at the same time.

One transaction holds several events' rows and inbox marks: all of them happen, or none. If it fails for a reason of one of
them, each is written alone, so that no event suffers for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from domain.errors import ClaimLost, DatabaseUnavailable, Transient
from domain.shared import tracing
from domain.shared.micro_batcher import BatchItem, BatchPolicy, MicroBatcher
from processors.ports.database import Transactions
from processors.ports.work import Commit, Work

#: Events in one transaction at most. While one waits for its commit, another is written, if enough events wait for it.
POLICY: Final = BatchPolicy(size=256, calls=2, enough=32)

#: What is written, and the claim that must still hold: event and owner.
_Claimed = tuple[Commit, UUID, UUID]


class SharedTransaction:
    """Writes what ``consumer`` has to commit, with inbox DONE. Bounded by the lanes, whose events wait for it."""

    def __init__(self, database: Transactions[Work], consumer: str) -> None:
        self._database = database
        self._consumer: Final = consumer
        self._batcher: MicroBatcher[_Claimed, None] = MicroBatcher(self._write_batch, POLICY)

    async def write(self, commit: Commit, event_id: UUID, owner: UUID) -> None:
        """Returns once it is committed. Raises ClaimLost, DatabaseUnavailable, or what ``commit`` raises.

        A caller that is cancelled may find it written or not.
        """
        with tracing.call(DatabaseUnavailable.waiting_for, "transaction"):
            await self._batcher.submit((commit, event_id, owner))

    async def _write_batch(self, batch: Sequence[BatchItem[_Claimed, None]]) -> None:
        try:
            async with self._database.transaction() as work:
                for waiting in batch:
                    commit, event_id, owner = waiting.item
                    await commit(work)
                    await work.inbox.finish(self._consumer, event_id, owner, "DONE")
        except Exception as failure:
            if len(batch) == 1 or (isinstance(failure, Transient) and not isinstance(failure, ClaimLost)):
                raise
            for waiting in batch:
                await self._write_alone(waiting)
            return
        for waiting in batch:
            waiting.answer(None)

    async def _write_alone(self, waiting: BatchItem[_Claimed, None]) -> None:
        try:
            await self._write_batch([waiting])
        except Exception as failure:  # noqa: BLE001 - whatever it is, this event's caller must hear of it
            waiting.fail(failure)
