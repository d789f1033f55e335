"""What a document, a dossier and a document type are.

English names here; the French table and column names that DBAs know are mapped in the storage adapters only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from domain.keys import WrappedKey
from domain.lifecycle import Status, ensure_allowed


class Language(Enum):
    """Languages that mails are written in."""

    FRENCH = "fr"
    ENGLISH = "en"


class Role(Enum):
    """Who a caller is: Client, Collaborateur and Administrateur of the platform, and the auditor."""

    PORTAL = "portal"
    VALIDATOR = "validator"
    OPERATOR = "operator"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Decision:
    """A validation or rejection that a person asked for.

    ``to`` is VALIDATED or REJECTED, ``note`` the comment or the reason (free text, sealed as the document's other texts are),
    ``actor`` a pseudonymous id.
    """

    to: Status
    actor: str
    at: datetime
    note: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A row of DOCUMENTS. Sizes in bytes, ``sha256`` in lower-case hex of the clear bytes, times aware and in UTC.

    Personal texts are as the row holds them: ``original_name``, ``depositor_email_sealed``, ``depositor_name_sealed``,
    ``labels_sealed`` (tags and metadata) and notes are sealed under ``personal_key``, and looked up under ``lookup_key``;
    ``processors.documents.personal_texts`` opens them. Where ``personal_key`` is None the row is older than that: name, tags, metadata and
    notes are as they were given, the e-mail address alone is sealed, bound to nothing.
    ``trace_id``: the 16 bytes of the trace that its upload was recorded in, None if it was not.
    ``subject_key``: the wrapped key of audit lines about it, kept in a table of its own (``domain.subjects``); None: it has none.
    """

    id: UUID
    tenant: str
    dossier_id: UUID
    step_id: UUID | None
    type_code: str
    category: str | None
    original_name: str = field(repr=False)
    stored_name: str
    object_key: str
    status: Status
    mandatory: bool
    depositor_id: str
    depositor_email_sealed: str = field(repr=False)
    language: Language
    depositor_name_sealed: str | None = field(default=None, repr=False)
    labels_sealed: str | None = field(default=None, repr=False)
    personal_key: str | None = None
    lookup_key: str | None = None
    file_name_index: bytes | None = field(default=None, repr=False)
    email_index: bytes | None = field(default=None, repr=False)
    tags: tuple[str, ...] = field(default=(), repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    version_number: int = 1
    parent_id: UUID | None = None
    mime_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    wrapped_key: WrappedKey | None = None
    object_etag: str | None = None
    object_size: int | None = None
    validator_id: str | None = None
    validation_comment: str | None = field(default=None, repr=False)
    rejection_reason: str | None = field(default=None, repr=False)
    pending_decision: Decision | None = None
    ged_id: str | None = None
    ged_path: str | None = None
    archive_planned: bool | None = None
    retention_years: int | None = None
    failure_code: str | None = None
    thumbnail_note: str | None = None
    sequence: int = 0
    correlation_id: UUID
    trace_id: bytes | None = None
    created_at: datetime
    updated_at: datetime
    deposited_at: datetime | None = None
    decided_at: datetime | None = None
    archived_at: datetime | None = None
    expires_at: datetime | None = None
    subject_key: str | None = field(default=None, repr=False)

    def moved(self, to: Status, *, at: datetime, **changes: Any) -> Document:
        """This document in state ``to``. Raises TransitionRefused where the lifecycle table has no such transition."""
        ensure_allowed(self.status, to)
        return replace(self, status=to, updated_at=at, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentType:
    """A row of TYPES_DOCUMENTS: what intake accepts under a type code and how long it is kept.

    ``duties_separated``: whether who deposited a document may not decide about it; ``erased_by_two``: whether its erasure takes two persons.
    None: as the site's settings say.
    """

    code: str
    label: str
    description: str
    allowed_formats: frozenset[str]
    max_size_bytes: int
    active: bool
    archived: bool
    retention_years: int = 10
    duties_separated: bool | None = None
    erased_by_two: bool | None = None
    validation_rules: Mapping[str, Any] = field(default_factory=dict)
    metadata_template: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A row of ETAPES_PARCOURS: one step of a dossier's journey (étape du parcours)."""

    id: UUID
    code: str
    name: str
    position: int
    status: str
    mandatory_documents: tuple[str, ...] = ()
    optional_documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """A row of DOSSIERS with its steps: the client's file that documents belong to."""

    id: UUID
    tenant: str
    number: str
    client_id: str
    journey_type: str
    status: str
    current_step: str | None
    priority: int
    created_at: datetime
    updated_at: datetime
    created_by: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """A thumbnail stored under its document's key. ``size`` and ``sha256`` are of the clear image."""

    document_id: UUID
    role: str
    object_key: str
    mime_type: str
    width: int
    height: int
    size: int
    sha256: str
    object_etag: str
    object_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """A row of dossier_events: one thing that happened to a document, as its users may see it."""

    document_id: UUID
    dossier_id: UUID
    type: str
    actor: str
    at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)
