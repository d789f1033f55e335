"""What operators' acts need inside a transaction; part of ``processors.ports.work.Work``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from domain.dead_letter_index import DeadLetterEntry
from domain.dead_letters import HeldEvent, RecordPosition, RefusedRow


class DeadLetterMarks(Protocol):
    """What operators did with dead letters."""

    async def mark(self, place: RecordPosition, act: str, actor: str, reason: str | None) -> bool:
        """Say so once and for all; False if the letter has its mark already."""
        ...


class DeadLetterIndexRows(Protocol):
    """The index of dead letters, by which operators find them without reading Kafka."""

    async def settle(self, entry: DeadLetterEntry, place: RecordPosition, act: str, actor: str) -> None:
        """Note that the letter of ``entry``, which stands at ``place``, was redriven or discarded; also if it is not in the index yet."""
        ...


class GiveUpOrders(Protocol):
    """What operators order about events that a consumer holds."""

    async def give_up(self, consumer: str, event_id: UUID, actor: str, reason: str) -> HeldEvent | None:
        """Have the consumer give the event up at its next try; None if it is not held, or was ordered before."""
        ...

    async def withdraw(self, consumer: str, event_id: UUID) -> None:
        """No order stands any more: the consumer gets the event anew."""
        ...


class RefusedRows(Protocol):
    """Outbox rows that Kafka refuses for good. None: there is no such row, or it was settled before."""

    async def retry(self, row_id: int) -> RefusedRow | None:
        """Have the relay send it again, and what waits for it after it."""
        ...

    async def drop(self, row_id: int) -> RefusedRow | None:
        """Never send it; what waits for it goes on."""
        ...


class ReEmissions(Protocol):
    """Published outbox rows that are to be published again."""

    async def re_emit(self, row_ids: Sequence[int]) -> int:
        """Have the relay send them again; gives how many are, without those that wait already."""
        ...
