"""Memory and PostgreSQL as one, for contract tests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.audit_chain import ChainEntry
from domain.documents import Document, Dossier
from processors.audit.chaining import UnchainedLines
from processors.documents.reading import DocumentQueries
from processors.ports.database import Database, HeldLock
from storage.postgres.audit.chain import PostgresUnchainedLines, PostgresUnflushedEntries
from streams.delivery import Inbox
from tests.support.memory import MemoryDatabase, MemoryUnchainedLines

GONE = -1.0  # a lease that ran out before it began
LONG = 60.0


class Rolled(Exception):
    """Raised in a block so that its transaction rolls back."""


@dataclass
class DatabaseBackend:
    """One implementation with the dossier that tests use."""

    database: Database
    queries: DocumentQueries
    inbox: Inbox
    memory: MemoryDatabase | None
    postgres: Any
    dossier: Dossier

    def lock(self, name: str) -> AbstractAsyncContextManager[HeldLock]:
        """Waits half a second at most."""
        return self.database.lock(name) if self.memory else self.postgres.lock(name, wait_seconds=0.5)

    async def add(self, *documents: Document) -> None:
        async with self.database.transaction() as work:
            for document in documents:
                await work.documents.add(document)

    async def get(self, document_id: UUID) -> Document:
        async with self.database.transaction() as work:
            return await work.documents.get(document_id)

    @property
    def waiting(self) -> UnchainedLines:
        return MemoryUnchainedLines(self.memory) if self.memory else PostgresUnchainedLines(self.postgres)

    async def pending(self, tenant: str) -> Sequence[ChainEntry]:
        if self.memory:
            return [entry for entry in self.memory.rows.pending if entry.tenant == tenant]
        return await PostgresUnflushedEntries(self.postgres).first(tenant, 1000)
