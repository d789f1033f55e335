"""The audit log in MongoDB, database collection ``audit_logs``: AUDIT_LOGS' field names beside the chained entry itself.

``entree`` holds an entry's canonical JSON and ``empreinte`` its SHA-256: they are the record. The other fields repeat it for
queries. ``_id`` is the event's id; (tenant, seq) is unique. Plain inserts and finds only, no transactions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from bson import Int64
from pymongo import ASCENDING
from pymongo.errors import BulkWriteError

from domain.audit_chain import ChainEntry, StoredEntry
from domain.errors import AuditConflict, AuditStoreUnavailable
from storage.mongodb.connection import NEVER, Collection, MongoConnection, queryable

COLLECTION: Final = "audit_logs"
PAGE: Final = 1_000
#: Documents of one insert. FerretDB splits a longer one, and goes on with the next part after a refusal, though it was told to stop.
TOGETHER: Final = 100
_DUPLICATE_KEY: Final = 11000

Document = dict[str, Any]


class MongoAuditStore:
    """See ``processors.ports.audit.AuditStore``, ``processors.audit.reading.EntriesOfEntity`` and ``operations.audit.verify.AuditReader``.
    Raises AuditStoreUnavailable."""

    def __init__(self, url: str, database: str) -> None:
        self._mongo = MongoConnection(url, database)
        self._is_indexed = False

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        """Keep ``entries``; those already there in the same bytes are fine. Raises AuditConflict for any other."""
        if entries:
            await self._index()
        for first in range(0, len(entries), TOGETHER):
            await self._add_some([document_of(entry) for entry in entries[first : first + TOGETHER]])

    async def _add_some(self, documents: list[Document]) -> None:
        while documents:
            taken = await self._insert(documents)
            documents = [] if taken is None else await self._after_ours(documents[taken:])

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]:
        """Entries numbered above ``after`` and not above ``up_to``, in order."""
        return self._pages({"tenant": tenant}, after, {"$lte": Int64(up_to)})

    def of_entity(self, tenant: str, entity_id: str) -> AsyncGenerator[StoredEntry, None]:
        """Entries about one entity, in order."""
        return self._pages({"tenant": tenant, "entity_id": entity_id}, 0, {})

    async def _pages(
        self, wanted: Mapping[str, Any], after: int, bounds: Mapping[str, Any]
    ) -> AsyncGenerator[StoredEntry, None]:
        await self._index()
        read: Any = Int64(after)

        async def page(collection: Collection) -> list[Document]:
            query = {**wanted, "seq": {"$gt": read, **bounds}}
            # All pages by their number: no cursor is open while somebody works on an entry.
            return await collection.find(query).sort("seq", ASCENDING).limit(PAGE).to_list(PAGE)

        while documents := await self._mongo.run(COLLECTION, page):
            for document in documents:
                yield stored_entry(document)
            if len(documents) < PAGE:
                return
            read = documents[-1]["seq"]

    async def outside(self, tenant: str, last: int) -> tuple[int, int] | None:
        """Lowest and highest number of what is filed under ``tenant`` but not as 1 to ``last``; 0 stands for no number."""
        await self._index()
        query = {"tenant": tenant, "seq": {"$not": {"$gte": Int64(1), "$lte": Int64(last)}}}

        async def extremes(collection: Collection) -> list[int]:
            numbers: list[int] = []
            async with collection.find(query, {"seq": 1}, batch_size=PAGE) as cursor:
                async for document in cursor:
                    seq = document.get("seq")
                    number = seq if isinstance(seq, int) and not isinstance(seq, bool) else 0
                    numbers = [min([number, *numbers]), max([number, *numbers])]
            return numbers

        numbers = await self._mongo.run(COLLECTION, extremes)
        return (numbers[0], numbers[1]) if numbers else None

    async def tenants(self) -> Sequence[str]:
        """Those with entries."""
        await self._index()
        found = await self._mongo.run(COLLECTION, lambda collection: collection.distinct("tenant"))
        return sorted({str(tenant) for tenant in found})

    async def check(self) -> None:
        """Raises AuditStoreUnavailable if the store can't serve now."""
        await self._mongo.check()

    async def aclose(self) -> None:
        await self._mongo.aclose()

    async def _index(self) -> None:
        async def indexed(collection: Collection) -> None:
            await collection.create_index([("tenant", ASCENDING), ("seq", ASCENDING)], unique=True)
            await collection.create_index([("entity_id", ASCENDING), ("timestamp", ASCENDING)])
            await collection.create_index([("tenant", ASCENDING), ("timestamp", ASCENDING)])

        if not self._is_indexed:
            await self._mongo.run(COLLECTION, indexed)
            self._is_indexed = True

    async def _after_ours(self, documents: Sequence[Document]) -> list[Document]:
        """``documents`` from the first on that is not there. The place of the first one is taken: by itself, as the last try was cut off.

        One by one, by the id alone: FerretDB reads the whole log for any other question, and then a try might never end in time.
        """

        for number, document in enumerate(documents):
            held = await self._mongo.run(COLLECTION, partial(_held, document["_id"]))
            if held is None and number:
                return list(documents[number:])
            if held != document:
                raise AuditConflict("The audit log holds another entry in this place.")
        return []

    async def _insert(self, documents: Sequence[Document]) -> int | None:
        """The number of the first one whose place is taken; those before it are there then.

        In order: what follows a place that another chain has taken must not get in behind it.
        """

        async def inserted(collection: Collection) -> int | None:
            try:
                await collection.insert_many(documents, ordered=True)
            except BulkWriteError as error:
                failures = (error.details or {}).get("writeErrors", [])
                if failures and all(failure["code"] == _DUPLICATE_KEY for failure in failures):
                    return int(failures[0]["index"])
                if any(failure["code"] in NEVER for failure in failures):
                    raise AuditConflict("The audit log will never take one of these entries.") from error
                raise AuditStoreUnavailable("The audit store did not take the entries.") from error
            return None

        return await self._mongo.run(COLLECTION, inserted)


async def _held(entry_id: str, collection: Collection) -> Document | None:
    return await collection.find_one({"_id": entry_id})


def document_of(entry: ChainEntry) -> Document:
    """The document of an entry. The same entry is always the same document."""
    fields = entry.fields()
    at = datetime.fromisoformat(fields["at"]).astimezone(UTC)
    return {
        "_id": str(entry.event_id),
        "tenant": entry.tenant,
        "seq": Int64(entry.seq),
        "entity_type": fields["entity_type"],
        "entity_id": fields["entity_id"],
        "action": fields["action"],
        "utilisateur_id": fields["actor"],
        "timestamp": at.replace(microsecond=at.microsecond // 1000 * 1000),  # MongoDB keeps milliseconds
        "ip_address": fields["ip_sealed"],
        "user_agent": fields["user_agent_sealed"],
        "details": queryable(fields["details"]),
        "ancien_etat": queryable(fields["old_state"]),
        "nouvel_etat": queryable(fields["new_state"]),
        "correlation_id": fields["correlation_id"],
        "entree": entry.body.decode(),
        "empreinte": entry.hash,
    }


def stored_entry(document: Mapping[str, Any]) -> StoredEntry:
    """The entry that a document holds; not ``faithful`` if any of its fields is not what the entry makes it."""
    try:
        entry = ChainEntry(
            tenant=str(document.get("tenant")),
            seq=int(document.get("seq", 0)),
            event_id=UUID(document["_id"]),
            body=str(document.get("entree", "")).encode(),
            hash=str(document.get("empreinte")),
        )
    except (ValueError, TypeError, AttributeError):
        return StoredEntry(_unreadable(document), faithful=False)
    try:
        return StoredEntry(entry, faithful=document_of(entry) == document)
    except (ValueError, KeyError, TypeError):
        return StoredEntry(entry, faithful=False)


def _unreadable(document: Mapping[str, Any]) -> ChainEntry:
    seq = document.get("seq")
    return ChainEntry(tenant="", seq=seq if isinstance(seq, int) else 0, event_id=UUID(int=0), body=b"", hash="")
