"""The events of the pipeline; ``schemas/avro`` holds their wire form, one topic each.

An event never holds a key, a name or clear personal data: consumers that need those read PostgreSQL by document id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event says. ``sequence`` counts a document's events from 1; an event that changes no state has 0."""

    TOPIC: ClassVar[str]
    SCHEMA: ClassVar[str]

    event_id: UUID
    sequence: int
    occurred_at: datetime
    correlation_id: UUID
    tenant: str
    actor: str

    @property
    def key(self) -> str:
        """The Kafka key: events of one key keep their order."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEvent(Event):
    document_id: UUID

    @property
    def key(self) -> str:
        return str(self.document_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentUploaded(DocumentEvent):
    """Size in bytes; ``dossier_ref`` is the pseudonym of the dossier."""

    TOPIC: ClassVar[str] = "dpj.document.uploaded"
    SCHEMA: ClassVar[str] = "DocumentUploaded"

    object_key: str
    size: int
    mime_type: str
    sha256: str
    type_code: str
    dossier_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentVerified(DocumentEvent):
    TOPIC: ClassVar[str] = "dpj.document.verified"
    SCHEMA: ClassVar[str] = "DocumentVerified"

    object_key: str
    size: int
    mime_type: str
    sha256: str
    type_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentValidated(DocumentEvent):
    """``comment_code`` says whether the validator left a comment; its text stays in PostgreSQL."""

    TOPIC: ClassVar[str] = "dpj.document.validated"
    SCHEMA: ClassVar[str] = "DocumentValidated"

    validator: str
    comment_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRejected(DocumentEvent):
    TOPIC: ClassVar[str] = "dpj.document.rejected"
    SCHEMA: ClassVar[str] = "DocumentRejected"

    validator: str
    comment_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentQuarantined(DocumentEvent):
    TOPIC: ClassVar[str] = "dpj.document.quarantined"
    SCHEMA: ClassVar[str] = "DocumentQuarantined"

    reason_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentArchived(DocumentEvent):
    TOPIC: ClassVar[str] = "dpj.document.archived"
    SCHEMA: ClassVar[str] = "DocumentArchived"

    ged_id: str
    ged_path: str
    sha256: str
    retention_years: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentErased(DocumentEvent):
    TOPIC: ClassVar[str] = "dpj.document.erased"
    SCHEMA: ClassVar[str] = "DocumentErased"

    legal_basis_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecorded(Event):
    """One line of AUDIT_LOGS. ``details``, ``old_state`` and ``new_state`` are canonical JSON texts.

    ``ip_sealed`` and ``user_agent_sealed`` are sealed under the personal-data key before they leave the process.
    """

    TOPIC: ClassVar[str] = "dpj.audit.recorded"
    SCHEMA: ClassVar[str] = "AuditRecorded"

    entity_type: str
    entity_id: str
    action: str
    details: str
    old_state: str | None
    new_state: str | None
    ip_sealed: str | None
    user_agent_sealed: str | None

    @property
    def key(self) -> str:
        return self.entity_id


EVENT_TYPES: tuple[type[Event], ...] = (
    DocumentUploaded,
    DocumentVerified,
    DocumentValidated,
    DocumentRejected,
    DocumentQuarantined,
    DocumentArchived,
    DocumentErased,
    AuditRecorded,
)

TOPICS: dict[str, type[Event]] = {event_type.TOPIC: event_type for event_type in EVENT_TYPES}


def dead_letter_topic(consumer: str) -> str:
    """Where a consumer's dead letters go."""
    return f"dpj.dlq.{consumer}"


#: Header of a record: the fingerprint of the schema that wrote it (``schemas.catalog.fingerprint_of``).
SCHEMA_HEADER: Final = "schema"
