"""A document's one copy in the GED: put there, compared, removed.

The copy is known by its place alone (``location``), so a crash at any moment leaves nothing that the next try could not
find. Names are not unique in every GED under concurrency: a lock of the cluster stands before each creation.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

from domain.archive import GedDocument, GedObject
from domain.documents import Document
from domain.errors import ArchiveMismatch, GedUnavailable, UnexpectedFailure
from processors.closing import closed
from processors.ports import Database

_EXTENSIONS: Final = {
    "application/pdf": "pdf",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/tiff": "tif",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/heic": "heic",
    "text/plain": "txt",
    "text/csv": "csv",
    "application/xml": "xml",
    "text/xml": "xml",
    "application/zip": "zip",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.oasis.opendocument.text": "odt",
}

Path = tuple[str, ...]


class Content(Protocol):
    def read(self, document: Document) -> AsyncIterator[bytes]:
        """The document's clear bytes, from the store."""
        ...


class Ged(Protocol):
    """Documents and folders by path. Raises GedUnavailable (away) or ArchiveRefused (never will)."""

    async def find(self, path: Sequence[str]) -> GedObject | None: ...

    async def create_folder(self, path: Sequence[str]) -> None:
        """Create the last folder of ``path`` in its existing parent."""
        ...

    async def create(
        self, folder: Sequence[str], document: GedDocument, content: AsyncIterable[bytes]
    ) -> GedObject | None:
        """None if there is no such folder; ArchiveMismatch if ``content`` is not of the size announced."""
        ...

    def read(self, object_id: str) -> AsyncIterator[bytes]: ...

    async def delete(self, object_id: str) -> None:
        """Delete; an absent object is fine."""
        ...


@dataclass(frozen=True, slots=True)
class ArchivedCopy:
    """Where the GED keeps a document: its id there, and its path from the root."""

    ged_id: str
    ged_path: str


def location(document: Document) -> tuple[Path, str]:
    """The folder and the name of a document's copy: ``/dpj/{tenant}/{year of deposit}/{dossier id}``, ``{id}.{ext}``.

    They hold ids alone, no word that a person wrote; they never change during a document's life.
    """
    year = (document.deposited_at or document.created_at).year
    extension = _EXTENSIONS.get(document.mime_type or "", "bin")
    return ("dpj", _folder_name(document.tenant), f"{year:04d}", str(document.dossier_id)), f"{document.id}.{extension}"


def _folder_name(tenant: str) -> str:
    """A tenant's id with everything but letters, digits, ``_``, ``-`` and inner dots as ``~XX``: two ids, two names."""
    name = quote(tenant, safe="").replace("~", "%7E").replace("%", "~")
    return f"~2E{name[1:]}" if name.startswith(".") else name


class ArchiveCopies:
    """Puts and removes copies. ``known_folders`` bounds how many folders are remembered to exist."""

    def __init__(self, database: Database, content: Content, ged: Ged, *, known_folders: int = 4096) -> None:
        self._database = database
        self._content = content
        self._ged = ged
        self._folders: OrderedDict[Path, None] = OrderedDict()
        self._known_folders = known_folders

    async def put(self, document: Document, retention_years: int) -> ArchivedCopy:
        """See to it that the GED holds the document, once and whole, and say where.

        Safe to repeat after a crash at any point: a whole copy that is already there is adopted, any other is replaced.
        Raises GedUnavailable, ArchiveRefused, ArchiveMismatch (what the GED gives back differs; the copy is deleted),
        and whatever reading the content raises.
        """
        folder, _ = location(document)
        for _ in range(2):
            # Folders first: who waited for a folder's lock while holding a document's could starve the pool of both.
            await self._ensure_folder(folder)
            async with self._database.lock(f"ged-document:{document.id}"):
                copy = await self._adopted(document) or await self._created(document, retention_years)
            if copy is not None:
                return copy
            # The GED lost a folder that we knew (removed by someone, or restored from an older backup): once more.
            self._folders.pop(folder, None)
        raise GedUnavailable("The GED's folder disappears while it is used.")

    async def remove(self, document: Document) -> bool:
        """Delete the copy if there is one; say whether there was. Raises GedUnavailable or ArchiveRefused."""
        folder, name = location(document)
        async with self._database.lock(f"ged-document:{document.id}"):
            found = await self._ged.find((*folder, name))
            if found is not None:
                await self._ged.delete(found.id)
        return found is not None

    async def _adopted(self, document: Document) -> ArchivedCopy | None:
        """The whole copy that is already there; any other is deleted."""
        folder, name = location(document)
        found = await self._ged.find((*folder, name))
        if found is None:
            return None
        if await self._is_whole(found, document):
            return ArchivedCopy(found.id, _path(document))
        await self._ged.delete(found.id)
        return None

    async def _created(self, document: Document, retention_years: int) -> ArchivedCopy | None:
        """A new copy, compared; None if its folder is gone."""
        folder, name = location(document)
        wanted = GedDocument(
            name=name,
            mime_type=document.mime_type or "application/octet-stream",
            description=(
                f"DPJ {document.id} sha256={document.sha256} type={document.type_code} retention={retention_years}y"
            ),
            size=_size(document),
        )
        async with closed(self._content.read(document)) as content:
            created = await self._ged.create(folder, wanted, content)
        if created is None:
            return None
        if not await self._is_whole(created, document):
            await self._ged.delete(created.id)
            raise ArchiveMismatch("The GED gives back other bytes than it was sent.")
        return ArchivedCopy(created.id, _path(document))

    async def _ensure_folder(self, folder: Path) -> None:
        if folder not in self._folders:
            missing: list[Path] = []
            while (at := folder[: len(folder) - len(missing)]) and await self._ged.find(at) is None:
                missing.append(at)
            for path in reversed(missing):
                async with self._database.lock(f"ged-folder:/{'/'.join(path)}"):
                    if await self._ged.find(path) is None:
                        await self._ged.create_folder(path)
        self._folders[folder] = None
        self._folders.move_to_end(folder)
        while len(self._folders) > self._known_folders:
            self._folders.popitem(last=False)

    async def _is_whole(self, copy: GedObject, document: Document) -> bool:
        if copy.size is not None and copy.size != document.size:
            return False
        digest = hashlib.sha256()
        received = 0
        async with closed(self._ged.read(copy.id)) as content:
            async for piece in content:
                digest.update(piece)
                received += len(piece)
                if received > _size(document):
                    return False
        return digest.hexdigest() == document.sha256


def _path(document: Document) -> str:
    folder, name = location(document)
    return "/" + "/".join((*folder, name))


def _size(document: Document) -> int:
    if document.size is None:
        raise UnexpectedFailure("A stored document has no recorded size.")
    return document.size
