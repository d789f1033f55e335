"""What links need: their rows, and the tokens that are handed out for them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.links import DocumentLink


class Links(Protocol):
    async def add(self, link: DocumentLink) -> None: ...

    async def get(self, link_id: UUID) -> DocumentLink | None: ...

    async def revoke(self, link_id: UUID, at: datetime) -> None:
        """Nothing happens to one that is revoked already, or that is not there."""
        ...

    async def count_good(self, document_id: UUID, now: datetime) -> int:
        """How many of the document's links are neither expired nor revoked."""
        ...


class LinkTokens(Protocol):
    """What is handed out for a link: only who holds the key can make it."""

    def sign(self, link: DocumentLink) -> str: ...

    def verify(self, token: str) -> tuple[UUID, UUID]:
        """Ids of the link and of its document. Raises LinkNotFound for what was not signed here, or is past its end."""
        ...
