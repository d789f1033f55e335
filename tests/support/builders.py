"""A clock that stands still, builders of rows that PostgreSQL would take, and their way in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from domain.documents import Document, DocumentType, Dossier, Language, Rendition, Step
from domain.erasure import Erasure, LegalBasis
from domain.keys import WrappedKey
from domain.lifecycle import ERASURE_STATES, Status
from domain.records import IdempotencyRecord
from processors.ports.database import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRAPPED = WrappedKey("local-aes-256-gcm", "local", 1, "d3JhcHBlZA==")


class FixedClock:
    """Stands still until it is moved."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class ManualSeconds:
    """A clock to call, in seconds; stands still until ``now`` is moved. It begins within a second, not at its edge."""

    def __init__(self, now: float = 1000.25) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def a_type(code: str = "CNI", **changes: Any) -> DocumentType:
    base: dict[str, Any] = {
        "label": "Carte nationale d'identité",
        "description": "",
        "allowed_formats": frozenset({"application/pdf", "image/jpeg", "image/png"}),
        "max_size_bytes": 20 * 1024 * 1024,
        "active": True,
        "archived": True,
        "metadata_template": {"numero": "string"},
    }
    return DocumentType(code=code, **{**base, **changes})


def a_dossier(number: str | None = None, **changes: Any) -> Dossier:
    """An open dossier of tenant ``acme`` with one step, KYC."""
    base: dict[str, Any] = {
        "id": uuid4(),
        "tenant": "acme",
        "client_id": "C-1",
        "journey_type": "LOAN",
        "status": "OPEN",
        "current_step": "KYC",
        "priority": 0,
        "created_at": NOW,
        "updated_at": NOW,
        "created_by": "u-portal",
        "steps": (Step(id=uuid4(), code="KYC", name="KYC", position=1, status="TO_DO", mandatory_documents=("CNI",)),),
    }
    return Dossier(number=number or f"D-{uuid4().hex[:12]}", **{**base, **changes})


def a_document(dossier: Dossier | None = None, status: Status = Status.STORED, **changes: Any) -> Document:
    """A document of the dossier; in every state but PENDING and ABANDONED with content, key and object; the key goes first."""
    document_id = changes.pop("id", None) or uuid4()
    base: dict[str, Any] = {
        "tenant": dossier.tenant if dossier else "acme",
        "dossier_id": dossier.id if dossier else uuid4(),
        "step_id": dossier.steps[0].id if dossier and dossier.steps else None,
        "type_code": "CNI",
        "category": None,
        "original_name": "scan.pdf",
        "stored_name": f"{document_id}.pdf",
        "object_key": f"documents/acme/{document_id}/{uuid4().hex}",
        "mandatory": True,
        "depositor_id": "u-portal",
        "depositor_email_sealed": "sealed:marie@example.org",
        "language": Language.FRENCH,
        "correlation_id": uuid4(),
        "created_at": NOW,
        "updated_at": NOW,
    }
    if status not in {Status.PENDING, Status.ABANDONED}:
        base |= {
            "mime_type": "application/pdf",
            "size": 12_345,
            "sha256": "a" * 64,
            "wrapped_key": None if status in ERASURE_STATES else WRAPPED,
            "object_etag": "etag-1",
            "object_size": 12_500,
            "deposited_at": NOW,
            "sequence": 1,
        }
    return Document(id=document_id, status=status, **{**base, **changes})


def a_rendition(document: Document, box: int = 256, **changes: Any) -> Rendition:
    """The row of the document's thumbnail that fits into ``box`` x ``box`` pixels."""
    base: dict[str, Any] = {
        "role": f"thumbnail-{box}",
        "object_key": f"{document.object_key}.thumbnail-{box}.aa",
        "mime_type": "image/webp",
        "width": box,
        "height": box,
        "size": 10,
        "sha256": "ab" * 32,
        "object_etag": "etag-t",
        "object_size": 102,
    }
    return Rendition(document_id=document.id, **{**base, **changes})


def an_erasure(document: Document, **changes: Any) -> Erasure:
    """An operator's request to erase the document, of NOW."""
    base: dict[str, Any] = {
        "actor": "u-op",
        "reason": "TICKET-1",
        "basis": LegalBasis.GDPR_17_1_B,
        "retention_until": NOW,
        "requested_at": NOW,
        "correlation_id": uuid4(),
        "key": ("local-aes-256-gcm", "local", 1),
        "thumbnails": (),
    }
    return Erasure(document_id=document.id, tenant=document.tenant, **{**base, **changes})


def a_claim(document: Document) -> IdempotencyRecord:
    """What an upload of the document writes under its Idempotency-Key before it has an answer."""
    return IdempotencyRecord(
        document_id=document.id,
        object_key=document.object_key,
        metadata_fingerprint="f" * 64,
        content_sha256=None,
        done=False,
        expired=False,
        response=None,
    )


async def add_documents(database: Database, dossier: Dossier, *documents: Document) -> None:
    """Put the dossier and its documents in, in one transaction."""
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
        for document in documents:
            await work.documents.add(document)
