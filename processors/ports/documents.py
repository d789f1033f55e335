"""A document's rows, those beside it, and what it is filed under, inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.documents import Document, DocumentType, Dossier, Rendition, TimelineEntry
from domain.events import Event


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a document's state as it is to be written: the row before and after, and what is owed beside it."""

    old: Document
    new: Document
    entry: TimelineEntry
    events: tuple[Event, ...]


class Documents(Protocol):
    """Rows of DOCUMENTS inside a transaction."""

    async def add(self, document: Document) -> None: ...

    async def get(self, document_id: UUID) -> Document:
        """Raises DocumentNotFound."""
        ...

    async def lock(self, document_id: UUID) -> Document:
        """As ``get``, holding the row until the transaction ends."""
        ...

    async def next_version(self, parent_id: UUID) -> int:
        """The number after those of the parent and all its versions, as long as the transaction lasts; it locks the parent.

        Raises DocumentNotFound.
        """
        ...

    async def update(self, old: Document, new: Document) -> None:
        """Write what changed, only if the row is still in ``old``'s state and sequence; else StateChanged."""
        ...


class Timeline(Protocol):
    async def add(self, entry: TimelineEntry) -> None: ...

    async def of(self, document_id: UUID) -> Sequence[TimelineEntry]:
        """Oldest first."""
        ...


class Renditions(Protocol):
    async def put(self, rendition: Rendition) -> None:
        """Insert, or replace that of the same document and role."""
        ...

    async def of(self, document_id: UUID) -> Sequence[Rendition]: ...


class Dossiers(Protocol):
    async def add(self, dossier: Dossier) -> None:
        """Raises DossierExists if the tenant has one of that number."""
        ...

    async def get(self, tenant: str, dossier_id: UUID) -> Dossier:
        """Raises DossierNotFound; another tenant's dossier is not found either."""
        ...

    async def page(self, tenant: str | None, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[Dossier]:
        """Newest first, from just after the given (created_at, id)."""
        ...


class DocumentTypes(Protocol):
    async def get(self, code: str) -> DocumentType:
        """Raises TypeUnknown."""
        ...


class ChangeableTypes(Protocol):
    """Types for who changes their options."""

    async def lock(self, code: str) -> DocumentType:
        """The type, until the transaction ends nobody else's to change. Raises TypeUnknown."""
        ...

    async def change(self, rule: DocumentType) -> None:
        """Write the options of the type of that code."""
        ...
