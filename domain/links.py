"""Links to the content of one document, for who has no token: signed, for one purpose, for a short time, revocable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLink:
    """``created_by`` is a pseudonym; ``purpose`` a code; ``marks`` are those of the token that it was made with
    (``domain.revocations``): once that is revoked, so is the link."""

    id: UUID
    document_id: UUID
    purpose: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    marks: tuple[str, ...] = ()

    def is_good(self, now: datetime) -> bool:
        """Whether it opens its document at ``now``, if the document's state allows that."""
        return self.revoked_at is None and now < self.expires_at


@dataclass(frozen=True, slots=True)
class SignedLink:
    """What a link's own token says of it."""

    link_id: UUID
    document_id: UUID
    expires_at: datetime
