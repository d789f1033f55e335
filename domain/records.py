"""Rows that use cases write beside a document: a notification sent, an Idempotency-Key held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.documents import DocumentType


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRecord:
    """A row of ``notifications``. ``payload`` holds what the template needs, never clear personal data."""

    id: UUID
    document_id: UUID
    dossier_id: UUID
    event_id: UUID
    channel: str
    template: str
    language: str
    payload: Mapping[str, Any]
    message_id: str
    status: str
    attempt: int
    sent_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyRecord:
    """What an Idempotency-Key stands for. ``metadata_fingerprint`` is a keyed hash of all that came with the content."""

    document_id: UUID
    object_key: str
    metadata_fingerprint: str
    content_sha256: str | None
    done: bool
    expired: bool
    response: Mapping[str, Any] | None
    #: Of a claim only: the key as the client sent it, which releases before this one named its row by. Never written.
    clear_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadReferences:
    """What an upload's row refers to, looked up for one tenant. ``mandatory_documents`` are the step's type codes, None where
    the dossier has no such step or none was named; ``parent_version`` is None where the dossier has no such document."""

    rule: DocumentType
    dossier_known: bool
    mandatory_documents: frozenset[str] | None
    parent_version: int | None
