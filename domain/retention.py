"""How long a document has to be kept, and what keeps it longer: legal holds.

A document's retention ends where its row says (``expires_at``, set when it is archived, and only ever moved to a later time).
One that was never archived is kept for the years of its own row, from its deposit on; those are its type's at that time. Only of
one that nothing has looked at since its deposit they are its type's of now, and PostgreSQL writes them down before these become fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.documents import Document, DocumentType


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalHold:
    """A reason not to erase a document, named by its ``reference`` (a case or file number): several may stand side by side.

    ``reason`` and ``lifted_reason`` are codes, actors are pseudonyms. It stands while ``lifted_at`` is None.
    """

    reference: str
    reason: str
    set_by: str
    set_at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None
    lifted_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDocumentCount:
    """Documents of a tenant and type whose retention has ended. ``held``: those of ``count`` that a legal hold keeps."""

    tenant: str
    type_code: str
    count: int
    held: int
    oldest: datetime


def retention_end(document: Document, rule: DocumentType) -> datetime:
    """When the document need not be kept any more."""
    if document.expires_at is not None:
        return document.expires_at
    years = document.retention_years or rule.retention_years
    return years_after(document.deposited_at or document.created_at, years)


def years_after(at: datetime, years: int) -> datetime:
    """The same day and time ``years`` later; 1 March where that year has no 29 February, so that none is kept too short."""
    try:
        return at.replace(year=at.year + years)
    except ValueError:
        return at.replace(year=at.year + years, month=3, day=1)
