"""Batches inside a transaction; part of ``processors.ports.work.Work``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from domain.batches import Batch, BatchItem, BatchState


class Batches(Protocol):
    """Batches of operators' acts, and what became of each item."""

    async def add(self, batch: Batch, items: Sequence[BatchItem]) -> bool:
        """Put a batch on record with its items; False if it is there already."""
        ...

    async def get(self, batch_id: UUID) -> Batch:
        """The batch, locked. Raises BatchNotFound."""
        ...

    async def move(
        self,
        batch_id: UUID,
        before: Collection[BatchState],
        after: BatchState,
        *,
        stopped: str | None = None,
        second: str | None = None,
    ) -> bool:
        """Take the batch from one of the states ``before`` to ``after``; False if it is in none of them."""
        ...

    async def record(self, batch_id: UUID, rank: int, result: str, note: str) -> bool:
        """Note an item's result; False if it has one, or the batch is no longer under way."""
        ...
