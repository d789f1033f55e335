"""Technical facts about documents, beside their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID


class ExtendedMetadata(Protocol):
    """Technical facts by document. Raises AuditStoreUnavailable, or DatabaseUnavailable where they are in the database."""

    async def put(self, document_id: UUID, tenant: str, metadata: Mapping[str, Any]) -> None:
        """Write, replacing what the document had."""
        ...

    async def delete(self, document_id: UUID, tenant: str) -> None:
        """Remove; absent facts are fine."""
        ...
