"""The inbox in memory: claims, and their end inside a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol
from uuid import UUID

from domain.errors import ClaimLost
from tests.support.builders import FixedClock


@dataclass
class InboxRow:
    document_key: str
    state: str
    owner: UUID
    until: datetime


class InboxTable(Protocol):
    inbox: dict[tuple[str, UUID], InboxRow]


class Claims(Protocol):
    clock: FixedClock

    @property
    def rows(self) -> InboxTable: ...


class MemoryInboxMarks:
    def __init__(self, rows: InboxTable) -> None:
        self._rows = rows.inbox

    async def finish(self, consumer: str, event_id: UUID, owner: UUID, outcome: str) -> None:
        row = self._rows.get((consumer, event_id))
        if row is None or row.owner != owner or row.state != "CLAIMED":
            raise ClaimLost
        row.state = outcome

    async def reopen(self, consumer: str, event_id: UUID) -> str | None:
        row = self._rows.get((consumer, event_id))
        if row is None:
            return None
        if row.state == "DEAD":
            del self._rows[consumer, event_id]
        return row.state


class Claimed(Enum):
    ACQUIRED = "ACQUIRED"
    DONE = "DONE"
    BUSY = "BUSY"


class MemoryInbox:
    """Claims, outside transactions; see ``streams.delivery.Inbox``."""

    def __init__(self, database: Claims) -> None:
        self._database = database

    async def claim(
        self, consumer: str, event_id: UUID, document_key: str, owner: UUID, lease_seconds: float
    ) -> Claimed:
        rows, now = self._database.rows.inbox, self._database.clock.at
        row = rows.get((consumer, event_id))
        if row is not None and row.state != "CLAIMED":
            return Claimed.DONE
        if row is not None and row.owner != owner and row.until >= now:
            return Claimed.BUSY
        for key, other in list(rows.items()):
            if key[0] == consumer and key[1] != event_id and other.document_key == document_key:
                if other.state == "CLAIMED" and other.until >= now:
                    return Claimed.BUSY
                if other.state == "CLAIMED":
                    del rows[key]
        rows[consumer, event_id] = InboxRow(document_key, "CLAIMED", owner, now + timedelta(seconds=lease_seconds))
        return Claimed.ACQUIRED

    async def renew(self, consumer: str, event_id: UUID, owner: UUID, lease_seconds: float) -> bool:
        row = self._database.rows.inbox.get((consumer, event_id))
        if row is None or row.owner != owner or row.state != "CLAIMED":
            return False
        row.until = self._database.clock.at + timedelta(seconds=lease_seconds)
        return True

    async def release(self, consumer: str, event_id: UUID, owner: UUID) -> None:
        row = self._database.rows.inbox.get((consumer, event_id))
        if row is not None and row.owner == owner and row.state == "CLAIMED":
            del self._database.rows.inbox[consumer, event_id]
