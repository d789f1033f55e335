"""The audit log on MongoDB and on PostgreSQL, each with what somebody with its password can do to it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pymongo import AsyncMongoClient

from domain.audit_chain import ChainEntry, StoredEntry
from storage.mongodb.audit import MongoAuditStore, document_of
from storage.mongodb.audit import stored_entry as entry_of_document
from storage.postgres.audit.entries import PostgresAuditStore, row_of
from storage.postgres.audit.entries import stored_entry as entry_of_row
from storage.postgres.database import Postgres

JSON = ("details", "ancien_etat", "nouvel_etat")


class AuditLog(ABC):
    """``store`` is the adapter. The rest acts beside it; columns are AUDIT_LOGS', ``entree`` in bytes."""

    store: Any

    @abstractmethod
    def another(self) -> Any:
        """A second adapter, as another process has it."""

    @abstractmethod
    async def held(self, event_id: UUID) -> Mapping[str, Any]:
        """What is stored of an event, json as values."""

    @abstractmethod
    async def count(self) -> int: ...

    @abstractmethod
    async def change(self, event_id: UUID, **columns: Any) -> None: ...

    @abstractmethod
    async def remove(self, tenant: str, first: int, last: int) -> None:
        """Numbers ``first`` to ``last``."""

    @abstractmethod
    async def file(self, entry: ChainEntry, **columns: Any) -> None:
        """Insert the entry with other columns than it has."""

    @abstractmethod
    def read_back(self, entry: ChainEntry, **columns: Any) -> StoredEntry:
        """What the adapter makes of the entry's row if columns of it were changed."""

    async def aclose(self) -> None:
        await self.store.aclose()


class MongoLog(AuditLog):
    def __init__(self, url: str, database: str) -> None:
        self._place = (url, database)
        self.store = MongoAuditStore(url, database)
        self._client = AsyncMongoClient[dict[str, Any]](url, tz_aware=True)
        self.documents: Any = self._client[database]["audit_logs"]
        self._others: list[MongoAuditStore] = []

    def another(self) -> MongoAuditStore:
        self._others.append(MongoAuditStore(*self._place))
        return self._others[-1]

    async def held(self, event_id: UUID) -> Mapping[str, Any]:
        found: dict[str, Any] = await self.documents.find_one({"_id": str(event_id)})
        return found

    async def count(self) -> int:
        return int(await self.documents.count_documents({}))

    async def change(self, event_id: UUID, **columns: Any) -> None:
        await self.documents.update_one({"_id": str(event_id)}, {"$set": _as_document(columns)})

    async def remove(self, tenant: str, first: int, last: int) -> None:
        await self.documents.delete_many({"tenant": tenant, "seq": {"$gte": first, "$lte": last}})

    async def file(self, entry: ChainEntry, **columns: Any) -> None:
        await self.documents.insert_one({**document_of(entry), **_as_document(columns)})

    def read_back(self, entry: ChainEntry, **columns: Any) -> StoredEntry:
        return entry_of_document({**document_of(entry), **_as_document(columns)})

    async def aclose(self) -> None:
        for store in (self.store, *self._others):
            await store.aclose()
        await self._client.drop_database(self._place[1])
        await self._client.close()


def _as_document(columns: Mapping[str, Any]) -> dict[str, Any]:
    changed = {("_id" if name == "id" else name): value for name, value in columns.items()}
    if isinstance(changed.get("_id"), UUID):
        changed["_id"] = str(changed["_id"])
    if isinstance(changed.get("entree"), bytes):
        changed["entree"] = changed["entree"].decode()
    return changed


class PostgresLog(AuditLog):
    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.store = PostgresAuditStore(postgres)

    def another(self) -> PostgresAuditStore:
        return PostgresAuditStore(self.postgres)

    async def held(self, event_id: UUID) -> Mapping[str, Any]:
        async with self.postgres.connection() as connection:
            row = await connection.fetchrow("SELECT * FROM audit_logs WHERE id = $1", event_id)
        assert row is not None
        return dict(row)

    async def count(self) -> int:
        async with self.postgres.connection() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM audit_logs"))

    async def change(self, event_id: UUID, **columns: Any) -> None:
        for name, value in columns.items():
            await self._as_owner(f'UPDATE audit_logs SET "{name}" = $2 WHERE id = $1', event_id, value)  # noqa: S608

    async def remove(self, tenant: str, first: int, last: int) -> None:
        await self._as_owner("DELETE FROM audit_logs WHERE tenant = $1 AND seq BETWEEN $2 AND $3", tenant, first, last)

    async def file(self, entry: ChainEntry, **columns: Any) -> None:
        row = {**row_of(entry), **columns}
        names = ", ".join(f'"{name}"' for name in row)
        values = ", ".join(f"${n}{'::text::jsonb' if name in JSON else ''}" for n, name in enumerate(row, 1))
        await self._as_owner(f"INSERT INTO audit_logs ({names}) VALUES ({values})", *row.values())  # noqa: S608

    def read_back(self, entry: ChainEntry, **columns: Any) -> StoredEntry:
        return entry_of_row({**row_of(entry), **columns})

    async def _as_owner(self, statement: str, *values: Any) -> None:
        """Whoever owns the table may take its guard away."""
        async with self.postgres.connection() as connection, connection.transaction():
            await connection.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
            await connection.execute(statement, *values)
            await connection.execute("ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_restent")

    async def aclose(self) -> None:
        await asyncio.sleep(0)  # the database is the fixture's
