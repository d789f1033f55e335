"""A document's one copy in the GED: put there, compared, removed.

Until it is recorded the copy is known by its place alone (``location``), so a crash at any moment leaves nothing that the next
try could not find; from then on by its id too, which it keeps wherever somebody moves it. Names are not unique in every GED under concurrency, and a creation may take effect after its sender has given up, or
is dead. So before a creation stand a lock of the cluster and a record in PostgreSQL, the open attempt, which says until when
the creation may take effect. Its sender keeps the record open while it sends, and stops sending when it can't; whoever comes
after it adopts what it made, or waits until nothing can come of it any more. What defies even that is found by
reconciling (``processors.reconcile.ged``).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote
from uuid import UUID, uuid4

from domain.archive import GedDocument, GedObject, OpenAttempt
from domain.documents import Document
from domain.errors import (
    ArchiveMismatch,
    DocumentBusy,
    DPJError,
    GedOutcomeUnknown,
    GedUnavailable,
    Transient,
    UnexpectedFailure,
)
from domain.shared.crash_points import reach
from processors.ports.database import HeldLock, LockingTransactions
from processors.ports.ged import GedDocuments, GedFolders, GedRepository
from processors.ports.work import HasGedAttempts
from processors.resilience.closing_streams import closing_stream

_EXTENSIONS: Final = {
    "application/pdf": "pdf",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/tiff": "tif",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/heic": "heic",
    "image/avif": "avif",
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

#: What our copies are described with, first of all.
_OF_DOCUMENT: Final = re.compile(r"DPJ ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")


class ArchivableContent(Protocol):
    def read(self, document: Document) -> AsyncIterator[bytes]:
        """The document's clear bytes, from the store."""
        ...


@dataclass(frozen=True, slots=True)
class ArchivedCopy:
    """Where the GED keeps a document: its id there, and its path from the root.

    ``attempt``: the open attempt that made it, to be ended where the copy is recorded.
    """

    ged_id: str
    ged_path: str
    attempt: UUID | None = field(default=None, compare=False)


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


class CopyRemover:
    """Removes copies, those in the document's place and the recorded one wherever it is by now; needs no content."""

    def __init__(self, database: LockingTransactions[HasGedAttempts], ged: GedRepository) -> None:
        self._database = database
        self._ged = ged

    async def remove(self, document: Document) -> bool:
        """Delete the copy if there is one, also one that somebody moved or renamed in the GED; say whether there was.

        Raises GedUnavailable (also while a creation may still take effect) or ArchiveRefused.
        """
        folder, name = location(document)
        async with self._database.lock(copy_lock(document)):
            attempt = await self.open_attempt(document)
            found = await self._ged.find((*folder, name))
            if found is None and attempt is not None and not attempt.settled:
                raise GedOutcomeUnknown("An earlier creation may still take effect.")
            for copy in await copies_in_place(self._ged, document) if found is not None else []:
                await self._ged.delete(copy.id)
            moved = await self.find_recorded(document)
            if moved is not None:
                await self._ged.delete(moved)
            if attempt is not None:
                await self.end_attempt(document.id, attempt.attempt)
        return found is not None or moved is not None

    async def find_recorded(self, document: Document) -> str | None:
        """The recorded copy's id, if the GED has it, in whatever place and under whatever name. Raises GedUnavailable or ArchiveRefused.

        Not if it says that it is another document's: a GED that was set up anew may have given the id away once more.
        """
        if document.ged_id is None:
            return None
        described = await self._ged.description_of(document.ged_id)
        if described is None:
            return None
        of = _OF_DOCUMENT.match(described)
        return document.ged_id if of is None or of[1] == str(document.id) else None

    async def open_attempt(self, document: Document) -> OpenAttempt | None:
        """The creation whose outcome is not known yet."""
        async with self._database.transaction() as work:
            return await work.ged_attempts.open(document.id)

    async def end_attempt(self, document_id: UUID, attempt: UUID) -> None:
        """Its outcome is known."""
        async with self._database.transaction() as work:
            await work.ged_attempts.end(document_id, attempt)


class ArchiveCopies:
    """Puts and removes copies. ``known_folders`` bounds how many folders are remembered to exist.

    ``settle_seconds``: how long the GED may take to complete a creation that has reached it whole. ``attempt_seconds``: how
    long an open attempt lasts if its sender does not renew it.
    """

    def __init__(
        self,
        database: LockingTransactions[HasGedAttempts],
        content: ArchivableContent,
        ged: GedRepository,
        *,
        settle_seconds: float = 20.0,
        attempt_seconds: float = 10.0,
        known_folders: int = 4096,
    ) -> None:
        self._database = database
        self._content = content
        self._ged = ged
        self._remover = CopyRemover(database, ged)
        self._settle_seconds = settle_seconds
        self._attempt_seconds = attempt_seconds
        self._folders: OrderedDict[Path, None] = OrderedDict()
        self._known_folders = known_folders

    async def put(self, document: Document, retention_years: int) -> ArchivedCopy:
        """See to it that the GED holds the document, once and whole, and say where.

        Safe to repeat after a crash at any point: a whole copy that is already there is adopted, any other is replaced.
        Raises GedUnavailable, ArchiveRefused, ArchiveMismatch (what the GED gives back differs; the copy is deleted),
        DocumentBusy, DatabaseUnavailable, and whatever reading the content raises.
        """
        folder, _ = location(document)
        for _ in range(2):
            # Folders first: who waited for a folder's lock while holding a document's could starve the pool of both.
            await self._ensure_folder(folder)
            async with self._database.lock(copy_lock(document)) as held:
                reach("archiving.locked")
                copy = await self._adopt_existing(document) or await self._create_copy(document, retention_years, held)
            if copy is not None:
                return copy
            # The GED lost a folder that we knew (removed by someone, or restored from an older backup): once more.
            self._folders.pop(folder, None)
        raise GedUnavailable("The GED's folder disappears while it is used.")

    async def remove(self, document: Document) -> bool:
        """See ``CopyRemover.remove``."""
        return await self._remover.remove(document)

    async def _adopt_existing(self, document: Document) -> ArchivedCopy | None:
        """The whole copy that is already there; any other is deleted. Raises GedOutcomeUnknown if one may still appear."""
        folder, name = location(document)
        attempt = await self._remover.open_attempt(document)
        if attempt is None:
            one = await self._ged.find((*folder, name))
            found = [] if one is None else [one]
        else:
            found = await copies_in_place(self._ged, document)
        for copy in found:
            if await is_intact(self._ged, copy, document):
                await self._delete_others(found, copy)
                return ArchivedCopy(copy.id, _path(document), attempt.attempt if attempt else None)
        if attempt is not None and not attempt.settled:
            raise GedOutcomeUnknown("An earlier creation may still take effect.")
        for copy in found:
            await self._ged.delete(copy.id)
        return None

    async def _create_copy(self, document: Document, retention_years: int, held: HeldLock) -> ArchivedCopy | None:
        """A new copy, compared; None if its folder is gone."""
        wanted = GedDocument(
            name=location(document)[1],
            mime_type=document.mime_type or "application/octet-stream",
            description=(
                f"DPJ {document.id} sha256={document.sha256} type={document.type_code} retention={retention_years}y"
            ),
            size=_size(document),
        )
        attempt = uuid4()
        async with self._open_attempt(document.id, attempt, held) as until:
            async with closing_stream(_before(self._content.read(document), until)) as content:
                created = await self._ged.create(location(document)[0], wanted, content)
            if created is None:
                await self._remover.end_attempt(document.id, attempt)
                return None
        reach("archiving.created")
        if not await is_intact(self._ged, created, document):
            await self._ged.delete(created.id)
            await self._remover.end_attempt(document.id, attempt)
            raise ArchiveMismatch("The GED gives back other bytes than it was sent.")
        reach("archiving.compared")
        return ArchivedCopy(created.id, _path(document), attempt)

    @asynccontextmanager
    async def _open_attempt(self, document_id: UUID, attempt: UUID, held: HeldLock) -> AsyncIterator[asyncio.Timeout]:
        """An open attempt for the time of a creation, which ends with GedOutcomeUnknown when it can't be kept open.

        The attempt stays open, unless the creation says that it has not taken effect and never will.
        """
        loop = asyncio.get_running_loop()
        lasts = self._attempt_seconds + self._settle_seconds
        ends = loop.time() + self._attempt_seconds
        async with self._database.transaction() as work:
            await work.ged_attempts.begin(document_id, attempt, lasts)
        reach("archiving.attempted")
        try:
            await held.check()
            async with asyncio.timeout_at(ends) as until:
                renewing = asyncio.create_task(self._keep_open(document_id, attempt, until))
                try:
                    yield until
                finally:
                    renewing.cancel()
                    await asyncio.gather(renewing, return_exceptions=True)
        except TimeoutError:
            raise GedOutcomeUnknown("A creation took too long for its record to be kept.") from None
        except GedOutcomeUnknown:
            with suppress(Transient):  # sooner, that is all
                async with self._database.transaction() as work:
                    await work.ged_attempts.renew(document_id, attempt, self._settle_seconds)
            raise
        except DPJError:
            with suppress(Transient):
                await self._remover.end_attempt(document_id, attempt)
            raise

    async def _keep_open(self, document_id: UUID, attempt: UUID, until: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._attempt_seconds / 3)
            ends = loop.time() + self._attempt_seconds
            try:
                async with self._database.transaction() as work:
                    await work.ged_attempts.renew(document_id, attempt, self._attempt_seconds + self._settle_seconds)
            except DocumentBusy:
                return  # no longer ours: the time that is left passes, and the creation is stopped
            except Transient:
                continue
            until.reschedule(ends)

    async def _delete_others(self, found: Sequence[GedObject], kept: GedObject) -> list[str]:
        others = [copy.id for copy in found if copy.id != kept.id]
        for other in others:
            await self._ged.delete(other)
        return others

    async def _ensure_folder(self, folder: Path) -> None:
        if folder not in self._folders:
            missing: list[Path] = []
            while (at := folder[: len(folder) - len(missing)]) and await self._ged.find(at) is None:
                missing.append(at)
            for path in reversed(missing):
                async with self._database.lock(f"ged-folder:/{'/'.join(path)}") as held:
                    if await self._ged.find(path) is None:
                        await held.check()
                        await self._ged.create_folder(path)
        self._folders[folder] = None
        self._folders.move_to_end(folder)
        while len(self._folders) > self._known_folders:
            self._folders.popitem(last=False)


async def copies_in_place(ged: GedFolders, document: Document) -> list[GedObject]:
    """All that the GED has in the document's place, in the order of their ids. Raises GedUnavailable."""
    folder, name = location(document)
    async with closing_stream(ged.children(folder)) as children:
        found = [child async for child_name, child in children if child_name == name]
    return sorted(found, key=lambda child: child.id)


async def is_intact(ged: GedDocuments, copy: GedObject, document: Document) -> bool:
    """Whether the copy's bytes are the document's. Raises GedUnavailable."""
    if copy.size is not None and copy.size != document.size:
        return False
    digest = hashlib.sha256()
    received = 0
    async with closing_stream(ged.read(copy.id)) as content:
        async for piece in content:
            digest.update(piece)
            received += len(piece)
            if received > _size(document):
                return False
    return digest.hexdigest() == document.sha256


def copy_lock(document: Document) -> str:
    """The cluster-wide lock under which a document's copies are created and deleted."""
    return f"ged-document:{document.id}"


async def _before(content: AsyncIterator[bytes], until: asyncio.Timeout) -> AsyncIterator[bytes]:
    """``content``, but not its end once the time is over: a process that was suspended must not complete what it began."""
    loop = asyncio.get_running_loop()
    async with closing_stream(content) as pieces:
        async for piece in pieces:
            yield piece
    if loop.time() >= (until.when() or 0.0):
        raise DocumentBusy("The document's copy took too long to be sent.")


def _path(document: Document) -> str:
    folder, name = location(document)
    return "/" + "/".join((*folder, name))


def _size(document: Document) -> int:
    if document.size is None:
        raise UnexpectedFailure("A stored document has no recorded size.")
    return document.size
