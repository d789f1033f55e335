"""The archive (GED), and the record of what was begun in it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Protocol
from uuid import UUID

from domain.archive import GedDocument, GedObject, OpenAttempt


class GedFolders(Protocol):
    """Folders and what lies in them, by path. Raises GedUnavailable (away) or ArchiveRefused (never will)."""

    async def find(self, path: Sequence[str]) -> GedObject | None:
        """One of those of that name, should there be several."""
        ...

    def children(self, folder: Sequence[str]) -> AsyncIterator[tuple[str, GedObject]]:
        """Names and objects; nothing if there is no such folder."""
        ...

    async def create_folder(self, path: Sequence[str]) -> None:
        """Create the last folder of ``path`` in its existing parent."""
        ...


class GedDocuments(Protocol):
    """Documents, by their id once they have one. Raises GedUnavailable (away) or ArchiveRefused (never will)."""

    async def create(
        self, folder: Sequence[str], document: GedDocument, content: AsyncIterable[bytes]
    ) -> GedObject | None:
        """None if there is no such folder; ArchiveMismatch if ``content`` is not of the size announced.

        GedOutcomeUnknown if it may have taken effect, or still may; after any other error of ours it has not and will not.
        """
        ...

    def read(self, object_id: str) -> AsyncIterator[bytes]: ...

    async def description_of(self, object_id: str) -> str | None:
        """The description of the document of that id, wherever it lies; None if there is no such document."""
        ...

    async def delete(self, object_id: str) -> None:
        """Delete in all versions; an absent object is fine."""
        ...


class GedRepository(GedFolders, GedDocuments, Protocol):
    """All that the archive does for us."""


class GedAttempts(Protocol):
    """Creations in the GED that were begun and whose outcome is not known (yet): one per document at most."""

    async def open(self, document_id: UUID) -> OpenAttempt | None: ...

    async def begin(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        """From now on ``attempt`` may take effect, until ``seconds`` later. DocumentBusy if another one still may.

        DocumentBusy too if the document is being erased, or was: so that an erasure sees every attempt that there will be.
        """
        ...

    async def renew(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        """It may take effect until ``seconds`` from now. DocumentBusy if another has taken its place."""
        ...

    async def end(self, document_id: UUID, attempt: UUID) -> None:
        """Its outcome is known. DocumentBusy if another has taken its place."""
        ...
