"""Extended metadata in MongoDB, collection ``documents_metadata``: what the file itself says (pages, dimensions, PDF info)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from storage.mongodb.connection import MongoConnection, queryable

COLLECTION: Final = "documents_metadata"


class MongoExtendedMetadata:
    """See ``processors.ports.metadata.ExtendedMetadata``. One document per document id. Raises AuditStoreUnavailable."""

    def __init__(self, url: str, database: str) -> None:
        self._mongo = MongoConnection(url, database)

    async def put(self, document_id: UUID, tenant: str, metadata: Mapping[str, Any]) -> None:
        """Write, or write again."""
        key = str(document_id)
        # What MongoDB could not hold as a value is kept as its text: no file's oddity may hold the pipeline up.
        held = {"_id": key, "tenant": tenant, "metadata": queryable(json.dumps(dict(metadata), default=str))}
        await self._mongo.run(COLLECTION, lambda facts: facts.replace_one({"_id": key}, held, upsert=True))

    async def get(self, document_id: UUID) -> Any:
        """What was written, or None."""
        found = await self._mongo.run(COLLECTION, lambda facts: facts.find_one({"_id": str(document_id)}))
        return None if found is None else found["metadata"]

    async def known(self, ids: Sequence[UUID]) -> Collection[UUID]:
        """Those of ``ids`` that have any."""
        wanted = {"_id": {"$in": [str(one) for one in ids]}}

        async def there(facts: Any) -> set[UUID]:
            return {UUID(held["_id"]) async for held in facts.find(wanted, {"_id": 1})}

        return await self._mongo.run(COLLECTION, there)

    async def delete(self, document_id: UUID, tenant: str) -> None:
        """Forget it; nothing there is fine."""
        wanted = {"_id": str(document_id), "tenant": tenant}
        await self._mongo.run(COLLECTION, lambda facts: facts.delete_one(wanted))

    async def aclose(self) -> None:
        await self._mongo.aclose()
