"""Personal texts of a document: which there are, where each belongs, and what they look like in the clear.

A row holds them sealed (``Document.personal_key`` names the key); they are opened for an answer or a mail, and nowhere else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from domain.documents import Document


class PersonalField(Enum):
    """What a personal text is of its document. A sealed text opens as what it was sealed as, and as nothing else.

    LABELS are tags and metadata together, NOTE is the one comment or reason that a decision leaves.
    """

    FILE_NAME = "file_name"
    EMAIL = "depositor_email"
    DEPOSITOR_NAME = "depositor_name"
    LABELS = "labels"
    NOTE = "note"


#: What documents can be looked up by.
LOOKED_UP: Final = frozenset({PersonalField.FILE_NAME, PersonalField.EMAIL})


@dataclass(frozen=True, slots=True)
class TextContext:
    """Where a sealed text belongs: it opens there and nowhere else."""

    tenant: str
    document_id: UUID
    field: PersonalField


@dataclass(frozen=True, slots=True)
class CurrentKeys:
    """Ids of the key that seals now and of the one that look-ups are kept under now."""

    sealing: str
    lookup: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearTexts:
    """A document's personal texts in the clear: for an answer or a mail, never for a row, an event or a log.

    ``decision_note`` is the comment or reason of a decision that was carried out, ``pending_note`` of one that waits.
    """

    file_name: str = field(repr=False)
    tags: tuple[str, ...] = field(default=(), repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    decision_note: str | None = field(default=None, repr=False)
    pending_note: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ClearDocument:
    """A document with its texts in the clear, as an answer shows it."""

    document: Document
    texts: ClearTexts


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedTexts:
    """Personal texts as an upload brings them."""

    file_name: str = field(repr=False)
    email: str = field(repr=False)
    depositor_name: str | None = field(default=None, repr=False)
    tags: tuple[str, ...] = field(default=(), repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """How many documents' texts are sealed under ``key`` with look-ups under ``lookup``; both None: they are not sealed yet."""

    key: str | None
    lookup: str | None
    documents: int


@dataclass(frozen=True, slots=True)
class StoredTexts:
    """A document whose texts are to be sealed anew. ``version`` changes whenever anybody writes its row."""

    document: Document
    version: str


#: Where a walk over kept answers is: when an answer's key was claimed, and by whom (tenant, caller, key).
AnswerCursor = tuple[datetime, str, str, str]


def normalised(text: str) -> str:
    """Texts that a person takes for the same are the same: composed characters (NFC), no case, no space around."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return unicodedata.normalize("NFC", folded).strip()
