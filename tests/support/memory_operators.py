"""What operators do about delivery, in memory: marks of dead letters, orders about held events, refused outbox rows."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from domain.dead_letter_index import DeadLetterEntry
from domain.dead_letters import HeldEvent, RecordPosition, RefusedRow


class OperatorRows(Protocol):
    marks: dict[RecordPosition, str]
    settled_letters: dict[tuple[str, UUID], str]
    held: dict[tuple[str, UUID], HeldEvent]
    given_up: dict[tuple[str, UUID], str]
    refused: dict[int, RefusedRow]
    settled: dict[int, str]


class MemoryDeadLetterMarks:
    def __init__(self, rows: OperatorRows) -> None:
        self._rows = rows.marks

    async def mark(self, place: RecordPosition, act: str, actor: str, reason: str | None) -> bool:
        if place in self._rows:
            return False
        self._rows[place] = act
        return True


class MemoryDeadLetterIndexRows:
    def __init__(self, rows: OperatorRows) -> None:
        self._rows = rows.settled_letters

    async def settle(self, entry: DeadLetterEntry, place: RecordPosition, act: str, actor: str) -> None:
        self._rows[entry.consumer, entry.event_id] = act


class MemoryGiveUpOrders:
    def __init__(self, rows: OperatorRows) -> None:
        self._rows = rows

    async def give_up(self, consumer: str, event_id: UUID, actor: str, reason: str) -> HeldEvent | None:
        key = (consumer, event_id)
        if key not in self._rows.held or key in self._rows.given_up:
            return None
        self._rows.given_up[key] = reason
        return self._rows.held[key]

    async def withdraw(self, consumer: str, event_id: UUID) -> None:
        self._rows.held.pop((consumer, event_id), None)
        self._rows.given_up.pop((consumer, event_id), None)


class MemoryRefusedRows:
    def __init__(self, rows: OperatorRows) -> None:
        self._rows = rows

    async def retry(self, row_id: int) -> RefusedRow | None:
        return self._settle(row_id, "retry")

    async def drop(self, row_id: int) -> RefusedRow | None:
        return self._settle(row_id, "drop")

    def _settle(self, row_id: int, how: str) -> RefusedRow | None:
        row = self._rows.refused.pop(row_id, None)
        if row is not None:
            self._rows.settled[row_id] = how
        return row
