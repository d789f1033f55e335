"""A bench of intake, reading, validation and dossiers over the in-memory database, with one dossier and callers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from crypto.envelope import Envelope
from crypto.link_tokens import LinkSigner
from crypto.personal_data import PersonalDataKeys
from crypto.signatures import verifies
from domain.dead_letters import DeadLetter
from domain.documents import Document, DocumentType, Dossier, Language, Role, Step
from domain.events import AuditRecorded, Event
from domain.lifecycle import Status
from domain.processing import StoppedStep
from domain.subjects import SealedAuditField, Subject, subject_of
from ingest_api.presenters import document_body
from processors.audit.receipts import Receipts
from processors.documents.callers import Caller
from processors.documents.content import EncryptedContent
from processors.documents.dossiers import DossierFiles
from processors.documents.intake import Intake, Sniffer, Upload, UploadResult
from processors.documents.links import DocumentLinks
from processors.documents.personal_texts import PersonalTexts
from processors.documents.reading import DocumentReader
from processors.documents.revocations import RevokedTokens, TokenRevocation
from processors.documents.search import DocumentSearch
from processors.documents.upload_attempts import AbandonedSweep, UploadAttempts
from processors.documents.validation import Validation
from processors.retention.erasure_request import ErasureRequests
from processors.retention.legal_holds import RetentionActions
from tests.support.builders import FixedClock, a_type
from tests.support.fakes_content import MemoryKeyring, MemoryObjectStore, pieces
from tests.support.fakes_personal_texts import real_columns
from tests.support.memory import MemoryDatabase
from tests.support.memory_audit_trees import MemoryAuditTrees, MemorySigner
from tests.support.memory_batches import MemoryLetterIndex, a_desk
from tests.support.memory_revocations import MemoryRevocations

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: Whom an operator has created.
TENANTS = ("acme", "other", "bank")
LONGEST_TOKEN = 86_400.0
LONGEST_SESSION = 30 * 86_400.0
LONGEST_LINK = 3_600
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n" + b"content of a paper\n" * 20 + b"endobj\ntrailer\n<<>>\n%%EOF\n"


def opened(bench: IntakeBench, line: AuditRecorded) -> tuple[str, str]:
    """Address and user agent of a line about a document, with the key that its subject has now."""
    subject = Subject(line.tenant, UUID(line.entity_id))
    wrapped = bench.database.rows.subject_keys[subject].wrapped
    assert wrapped is not None
    seals = bench.personal.subjects
    ip = seals.unseal(wrapped, subject, SealedAuditField.IP, line.ip_sealed or "")
    return ip, seals.unseal(wrapped, subject, SealedAuditField.USER_AGENT, line.user_agent_sealed or "")


class SteppingClock(FixedClock):
    """Moves a little at each look, so that no two rows have the same time."""

    def __init__(self) -> None:
        super().__init__(NOW)

    def now(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at


class PrefixSniffer:
    """Knows PDF and PNG; the rest is octets."""

    wanted = 16
    tail_wanted = 16

    def sniff(self, head: bytes) -> str:
        assert len(head) <= self.wanted
        if head.startswith(b"%PDF"):
            return "application/pdf"
        return "image/png" if head.startswith(b"\x89PNG") else "application/octet-stream"

    def is_whole(self, media_type: str, head: bytes, tail: bytes) -> bool:
        assert len(tail) <= self.tail_wanted
        return not tail.endswith(b"(cut off")


def a_rule(code: str = "CNI", **changes: Any) -> DocumentType:
    """A document type that takes PDF of up to 1 MiB."""
    return a_type(code, **{"allowed_formats": frozenset({"application/pdf"}), "max_size_bytes": 1 << 20, **changes})


class MemoryStoppedSteps:
    """See ``processors.documents.reading.StoppedSteps``; ``asked``: for which documents, call by call."""

    def __init__(self) -> None:
        self.steps: dict[UUID, list[StoppedStep]] = {}
        self.asked: list[Sequence[UUID]] = []

    async def of(self, document_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[StoppedStep]]:
        self.asked.append(document_ids)
        return {one: self.steps[one] for one in document_ids if one in self.steps}


class IntakeBench:
    """All use cases over memory, one dossier with one step, and callers."""

    def __init__(self, *, lease_seconds: float = 60.0) -> None:
        self.clock = SteppingClock()
        self.database = MemoryDatabase(self.clock)
        self.database.rows.tenants.update(dict.fromkeys(TENANTS, "operator"))
        self.objects = MemoryObjectStore()
        self.keyring = MemoryKeyring()
        self.personal = PersonalDataKeys([os.urandom(32)], os.urandom(32))
        self.columns = real_columns()
        self.texts = PersonalTexts(self.columns, self.personal)
        self.content = EncryptedContent(self.objects, Envelope(), self.keyring)
        self.attempts = UploadAttempts(self.database, self.content, self.clock, lease_seconds=lease_seconds)
        self.sweep = AbandonedSweep(self.database, self.content)
        self.intake = self.an_intake(PrefixSniffer())
        self.stopped = MemoryStoppedSteps()
        self.reading = self.a_reader()
        self.search = DocumentSearch(self.database, self.database, self.texts, self.personal, self.clock)
        self.validation = Validation(self.database, self.personal, self.texts, self.clock)
        self.dossiers = DossierFiles(self.database, self.personal, self.clock)
        self.revocations = MemoryRevocations(self.clock)
        self.revoked = RevokedTokens(self.revocations, lambda: self.clock.at.timestamp())
        self.revocation = TokenRevocation(
            self.revocations,
            self.database,
            self.personal,
            self.clock,
            longest_token=LONGEST_TOKEN,
            longest_session=LONGEST_SESSION,
            longest_link=LONGEST_LINK,
        )
        self.link_signer = LinkSigner([os.urandom(32)])
        self.links = DocumentLinks(
            self.database, self.content, self.link_signer, self.personal, self.clock, self.revoked, longest=LONGEST_LINK
        )
        self.trees, self.signer = MemoryAuditTrees(), MemorySigner()
        self.receipts = Receipts(
            self.database, self.trees, self.signer, verifies, self.personal, self.clock, seconds=300.0
        )
        self.erasure_requests = ErasureRequests(self.database, self.personal, self.clock)
        self.retention = RetentionActions(self.database, self.personal, self.clock)
        self.letter_index, self.letters = MemoryLetterIndex(), dict[tuple[int, int], DeadLetter]()
        self.operator_desk = a_desk(self.database, self.letter_index, self.personal, self.letters)
        self.dossier = self.add_dossier("acme", "D-1")
        for rule in (a_rule(), a_rule("OLD", active=False), a_rule("SMALL", max_size_bytes=len(PDF))):
            self.database.rows.types[rule.code] = rule

    def a_reader(self, **options: Any) -> DocumentReader:
        database = self.database
        return DocumentReader(database, database, self.stopped, self.content, self.personal, self.clock, **options)

    def an_intake(self, sniffer: Sniffer, **options: Any) -> Intake:
        return Intake(
            self.database, self.content, self.attempts, sniffer, self.personal, self.texts, self.clock, **options
        )  # fmt: skip

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

    async def receive(self, content: Any = PDF, caller: Caller | None = None, **changes: Any) -> UploadResult:
        return await self.intake.receive(caller or self.caller(), self.upload(content, **changes), document_body)

    async def stored(self, status: Status = Status.STORED, **changes: Any) -> Document:
        """A document taken in, then put in ``status`` as if it had come there."""
        receipt = await self.receive()
        document_id = UUID(receipt.body["id"])
        row = replace(self.database.rows.documents[document_id], status=status, **changes)
        self.database.rows.documents[document_id] = row
        return replace(row, subject_key=self.database.rows.subject_keys[subject_of(row)].wrapped)

    def events(self) -> list[Event]:
        return [event for event in self.database.rows.outbox if not isinstance(event, AuditRecorded)]

    def audited(self) -> list[AuditRecorded]:
        return [event for event in self.database.rows.outbox if isinstance(event, AuditRecorded)]

    def nothing_left(self) -> bool:
        """No object, no event, no timeline, no document but ABANDONED attempts, no key held."""
        rows = self.database.rows
        only_attempts = all(row.status is Status.ABANDONED for row in rows.documents.values())
        return only_attempts and not (self.objects.objects or rows.outbox or rows.timeline or rows.keys)
