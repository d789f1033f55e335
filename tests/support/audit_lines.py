"""Audit lines, chains of them, and an audit store in memory that can misbehave."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from domain.audit_chain import ChainEntry, ChainHead, StoredEntry, entry_of, genesis, head_after
from domain.errors import AuditConflict, AuditStoreUnavailable
from domain.events import AuditRecorded
from tests.support.builders import NOW


def a_line(tenant: str = "acme", **changes: Any) -> AuditRecorded:
    base: dict[str, Any] = {
        "event_id": uuid4(),
        "sequence": 3,
        "occurred_at": NOW,
        "correlation_id": uuid4(),
        "actor": "u-1",
        "entity_type": "document",
        "entity_id": str(uuid4()),
        "action": "document.verified",
        "details": '{"size":1}',
        "old_state": '{"status":"STORED"}',
        "new_state": '{"status":"VERIFIED"}',
        "ip_sealed": "sealed:ip",
        "user_agent_sealed": None,
    }
    return AuditRecorded(tenant=tenant, **{**base, **changes})


def a_chain(length: int, tenant: str = "acme") -> list[ChainEntry]:
    return chain_of([a_line(tenant) for _ in range(length)], tenant)


def chain_of(lines: Sequence[AuditRecorded], tenant: str = "acme") -> list[ChainEntry]:
    head, entries = genesis(tenant), []
    for line in lines:
        entries.append(entry_of(line, head))
        head = head_after(entries[-1])
    return entries


@dataclass
class MemoryUnflushedEntries:
    """Heads and waiting entries, as PostgreSQL keeps them. ``removed`` lists what was forgotten, by tenant and number;
    ``lines`` counts those without a place."""

    waiting: list[ChainEntry] = field(default_factory=list)
    known: dict[str, ChainHead] = field(default_factory=dict)
    removed: list[tuple[str, int]] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    async def tenants(self) -> Sequence[str]:
        return sorted({entry.tenant for entry in self.waiting})

    async def first(self, tenant: str, limit: int, after: int = 0) -> Sequence[ChainEntry]:
        return [entry for entry in self.waiting if entry.tenant == tenant and entry.seq > after][:limit]

    async def remove(self, tenant: str, up_to: int) -> None:
        self.removed.append((tenant, up_to))
        self.waiting = [entry for entry in self.waiting if entry.tenant != tenant or entry.seq > up_to]

    async def heads(self) -> Sequence[ChainHead]:
        return list(self.known.values())

    async def handed_over(self) -> Mapping[str, int]:
        waiting = {tenant: (await self.first(tenant, 1))[0].seq - 1 for tenant in await self.tenants()}
        return {tenant: waiting.get(tenant, head.seq) for tenant, head in self.known.items()}

    async def unplaced(self) -> Mapping[str, int]:
        return self.lines


@dataclass
class MemoryAuditStore:
    """``away`` counts the coming calls that fail; ``refused`` names tenants whose entries conflict."""

    kept: dict[tuple[str, int], StoredEntry] = field(default_factory=dict)
    away: int = 0
    refused: set[str] = field(default_factory=set)
    batches: list[int] = field(default_factory=list)

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        if self.away:
            self.away -= 1
            raise AuditStoreUnavailable
        if entries[0].tenant in self.refused:
            raise AuditConflict
        self.batches.append(len(entries))
        for entry in entries:
            held = self.kept.setdefault((entry.tenant, entry.seq), StoredEntry(entry, faithful=True))
            if held.entry != entry:
                raise AuditConflict

    async def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]:
        for (owner, seq), stored in sorted(self.kept.items()):
            if owner == tenant and after < seq <= up_to:
                yield stored

    async def outside(self, tenant: str, last: int) -> tuple[int, int] | None:
        numbers = [seq for owner, seq in self.kept if owner == tenant and not 1 <= seq <= last]
        return (min(numbers), max(numbers)) if numbers else None

    async def tenants(self) -> Sequence[str]:
        return sorted({tenant for tenant, _ in self.kept})
