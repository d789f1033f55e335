"""The relational state that intake, reading, validation and dossiers need, in memory, with faults on demand; and a bench of all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from crypto.envelope import Envelope
from crypto.personal_data import PersonalDataKeys
from domain.documents import Document, DocumentType, Dossier, Language, Rendition, Role, Step, TimelineEntry
from domain.errors import (
    DatabaseUnavailable,
    DocumentNotFound,
    DossierExists,
    DossierNotFound,
    StateChanged,
    TypeUnknown,
    UploadSuperseded,
)
from domain.events import AuditRecorded, Event
from domain.lifecycle import Status
from domain.records import IdempotencyRecord
from ingest_api.presenting import document_body
from processors.access import Caller
from processors.attempts import AbandonedSweep, Attempts
from processors.content import EncryptedContent
from processors.dossiers import DossierFiles
from processors.intake import Intake, Receipt, Upload
from processors.paging import Position
from processors.reading import DocumentFilter, Reading
from processors.validation import Validation
from tests.support.fakes_content import MemoryKeyring, MemoryObjectStore, pieces

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"content of a paper\n" * 20


class HandClock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at


@dataclass
class Rows:
    """All tables; a transaction works on a copy."""

    documents: dict[UUID, Document] = field(default_factory=dict)
    leases: dict[UUID, datetime] = field(default_factory=dict)
    dossiers: dict[UUID, Dossier] = field(default_factory=dict)
    types: dict[str, DocumentType] = field(default_factory=dict)
    outbox: list[Event] = field(default_factory=list)
    timeline: list[TimelineEntry] = field(default_factory=list)
    renditions: list[Rendition] = field(default_factory=list)
    keys: dict[tuple[str, str, str], tuple[IdempotencyRecord, datetime]] = field(default_factory=dict)

    def copied(self) -> Rows:
        return Rows(**{name: copy(value) for name, value in vars(self).items()})


class RowsDatabase:
    """``faults`` holds one entry per coming transaction: None, "away" (on entry), "rollback" or "lost" (at its commit)."""

    def __init__(self, clock: HandClock) -> None:
        self.rows = Rows()
        self.faults: list[str | None] = []
        self.clock = clock
        self.transactions = 0
        self._one = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        fault = self.faults.pop(0) if self.faults else None
        self.transactions += 1
        if fault == "away":
            raise DatabaseUnavailable
        async with self._one:
            work = _Work(self.rows.copied(), self.clock)
            yield work
            if fault == "rollback":
                raise DatabaseUnavailable
            self.rows = work.rows
        if fault == "lost":
            raise DatabaseUnavailable

    async def page(
        self, tenant: str | None, filters: DocumentFilter, after: Position | None, limit: int
    ) -> Sequence[Document]:
        found = [
            row
            for row in self.rows.documents.values()
            if (tenant is None or row.tenant == tenant)
            and row.status in filters.statuses
            and filters.dossier_id in {None, row.dossier_id}
            and filters.type_code in {None, row.type_code}
            and (after is None or (row.created_at, row.id) < after)
        ]
        return sorted(found, key=lambda row: (row.created_at, row.id), reverse=True)[:limit]

    async def types(self) -> Sequence[DocumentType]:
        return sorted(self.rows.types.values(), key=lambda rule: rule.code)


class _Work:
    def __init__(self, rows: Rows, clock: HandClock) -> None:
        self.rows = rows
        self.documents = _Documents(rows)
        self.uploads = _Uploads(rows, clock)
        self.dossiers = _Dossiers(rows)
        self.types = _Types(rows)
        self.outbox = _Appended(rows.outbox)
        self.timeline = _Timeline(rows)
        self.renditions = _Renditions(rows)
        self.idempotency = _Keys(rows, clock)


class _Documents:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.documents

    async def get(self, document_id: UUID) -> Document:
        if document_id not in self._rows:
            raise DocumentNotFound
        return self._rows[document_id]

    lock = get

    async def update(self, old: Document, new: Document) -> None:
        row = self._rows[old.id]
        if (row.status, row.sequence) != (old.status, old.sequence):
            raise StateChanged
        self._rows[old.id] = new


class _Uploads:
    def __init__(self, rows: Rows, clock: HandClock) -> None:
        self._rows = rows
        self._clock = clock

    async def begin(self, document: Document, lease_seconds: float) -> None:
        assert document.status is Status.PENDING
        self._rows.documents[document.id] = document
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


class _Dossiers:
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
        found = [row for row in self._rows.values() if row.tenant == tenant]
        found.sort(key=lambda row: (row.created_at, row.id), reverse=True)
        return [row for row in found if after is None or (row.created_at, row.id) < after][:limit]


class _Types:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.types

    async def get(self, code: str) -> DocumentType:
        if code not in self._rows:
            raise TypeUnknown
        return self._rows[code]


class _Appended:
    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    async def add(self, row: Any) -> None:
        self._rows.append(row)


class _Timeline(_Appended):
    def __init__(self, rows: Rows) -> None:
        super().__init__(rows.timeline)

    async def of(self, document_id: UUID) -> Sequence[TimelineEntry]:
        return [row for row in self._rows if row.document_id == document_id]


class _Renditions:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows.renditions

    async def of(self, document_id: UUID) -> Sequence[Rendition]:
        return [row for row in self._rows if row.document_id == document_id]

    async def put(self, rendition: Rendition) -> None:
        kept = [row for row in self._rows if (row.document_id, row.role) != (rendition.document_id, rendition.role)]
        self._rows[:] = [*kept, rendition]


class _Keys:
    def __init__(self, rows: Rows, clock: HandClock) -> None:
        self._rows = rows.keys
        self._documents = rows.documents
        self._clock = clock

    async def claim(
        self, scope: tuple[str, str, str], record: IdempotencyRecord, lease_seconds: float
    ) -> IdempotencyRecord | None:
        if scope in self._rows:
            held, until = self._rows[scope]
            row = self._documents.get(held.document_id)
            if held.done or (until > self._clock.at and row is not None and row.status is Status.PENDING):
                return held
        self._rows[scope] = (record, self._clock.at + timedelta(seconds=lease_seconds))
        return None

    async def renew(self, scope: tuple[str, str, str], object_key: str, lease_seconds: float) -> None:
        held, _ = self._rows[scope]
        assert held.object_key == object_key
        self._rows[scope] = (held, self._clock.at + timedelta(seconds=lease_seconds))

    async def complete(
        self, scope: tuple[str, str, str], object_key: str, content_sha256: str, response: Mapping[str, Any]
    ) -> None:
        held, until = self._rows[scope]
        if held.object_key != object_key:
            raise UploadSuperseded
        done = replace(held, done=True, content_sha256=content_sha256, response=response)
        self._rows[scope] = (done, until)

    async def release(self, scope: tuple[str, str, str], object_key: str) -> None:
        if scope in self._rows and self._rows[scope][0].object_key == object_key:
            del self._rows[scope]


class PrefixSniffer:
    """Knows PDF and PNG; the rest is octets."""

    wanted = 16

    def sniff(self, head: bytes) -> str:
        assert len(head) <= self.wanted
        if head.startswith(b"%PDF"):
            return "application/pdf"
        return "image/png" if head.startswith(b"\x89PNG") else "application/octet-stream"


def a_type(code: str = "CNI", **changes: Any) -> DocumentType:
    base: dict[str, Any] = {
        "label": "Carte d'identité",
        "description": "",
        "allowed_formats": frozenset({"application/pdf"}),
        "max_size_bytes": 1 << 20,
        "active": True,
        "archived": True,
    }
    return DocumentType(code=code, **{**base, **changes})


class Bench:
    """All use cases over memory, one dossier with one step, and callers."""

    def __init__(self, *, lease_seconds: float = 60.0) -> None:
        self.clock = HandClock()
        self.database = RowsDatabase(self.clock)
        self.objects = MemoryObjectStore()
        self.keyring = MemoryKeyring()
        self.personal = PersonalDataKeys([os.urandom(32)], os.urandom(32))
        self.content = EncryptedContent(self.objects, Envelope(), self.keyring)
        self.attempts = Attempts(self.database, self.content, self.clock, lease_seconds=lease_seconds)
        self.sweep = AbandonedSweep(self.database, self.content)
        self.intake = Intake(self.database, self.content, self.attempts, PrefixSniffer(), self.personal, self.clock)
        self.reading = Reading(self.database, self.database, self.content, self.personal, self.clock)
        self.validation = Validation(self.database, self.personal, self.clock)
        self.dossiers = DossierFiles(self.database, self.personal, self.clock)
        self.dossier = self.add_dossier("acme", "D-1")
        for rule in (a_type(), a_type("OLD", active=False), a_type("SMALL", max_size_bytes=len(PDF))):
            self.database.rows.types[rule.code] = rule

    def add_dossier(self, tenant: str, number: str) -> Dossier:
        step = Step(id=uuid4(), code="KYC", name="KYC", position=1, status="TO_DO", mandatory_documents=("CNI",))
        dossier = Dossier(
            id=uuid4(),
            tenant=tenant,
            number=number,
            client_id="C-1",
            journey_type="LOAN",
            status="OPEN",
            current_step="KYC",
            priority=0,
            created_at=self.clock.now(),
            updated_at=self.clock.at,
            created_by="x",
            steps=(step,),
        )
        self.database.rows.dossiers[dossier.id] = dossier
        return dossier

    def caller(self, *roles: Role, tenant: str = "acme", subject: str = "u1") -> Caller:
        return Caller(
            subject=subject,
            tenant=tenant,
            roles=frozenset(roles or (Role.PORTAL,)),
            correlation_id=uuid4(),
            ip="192.0.2.7",
            user_agent="agent/1",
        )

    def upload(self, content: Any = PDF, **changes: Any) -> Upload:
        stream = pieces(content) if isinstance(content, bytes) else content
        base: dict[str, Any] = {
            "type_code": "CNI",
            "dossier_id": self.dossier.id,
            "file_name": "scan.pdf",
            "depositor_email": "marie@example.org",
            "language": Language.FRENCH,
            "content": stream,
        }
        return Upload(**{**base, **changes})

    async def receive(self, content: Any = PDF, caller: Caller | None = None, **changes: Any) -> Receipt:
        return await self.intake.receive(caller or self.caller(), self.upload(content, **changes), document_body)

    async def stored(self, status: Status = Status.STORED, **changes: Any) -> Document:
        """A document taken in, then put in ``status`` as if it had come there."""
        receipt = await self.receive()
        document_id = UUID(receipt.body["id"])
        row = replace(self.database.rows.documents[document_id], status=status, **changes)
        self.database.rows.documents[document_id] = row
        return row

    def events(self) -> list[Event]:
        return [event for event in self.database.rows.outbox if not isinstance(event, AuditRecorded)]

    def audited(self) -> list[AuditRecorded]:
        return [event for event in self.database.rows.outbox if isinstance(event, AuditRecorded)]

    def nothing_left(self) -> bool:
        """No object, no event, no timeline, no document but ABANDONED attempts, no key held."""
        rows = self.database.rows
        only_attempts = all(row.status is Status.ABANDONED for row in rows.documents.values())
        return only_attempts and not (self.objects.objects or rows.outbox or rows.timeline or rows.keys)
