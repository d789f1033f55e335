"""The row of an archived document that a restored PostgreSQL has forgotten, made again from what the GED and the audit log know.

The GED has the clear content, the log its SHA-256 and size, where it lies and how long it is kept. The content comes back whole: it is read
from the GED, held against the log, sealed under a new key and stored as a new object. What only the row had is gone: file name, depositor's
address and name, tags, metadata, notes, the step of the journey, the parent of a version, and the key of the audit lines about
it. Thumbnails are made again. A dossier that is gone too comes back under its id, with its other fields empty.

Cut off before its transaction, an attempt leaves an object that no row names, and the next one begins anew; after it, there is a row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID, uuid5

from domain.documents import Document, Dossier, Language, TimelineEntry
from domain.errors import DPJError
from domain.events import DocumentVerified
from domain.keys import EncryptionContext, WrappedKey
from domain.lifecycle import ATTEMPTS, Status
from domain.objects import StoredObject
from domain.personal_texts import UploadedTexts
from domain.reconciliation import new_object_key
from domain.refusals import DocumentNotFound, DossierNotFound, TypeUnknown
from domain.restores import ARCHIVED, DECISIONS, STATE_AFTER, STORED, DocumentHistory, RecordedAct
from domain.retention import years_after
from domain.subjects import Subject
from processors.documents.dossiers import OPEN
from processors.documents.intake import ContentWriter
from processors.documents.personal_texts import PersonalTexts
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import HasDocumentTypes, HasDossiers, HasSubjectKeyRows, StateWork

RESTORED: Final = "document.row_restored"
#: What stands where nobody knows any more what stood there.
UNKNOWN: Final = "RESTORED"

#: ``processors.events.archive_copies.location``: /dpj/{tenant}/{year}/{dossier id}/{document id}.{extension}
_DOSSIER: Final = re.compile(r"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/([0-9a-f-]{36}\.[a-z0-9]+)$")
_OF_DOCUMENT: Final = re.compile(r"DPJ ([0-9a-f-]{36})\b")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class ArchivedContent(Protocol):
    """The GED. Raises GedUnavailable or ArchiveRefused."""

    def read(self, object_id: str) -> AsyncIterator[bytes]: ...

    async def description_of(self, object_id: str) -> str | None: ...


class ContentStore(ContentWriter, Protocol):
    """See ``processors.documents.content.EncryptedContent``."""

    async def delete(self, object_key: str) -> None: ...


class RowWork(StateWork, HasDossiers, HasDocumentTypes, HasSubjectKeyRows, Protocol):
    """A row, its dossier if that is gone, its timeline, its key and the line that says so, or nothing."""


@dataclass(frozen=True, slots=True)
class ArchivedFacts:
    """What log and GED together have to know of a document for its row to be made again."""

    ged_id: str
    ged_path: str
    dossier_id: UUID
    file_name: str
    sha256: str
    size: int
    retention_years: int
    mime_type: str
    type_code: str
    deposited: RecordedAct
    archived: RecordedAct


class NotRebuildable(Exception):
    """Why a row can't be made again, in words for an operator."""


def archived_facts(history: DocumentHistory) -> ArchivedFacts:
    """Raises NotRebuildable."""
    deposited, archived = history.last(STORED), history.last(ARCHIVED)
    if deposited is None or archived is None:
        raise NotRebuildable("the log does not say how it was taken in")
    sha256, path = archived.text("sha256"), archived.text("ged_path") or ""
    place = _DOSSIER.search(path)
    size, years = archived.number("size"), archived.number("retention_years")
    if sha256 is None or not _SHA256.fullmatch(sha256) or not size:
        raise NotRebuildable("the log does not say its SHA-256 (an entry of an earlier release)")
    if place is None or not place[2].startswith(f"{history.document_id}."):
        raise NotRebuildable("the log does not say which dossier it is of")
    ged_id, mime_type, type_code = archived.text("ged_id"), deposited.text("mime_type"), deposited.text("type")
    if not (ged_id and mime_type and type_code and years):
        raise NotRebuildable("the log does not say its type, its retention or its place in the GED")
    return ArchivedFacts(
        ged_id=ged_id,
        ged_path=path,
        dossier_id=UUID(place[1]),
        file_name=place[2],
        sha256=sha256,
        size=size,
        retention_years=years,
        mime_type=mime_type,
        type_code=type_code,
        deposited=deposited,
        archived=archived,
    )


class RowsFromGed:
    """``actor`` is the pseudonym of the operator who has rows made again."""

    def __init__(
        self,
        database: Transactions[RowWork],
        ged: ArchivedContent,
        content: ContentStore,
        texts: PersonalTexts,
        personal: PersonalData,
        clock: Clock,
        actor: str,
    ) -> None:
        self._database = database
        self._ged = ged
        self._content = content
        self._texts = texts
        self._personal = personal
        self._clock = clock
        self._actor = actor

    async def rebuild(self, history: DocumentHistory) -> bool:
        """Make the row; False if there is one. Raises NotRebuildable, or what says that GED, object store, keyring or database are away."""
        facts = archived_facts(history)
        async with self._database.transaction() as work:
            there = await _row(work, history)
            if there is not None and there.status not in ATTEMPTS:
                return False
            try:
                await work.types.get(facts.type_code)
            except TypeUnknown:
                raise NotRebuildable(f"there is no document type {facts.type_code}") from None
        described = await self._ged.description_of(facts.ged_id)
        of = _OF_DOCUMENT.match(described or "")
        if of is None or of[1] != str(history.document_id):
            raise NotRebuildable("the GED does not have it under the id that was recorded")
        document_id = history.document_id
        object_key = new_object_key(document_id)
        context = EncryptionContext(history.tenant, document_id)
        clear = _Measured(self._ged.read(facts.ged_id))
        key, wrapped = await self._content.new_key(context)
        with key:
            stored = await self._content.store(key, context, object_key, clear.pieces())
        try:
            if (clear.sha256, clear.size) != (facts.sha256, facts.size):
                raise NotRebuildable("what the GED has is not what was archived")
            await self._content.verify_stored(stored, clear.size)
            await self._commit(history, facts, object_key, wrapped, stored)
        except NotRebuildable:
            # Nothing else: a commit whose answer was lost may have made the row that names this object.
            with suppress(DPJError):
                await self._content.delete(object_key)
            raise
        return True

    async def _commit(
        self, history: DocumentHistory, facts: ArchivedFacts, object_key: str, wrapped: WrappedKey, stored: StoredObject
    ) -> None:
        made = self._document(history, facts) | {
            "object_key": object_key,
            "wrapped_key": wrapped,
            "object_etag": stored.etag,
            "object_size": stored.size,
        }
        document = Document(**made)
        subject = Subject(document.tenant, document.id)
        async with self._database.transaction() as work:
            there = await _row(work, history)
            if there is not None and there.status not in ATTEMPTS:
                raise NotRebuildable("somebody else made its row meanwhile")
            await _ensure_dossier(work, document, facts)
            if there is None:
                await work.documents.add(document)
            else:
                await work.documents.update(there, document)
            # Whoever erased it destroyed this key: then there is no row to make.
            if await work.subjects.ensure(subject, self._personal.subjects.new(subject)) is None:
                raise NotRebuildable("the key of the audit lines about it was destroyed: it was erased")
            for act in history.acts:
                if act.action in STATE_AFTER:
                    await work.timeline.add(_timeline_entry(document, act))
            origin = Origin(
                actor=self._actor,
                at=self._clock.now(),
                correlation_id=document.correlation_id,
                cause=facts.archived.event_id,
            )
            details = {"sha256": facts.sha256, "size": facts.size, "ged_id": facts.ged_id}
            line = audit_line(origin, document.tenant, "document", str(document.id), RESTORED, details=details)
            await work.outbox.add(line)
            # Its one reader makes thumbnails and extended metadata again.
            await work.outbox.add(
                DocumentVerified(
                    event_id=uuid5(facts.archived.event_id, RESTORED),
                    sequence=0,
                    occurred_at=origin.at,
                    correlation_id=document.correlation_id,
                    tenant=document.tenant,
                    actor=self._actor,
                    document_id=document.id,
                    object_key=object_key,
                    size=facts.size,
                    mime_type=facts.mime_type,
                    sha256=facts.sha256,
                    type_code=facts.type_code,
                )
            )

    def _document(self, history: DocumentHistory, facts: ArchivedFacts) -> dict[str, Any]:
        deposited, archived = facts.deposited, facts.archived
        decided = next((act for act in reversed(history.acts) if act.action in DECISIONS), None)
        end = years_after(archived.at, facts.retention_years)
        texts = UploadedTexts(file_name=facts.file_name, email="", depositor_name=None, tags=(), metadata={})
        return {
            "id": history.document_id,
            "tenant": history.tenant,
            "dossier_id": facts.dossier_id,
            "step_id": None,
            "type_code": facts.type_code,
            "category": None,
            "stored_name": str(history.document_id),
            "status": Status.ARCHIVED,
            "mandatory": False,
            "depositor_id": deposited.actor,
            "language": Language.FRENCH,
            "mime_type": facts.mime_type,
            "size": facts.size,
            "sha256": facts.sha256,
            "validator_id": decided and decided.actor,
            "ged_id": facts.ged_id,
            "ged_path": facts.ged_path,
            "archive_planned": True,
            "retention_years": facts.retention_years,
            "sequence": archived.sequence,
            "correlation_id": deposited.correlation_id,
            "created_at": deposited.at,
            "updated_at": self._clock.now(),
            "deposited_at": deposited.at,
            "decided_at": decided and decided.at,
            "archived_at": archived.at,
            "expires_at": _later(end, history.kept_until),
            **self._texts.sealed(history.tenant, history.document_id, texts),
        }


class _Measured:
    """A stream's pieces, and what they came to."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._source:
            self._hash.update(piece)
            self.size += len(piece)
            yield piece

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def _later(end: datetime, extended: datetime | None) -> datetime:
    return end if extended is None else max(end, extended)


async def _row(work: RowWork, history: DocumentHistory) -> Document | None:
    """Raises NotRebuildable if another tenant has a document of that id."""
    try:
        found = await work.documents.lock(history.document_id)
    except DocumentNotFound:
        return None
    if found.tenant != history.tenant:
        raise NotRebuildable("another tenant has a document of that id")
    return found


async def _ensure_dossier(work: RowWork, document: Document, facts: ArchivedFacts) -> None:
    try:
        await work.dossiers.get(document.tenant, facts.dossier_id)
    except DossierNotFound:
        at = facts.deposited.at
        await work.dossiers.add(
            Dossier(
                id=facts.dossier_id,
                tenant=document.tenant,
                number=f"{UNKNOWN}-{facts.dossier_id}",
                client_id=UNKNOWN,
                journey_type=UNKNOWN,
                status=OPEN,
                current_step=None,
                priority=0,
                created_at=at,
                updated_at=at,
                created_by=facts.deposited.actor,
            )
        )


def _timeline_entry(document: Document, act: RecordedAct) -> TimelineEntry:
    details: Mapping[str, Any] = act.details
    return TimelineEntry(
        document_id=document.id,
        dossier_id=document.dossier_id,
        type=STATE_AFTER[act.action].value,
        actor=act.actor,
        at=act.at,
        details=details,
    )
