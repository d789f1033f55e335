"""Commits that may share a transaction do: those that wait at the same time are written together.

One transaction holds several events' rows and inbox marks: all of them happen, or none. If it fails for a reason of one of
them, each is written alone, so that no event suffers for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from domain.errors import ClaimLost, DPJError, Transient
from processors.ports import Commit, Database

#: Events in one transaction at most.
MAX_TOGETHER: Final = 256
#: Transactions at once: while one waits for its commit, another is written, if at least ENOUGH events wait for it.
WRITERS: Final = 2
ENOUGH: Final = 32


@dataclass(frozen=True, slots=True)
class _Waiting:
    commit: Commit
    event_id: UUID
    owner: UUID
    written: asyncio.Future[None]


class Together:
    """Writes what ``consumer`` has to commit, with inbox DONE. Bounded by the lanes, whose events wait for it."""

    def __init__(self, database: Database, consumer: str) -> None:
        self._database = database
        self._consumer: Final = consumer
        self._waiting: list[_Waiting] = []
        self._writers = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def write(self, commit: Commit, event_id: UUID, owner: UUID) -> None:
        """Returns once it is committed. Raises ClaimLost, DatabaseUnavailable, or what ``commit`` raises.

        A caller that is cancelled may find it written or not.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(commit, event_id, owner, written))
        if self._writers == 0 or (self._writers < WRITERS and len(self._waiting) >= ENOUGH):
            self._writers += 1
            task = asyncio.create_task(self._write_waiting())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await written

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
                await self._write_batch([one for one in batch if not one.written.done()])
        finally:
            self._writers -= 1

    async def _write_batch(self, batch: Sequence[_Waiting]) -> None:
        error: Exception | None = None
        try:
            async with self._database.transaction() as work:
                for one in batch:
                    await one.commit(work)
                    await work.inbox.finish(self._consumer, one.event_id, one.owner, "DONE")
        except Exception as failure:  # noqa: BLE001 - whatever it is, each of the batch must hear of it
            if len(batch) > 1 and (isinstance(failure, ClaimLost) or not isinstance(failure, Transient)):
                for one in batch:
                    await self._write_batch([one])
                return
            error = failure
        for one in batch:
            if one.written.done():
                continue
            if error is None:
                one.written.set_result(None)
            else:
                one.written.set_exception(_copy_of(error))


def _copy_of(error: Exception) -> Exception:
    """One error each: several tasks raising the same object would write into each other's traceback."""
    return type(error)(error.detail) if isinstance(error, DPJError) else error
