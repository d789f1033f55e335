"""Whose key seals the personal fields of an audit line: the subject that an erasure knows, which is the document.

``docs/adr/0022-a-key-per-subject.md`` says why it is the document and not who deposited it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

from domain.documents import Document


@dataclass(frozen=True, slots=True)
class Subject:
    """``id``: the document's."""

    tenant: str
    id: UUID


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """``wrapped`` is the key as it is kept, None once it is destroyed."""

    wrapped: str | None = field(repr=False)
    destroyed_at: datetime | None = None


class SealedAuditField(Enum):
    """Personal fields of an audit line: a text sealed as one of them does not open as another."""

    IP = "ip"
    USER_AGENT = "user_agent"


class Legibility(Enum):
    """What became of a sealed field.

    ``ABSENT``: there never was one. ``CLEAR``: it was read. ``ERASED``: its subject's key was destroyed by an erasure, for good.
    ``UNREADABLE``: its key is not here, which no erasure explains, or does not open it; whether it was altered is for the chain to tell.
    """

    ABSENT = "ABSENT"
    CLEAR = "CLEAR"
    ERASED = "ERASED"
    UNREADABLE = "UNREADABLE"


@dataclass(frozen=True, slots=True)
class OpenedAuditField:
    """A sealed field that somebody looked at. ``text`` only if it is ``CLEAR``, ``erased_at`` only if it is ``ERASED``."""

    legibility: Legibility
    text: str | None = field(default=None, repr=False)
    erased_at: datetime | None = None


def subject_of(document: Document) -> Subject:
    """Whose key seals the audit lines about ``document``."""
    return Subject(document.tenant, document.id)
