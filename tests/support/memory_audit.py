"""The audit chains in memory: lines that wait for their place, and those that have one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from domain.audit_chain import ChainEntry, ChainHead, entry_of, genesis, head_after
from domain.events import AuditRecorded


class AuditTables(Protocol):
    waiting: list[AuditRecorded]
    heads: dict[str, ChainHead]
    pending: list[ChainEntry]
    chained: set[UUID]


class AuditDatabase(Protocol):
    @property
    def rows(self) -> AuditTables: ...


class MemoryAuditChains:
    def __init__(self, rows: AuditTables) -> None:
        self._rows = rows

    async def append(self, event: AuditRecorded) -> None:
        if event.event_id not in self._rows.chained | {line.event_id for line in self._rows.waiting}:
            self._rows.waiting.append(event)


class MemoryUnchainedLines:
    """See ``processors.audit.chaining.UnchainedLines``."""

    def __init__(self, database: AuditDatabase) -> None:
        self._database = database

    async def tenants(self) -> Sequence[str]:
        return sorted({line.tenant for line in self._database.rows.waiting})

    async def chain(self, tenant: str, limit: int) -> int:
        rows = self._database.rows
        taken = [line for line in rows.waiting if line.tenant == tenant][:limit]
        for line in taken:
            entry = entry_of(line, rows.heads.get(tenant) or genesis(tenant))
            rows.chained.add(line.event_id)
            rows.pending.append(entry)
            rows.heads[tenant] = head_after(entry)
            rows.waiting.remove(line)
        return len(taken)
