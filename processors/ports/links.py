"""What links need: their rows, and the tokens that are handed out for them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.links import DocumentLink, SignedLink


class Links(Protocol):
    async def add(self, link: DocumentLink) -> None: ...

    async def get(self, link_id: UUID) -> DocumentLink | None: ...

    async def revoke(self, link_id: UUID, at: datetime) -> None:
        """Nothing happens to one that is revoked already, or that is not there."""
        ...

    async def revoke_made_with(self, mark: str, at: datetime) -> int:
        """Revoke what is still good at ``at`` and was made with a token of this mark; how many that were."""
        ...

    async def count_good(self, document_id: UUID, now: datetime) -> int:
        """How many of the document's links are neither expired nor revoked."""
        ...


class LinkTokens(Protocol):
    """What is handed out for a link: only who holds the key can make it."""

    def sign(self, link: DocumentLink) -> str: ...

    def verify(self, token: str) -> SignedLink:
        """Raises LinkNotFound for what was not signed here. Whether it has expired is the caller's to see."""
        ...
