"""Batches of operators' acts and pauses of consumers in memory; see ``processors.ports.batches`` and ``processors.ports.pauses``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import UUID

from domain.batches import UNDER_WAY, Batch, BatchItem, BatchState
from domain.pauses import Pause
from domain.refusals import BatchNotFound
from tests.support.builders import FixedClock


class MemoryBatches:
    def __init__(self, rows: dict[UUID, tuple[Batch, list[BatchItem]]], clock: FixedClock) -> None:
        self._rows = rows
        self._clock = clock

    async def add(self, batch: Batch, items: Sequence[BatchItem]) -> bool:
        if batch.id in self._rows:
            return False
        self._rows[batch.id] = (replace(batch, created_at=self._clock.at, changed_at=self._clock.at), list(items))
        return True

    async def get(self, batch_id: UUID) -> Batch:
        if batch_id not in self._rows:
            raise BatchNotFound
        return self._rows[batch_id][0]

    async def move(
        self,
        batch_id: UUID,
        before: Collection[BatchState],
        after: BatchState,
        *,
        stopped: str | None = None,
        second: str | None = None,
    ) -> bool:
        batch, items = self._rows[batch_id]
        if batch.state not in before:
            return False
        moved = replace(batch, state=after, stopped=stopped, second=second or batch.second)
        self._rows[batch_id] = (moved, items)
        return True

    async def record(self, batch_id: UUID, rank: int, result: str, note: str) -> bool:
        batch, items = self._rows[batch_id]
        item = next(one for one in items if one.rank == rank)
        if batch.state not in UNDER_WAY or item.result is not None:
            return False
        done = replace(item, result=result, note=note, done_at=self._clock.at)
        self._rows[batch_id] = (batch, [done if one.rank == rank else one for one in items])
        return True


class MemoryPauses:
    def __init__(self, rows: dict[str, Pause], clock: FixedClock) -> None:
        self._rows = rows
        self._clock = clock

    async def pause(self, pause: Pause) -> bool:
        standing = self._rows.get(pause.consumer)
        if standing is not None and standing.until > self._clock.at:
            return False
        self._rows[pause.consumer] = pause
        return True

    async def resume(self, consumer: str, actor: str) -> Pause | None:
        assert actor
        standing = self._rows.pop(consumer, None)
        return standing if standing is not None and standing.until > self._clock.at else None
