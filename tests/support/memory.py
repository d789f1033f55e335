"""The relational state in memory: every repository of ``processors.ports``, with transactions; and builders of its rows.

``tests/contract/test_database.py`` holds it to what PostgreSQL does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.audit_chain import ChainEntry, ChainHead
from domain.batches import Batch, BatchItem
from domain.dead_letters import HeldEvent, RecordPosition, RefusedRow
from domain.documents import Document, DocumentType, Dossier, Rendition, TimelineEntry
from domain.erasure import Erasure
from domain.errors import DatabaseUnavailable, DocumentBusy
from domain.events import AuditRecorded, Event, dead_letter_topic
from domain.lifecycle import Status
from domain.links import DocumentLink
from domain.orders import Order, OrderedAct
from domain.pauses import Pause
from domain.personal_texts import PersonalField
from domain.records import IdempotencyRecord, NotificationRecord, UploadReferences
from domain.refusals import (
    DocumentNotFound,
    DossierExists,
    DossierNotFound,
    StateChanged,
    TypeUnknown,
    UploadSuperseded,
)
from domain.retention import LegalHold
from domain.sessions import StoredSession
from domain.subjects import Subject, SubjectKey, subject_of
from processors.documents.callers import ATTEMPTS
from processors.documents.pagination import Position
from processors.documents.reading import DocumentFilter
from processors.ports.documents import Transition
from tests.support.builders import NOW, FixedClock, a_document, a_dossier, a_type
from tests.support.memory_audit import MemoryAuditChains, MemoryUnchainedLines
from tests.support.memory_batches import MemoryBatches, MemoryPauses
from tests.support.memory_erasure import MemoryErasures, MemoryLegalHolds
from tests.support.memory_ged import MemoryGedAttempts, MemoryLock
from tests.support.memory_inbox import InboxRow, MemoryInbox, MemoryInboxMarks
from tests.support.memory_links import MemoryLinks
from tests.support.memory_operators import (
    MemoryDeadLetterIndexRows,
    MemoryDeadLetterMarks,
    MemoryGiveUpOrders,
    MemoryRefusedRows,
)
from tests.support.memory_orders import MemoryOrders
from tests.support.memory_sessions import MemoryConsoleSessions
from tests.support.memory_subject_keys import MemorySubjectKeys
from tests.support.memory_tenants import MemoryTenants

__all__ = [
    "NOW",
    "FixedClock",
    "MemoryDatabase",
    "MemoryDeadLetter",
    "MemoryInbox",
    "MemoryUnchainedLines",
    "MemoryWork",
    "Rows",
    "a_document",
    "a_dossier",
    "a_type",
]

LOCK_SECONDS = 0.5

Scope = tuple[str, str, str]


@dataclass(frozen=True)
class MemoryDeadLetter:
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]


@dataclass
class Rows:
    """All tables; a transaction works on a copy."""

    documents: dict[UUID, Document] = field(default_factory=dict)
    leases: dict[UUID, datetime] = field(default_factory=dict)
    dossiers: dict[UUID, Dossier] = field(default_factory=dict)
    types: dict[str, DocumentType] = field(default_factory=dict)
    outbox: list[Event | MemoryDeadLetter] = field(default_factory=list)
    timeline: list[TimelineEntry] = field(default_factory=list)
    renditions: dict[tuple[UUID, str], Rendition] = field(default_factory=dict)
    notifications: dict[UUID, NotificationRecord] = field(default_factory=dict)
    heads: dict[str, ChainHead] = field(default_factory=dict)
    waiting: list[AuditRecorded] = field(default_factory=list)
    pending: list[ChainEntry] = field(default_factory=list)
    chained: set[UUID] = field(default_factory=set)
    keys: dict[Scope, tuple[IdempotencyRecord, datetime]] = field(default_factory=dict)
    inbox: dict[tuple[str, UUID], InboxRow] = field(default_factory=dict)
    ged_attempts: dict[UUID, tuple[UUID, datetime]] = field(default_factory=dict)
    erasures: dict[UUID, tuple[Erasure, datetime]] = field(default_factory=dict)
    holds: dict[tuple[UUID, str], LegalHold] = field(default_factory=dict)
    marks: dict[RecordPosition, str] = field(default_factory=dict)
    settled_letters: dict[tuple[str, UUID], str] = field(default_factory=dict)
    held: dict[tuple[str, UUID], HeldEvent] = field(default_factory=dict)
    links: dict[UUID, DocumentLink] = field(default_factory=dict)
    given_up: dict[tuple[str, UUID], str] = field(default_factory=dict)
    refused: dict[int, RefusedRow] = field(default_factory=dict)
    settled: dict[int, str] = field(default_factory=dict)
    subject_keys: dict[Subject, SubjectKey] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)
    orders: dict[tuple[OrderedAct, str], Order] = field(default_factory=dict)
    batches: dict[UUID, tuple[Batch, list[BatchItem]]] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)
    sessions: dict[bytes, StoredSession] = field(default_factory=dict)

    def copied(self) -> Rows:
        tables = {name: copy(value) for name, value in vars(self).items()}
        tables["inbox"] = {key: copy(row) for key, row in self.inbox.items()}
        return Rows(**tables)


class MemoryDatabase:
    """Transactions run one after another, each on a copy of ``rows`` that replaces them when it commits.

    ``faults`` holds one entry per coming transaction: None, "away" (raises on entry), "rollback" or "lost" (raises at its
    commit, before or after it took effect). ``locked`` lists the names of the locks taken; those in ``lost_locks`` turn out
    to be lost when they are checked.
    """

    def __init__(self, clock: FixedClock | None = None) -> None:
        self.clock = clock or FixedClock()
        self.rows = Rows()
        self.faults: list[str | None] = []
        self.locked: list[str] = []
        self.lost_locks: set[str] = set()
        self.transactions = 0
        self._one = asyncio.Lock()
        self._inside: asyncio.Task[Any] | None = None
        self._locks: dict[str, asyncio.Lock] = {}
        self.uploads = MemoryUploadRecords(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryWork]:
        fault = self.faults.pop(0) if self.faults else None
        self.transactions += 1
        if fault == "away":
            raise DatabaseUnavailable
        if self._inside is not None and self._inside is asyncio.current_task():
            raise AssertionError("a transaction inside a transaction")
        async with self._one:
            self._inside = asyncio.current_task()
            try:
                work = MemoryWork(self.rows.copied(), self.clock)
                yield work
                if fault == "rollback":
                    raise DatabaseUnavailable
                self.rows = work.rows
            finally:
                self._inside = None
        if fault == "lost":
            raise DatabaseUnavailable

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[MemoryLock]:
        one = self._locks.setdefault(name, asyncio.Lock())
        try:
            await asyncio.wait_for(one.acquire(), LOCK_SECONDS)
        except TimeoutError:
            raise DocumentBusy from None
        self.locked.append(name)
        try:
            yield MemoryLock(name, self.lost_locks)
        finally:
            one.release()

    # --- reads outside transactions (processors.documents.reading.DocumentQueries) -----------------------------------------

    async def page(
        self, tenants: frozenset[str] | None, filters: DocumentFilter, after: Position | None, limit: int
    ) -> Sequence[Document]:
        found = [
            row
            for row in self.rows.documents.values()
            if (tenants is None or row.tenant in tenants)
            and row.status in filters.statuses
            and filters.dossier_id in {None, row.dossier_id}
            and filters.type_code in {None, row.type_code}
            and filters.failure_code in {None, row.failure_code}
            and (filters.before is None or row.created_at < filters.before)
            and (filters.ids is None or row.id in filters.ids)
            and all(_index(row, field) in wanted for field, wanted in filters.indexes.items())
            and (after is None or (row.created_at, row.id) < after)
        ]
        return sorted(found, key=lambda row: (row.created_at, row.id), reverse=True)[:limit]

    async def types(self) -> Sequence[DocumentType]:
        return sorted(self.rows.types.values(), key=lambda rule: rule.code)

    async def is_created(self, tenant: str) -> bool:
        return tenant in self.rows.tenants

    # --- what tests put in and look at ---------------------------------------------------------------------------

    def put(self, *rows: Document | Dossier | DocumentType) -> None:
        """Rows that are simply there."""
        for row in rows:
            if isinstance(row, Document):
                self.rows.documents[row.id] = row
            elif isinstance(row, Dossier):
                self.rows.dossiers[row.id] = row
            else:
                self.rows.types[row.code] = row

    def events(self) -> list[Event]:
        """What the outbox holds, audit lines and dead letters apart."""
        return [row for row in self.rows.outbox if isinstance(row, Event) and not isinstance(row, AuditRecorded)]

    def audited(self) -> list[AuditRecorded]:
        return [row for row in self.rows.outbox if isinstance(row, AuditRecorded)]

    def dead_letters(self) -> list[MemoryDeadLetter]:
        return [row for row in self.rows.outbox if isinstance(row, MemoryDeadLetter)]


def _index(row: Document, field: PersonalField) -> bytes | None:
    return {PersonalField.FILE_NAME: row.file_name_index, PersonalField.EMAIL: row.email_index}[field]


class MemoryUploadRecords:
    """An upload's rows, each call a transaction."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def references(
        self, tenant: str, type_code: str, dossier_id: UUID, step_id: UUID | None, parent_id: UUID | None
    ) -> UploadReferences:
        rows = self._database.rows
        if type_code not in rows.types:
            raise TypeUnknown
        dossier = rows.dossiers.get(dossier_id)
        known = dossier is not None and dossier.tenant == tenant
        steps = {step.id: step for step in dossier.steps} if dossier is not None and known else {}
        step = steps.get(step_id) if step_id else None
        parent = rows.documents.get(parent_id) if parent_id else None
        if parent and ((parent.tenant, parent.dossier_id) != (tenant, dossier_id) or parent.status in ATTEMPTS):
            parent = None
        return UploadReferences(
            rule=rows.types[type_code],
            dossier_known=known,
            mandatory_documents=frozenset(step.mandatory_documents) if step else None,
            parent_version=parent.version_number if parent else None,
        )

    async def begin(
        self, document: Document, scope: Scope | None, claim: IdempotencyRecord, lease_seconds: float
    ) -> bool:
        if scope is not None and {scope, (*scope[:2], claim.clear_key)} & self._database.rows.keys.keys():
            return False
        async with self._database.transaction() as work:
            if scope is not None:
                await work.idempotency.claim(scope, claim, lease_seconds)
            await work.uploads.begin(document, lease_seconds)
        return True

    async def complete(self, change: Transition, scope: Scope | None, response: Mapping[str, Any]) -> None:
        async with self._database.transaction() as work:
            held = await work.uploads.hold(change.old.id, change.old.object_key)
            await work.documents.update(held, change.new)
            if change.new.subject_key is not None:
                assert await work.subjects.ensure(subject_of(held), change.new.subject_key) == change.new.subject_key
            await work.timeline.add(change.entry)
            for event in change.events:
                await work.outbox.add(event)
            if scope is not None:
                assert change.new.sha256 is not None
                await work.idempotency.complete(scope, change.old.object_key, change.new.sha256, response)


class MemoryWork:
    """One transaction's repositories."""

    def __init__(self, rows: Rows, clock: FixedClock) -> None:
        self.rows = rows
        self.documents = MemoryDocuments(rows)
        self.uploads = MemoryUploads(rows, clock)
        self.dossiers = MemoryDossiers(rows)
        self.types = MemoryDocumentTypes(rows)
        self.outbox = MemoryOutbox(rows)
        self.timeline = MemoryTimeline(rows)
        self.renditions = MemoryRenditions(rows)
        self.links = MemoryLinks(rows.links)
        self.notifications = MemoryNotifications(rows)
        self.audit_chains = MemoryAuditChains(rows)
        self.idempotency = MemoryIdempotencyKeys(rows, clock)
        self.inbox = MemoryInboxMarks(rows)
        self.ged_attempts = MemoryGedAttempts(rows, clock)
        self.erasures = MemoryErasures(rows, clock)
        self.holds = MemoryLegalHolds(rows)
        self.dead_letters = MemoryDeadLetterMarks(rows)
        self.letter_index = MemoryDeadLetterIndexRows(rows)
        self.held = MemoryGiveUpOrders(rows)
        self.refused = MemoryRefusedRows(rows)
        self.subjects = MemorySubjectKeys(rows)
        self.tenants = MemoryTenants(rows.tenants)
        self.orders = MemoryOrders(rows.orders, clock)
        self.batches = MemoryBatches(rows.batches, clock)
        self.pauses = MemoryPauses(rows.pauses, clock)
        self.sessions = MemoryConsoleSessions(rows.sessions)


class MemoryDocuments:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.documents
        self._keys = rows.subject_keys

    async def add(self, document: Document) -> None:
        assert document.id not in self._rows
        self._rows[document.id] = document

    async def get(self, document_id: UUID) -> Document:
        if document_id not in self._rows:
            raise DocumentNotFound
        document = self._rows[document_id]
        held = self._keys.get(subject_of(document))
        return replace(document, subject_key=held and held.wrapped)

    async def lock(self, document_id: UUID) -> Document:
        return await self.get(document_id)

    async def next_version(self, parent_id: UUID) -> int:
        parent = await self.lock(parent_id)
        versions = [row for row in self._rows.values() if row.parent_id == parent_id]
        numbers = [row.version_number for row in versions if row.status is not Status.ABANDONED]
        return max([parent.version_number, *numbers]) + 1

    async def update(self, old: Document, new: Document) -> None:
        row = self._rows.get(old.id)
        if row is None or (row.status, row.sequence) != (old.status, old.sequence):
            raise StateChanged
        self._rows[old.id] = replace(new, subject_key=None)


class MemoryUploads:
    def __init__(self, rows: Rows, clock: FixedClock) -> None:
        self._rows = rows
        self._clock = clock

    async def begin(self, document: Document, lease_seconds: float) -> None:
        assert document.status is Status.PENDING
        self._rows.documents[document.id] = replace(document, subject_key=None)
        self._rows.leases[document.id] = self._clock.at + timedelta(seconds=lease_seconds)

    async def renew(self, document_id: UUID, object_key: str, lease_seconds: float) -> None:
        await self.hold(document_id, object_key)
        self._rows.leases[document_id] = self._clock.at + timedelta(seconds=lease_seconds)

    async def hold(self, document_id: UUID, object_key: str) -> Document:
        row = self._rows.documents.get(document_id)
        if row is None or row.status is not Status.PENDING or row.object_key != object_key:
            raise UploadSuperseded
        if self._rows.leases[document_id] <= self._clock.at:
            raise UploadSuperseded
        return row

    async def abandon_expired(self, limit: int) -> Sequence[Document]:
        expired = [
            replace(row, status=Status.ABANDONED)
            for row in self._rows.documents.values()
            if row.status is Status.PENDING and self._rows.leases[row.id] <= self._clock.at
        ][:limit]
        self._rows.documents.update({row.id: row for row in expired})
        return expired


class MemoryDossiers:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.dossiers

    async def add(self, dossier: Dossier) -> None:
        if any((row.tenant, row.number) == (dossier.tenant, dossier.number) for row in self._rows.values()):
            raise DossierExists
        self._rows[dossier.id] = dossier

    async def get(self, tenant: str, dossier_id: UUID) -> Dossier:
        row = self._rows.get(dossier_id)
        if row is None or row.tenant != tenant:
            raise DossierNotFound
        return row

    async def page(self, tenant: str | None, after: Position | None, limit: int) -> Sequence[Dossier]:
        found = [
            row
            for row in self._rows.values()
            if tenant in {None, row.tenant} and (after is None or (row.created_at, row.id) < after)
        ]
        return sorted(found, key=lambda row: (row.created_at, row.id), reverse=True)[:limit]


class MemoryDocumentTypes:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.types

    async def get(self, code: str) -> DocumentType:
        if code not in self._rows:
            raise TypeUnknown
        return self._rows[code]

    async def lock(self, code: str) -> DocumentType:
        return await self.get(code)

    async def change(self, rule: DocumentType) -> None:
        self._rows[rule.code] = rule


class MemoryOutbox:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.outbox

    async def add(self, event: Event) -> None:
        self._rows.append(event)

    async def add_dead_letter(
        self,
        consumer: str,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, str],
        tenant: str | None = None,
    ) -> None:
        await self.add_record(dead_letter_topic(consumer), key, value, headers)

    async def add_record(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, str],
        owed: tuple[UUID, str] | None = None,
    ) -> None:
        self._rows.append(MemoryDeadLetter(topic, key, value, dict(headers)))


class MemoryTimeline:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.timeline

    async def add(self, entry: TimelineEntry) -> None:
        self._rows.append(entry)

    async def of(self, document_id: UUID) -> Sequence[TimelineEntry]:
        return [row for row in self._rows if row.document_id == document_id]


class MemoryRenditions:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.renditions

    async def put(self, rendition: Rendition) -> None:
        self._rows[rendition.document_id, rendition.role] = rendition

    async def of(self, document_id: UUID) -> Sequence[Rendition]:
        found = [row for row in self._rows.values() if row.document_id == document_id]
        return sorted(found, key=lambda row: row.width)


class MemoryNotifications:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.notifications

    async def put(self, record: NotificationRecord) -> None:
        held = self._rows.get(record.id, record)
        self._rows[record.id] = replace(held, status=record.status, attempt=record.attempt, sent_at=record.sent_at)

    async def get(self, notification_id: UUID) -> NotificationRecord | None:
        return self._rows.get(notification_id)

    async def of(self, document_id: UUID) -> Sequence[NotificationRecord]:
        found = [row for row in self._rows.values() if row.document_id == document_id]
        return sorted(found, key=lambda row: (row.sent_at is None, row.sent_at or 0, row.id))


class MemoryIdempotencyKeys:
    def __init__(self, rows: Rows, clock: FixedClock) -> None:
        self._rows = rows.keys
        self._documents = rows.documents
        self._clock = clock

    async def claim(self, scope: Scope, record: IdempotencyRecord, lease_seconds: float) -> IdempotencyRecord | None:
        former = (*scope[:2], record.clear_key or "")
        for place in (former, scope):
            if place not in self._rows:
                continue
            held, until = self._rows[place]
            row = self._documents.get(held.document_id)
            expired = until <= self._clock.at
            if held.done or (not expired and row is not None and row.status is Status.PENDING):
                return replace(held, expired=expired)
        self._rows.pop(former, None)
        free = replace(record, done=False, content_sha256=None, response=None, clear_key=None)
        self._rows[scope] = (free, self._clock.at + timedelta(seconds=lease_seconds))
        return None

    async def renew(self, scope: Scope, object_key: str, lease_seconds: float) -> None:
        held = self._held(scope, object_key)
        self._rows[scope] = (held, self._clock.at + timedelta(seconds=lease_seconds))

    async def complete(self, scope: Scope, object_key: str, content_sha256: str, response: Mapping[str, Any]) -> None:
        held = self._held(scope, object_key)
        done = replace(held, done=True, content_sha256=content_sha256, response=response)
        self._rows[scope] = (done, self._rows[scope][1])

    async def release(self, scope: Scope, object_key: str) -> None:
        if scope in self._rows:
            held, _ = self._rows[scope]
            if held.object_key == object_key and not held.done:
                del self._rows[scope]

    def _held(self, scope: Scope, object_key: str) -> IdempotencyRecord:
        if scope not in self._rows:
            raise UploadSuperseded
        held, _ = self._rows[scope]
        if held.object_key != object_key or held.done:
            raise UploadSuperseded
        return held
