"""What reconciling compares and what it may find: rows, objects, the GED's copies, events."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

from domain.lifecycle import ERASURE_STATES, Status

#: documents/{two hex digits}/{document id}/{attempt}, and after a dot whatever is derived from that object.
_KEY: Final = re.compile(
    r"documents/([0-9a-f]{2})/(\1[0-9a-f]{6}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/[A-Za-z0-9][A-Za-z0-9._-]*"
)

#: States in which a document has no objects.
WITHOUT_OBJECTS: Final[frozenset[Status]] = ERASURE_STATES | {Status.ABANDONED}


class Repair(Enum):
    """Who may repair a fault. SAFE: the regular run does, because a row says what is right. PERSON: only who asks for it,
    because the same is seen when a database was restored from an older state. NONE: nothing here can."""

    SAFE = "safe"
    PERSON = "person"
    NONE = "none"


class DiscrepancyKind(Enum):
    """A kind of disagreement; the value names it in reports and metrics."""

    EXPIRED_UPLOAD = "expired_upload"
    UNFINISHED_PUT = "unfinished_put"
    LEFT_OBJECT = "left_object"
    UNKNOWN_OBJECT = "unknown_object"
    FOREIGN_OBJECT = "foreign_object"
    CONTENT_MISSING = "content_missing"
    CONTENT_DIFFERS = "content_differs"
    THUMBNAIL_MISSING = "thumbnail_missing"
    GED_DOUBLE = "ged_double"
    GED_MISSING = "ged_missing"
    LEFT_COPY = "left_copy"
    LEFT_METADATA = "left_metadata"
    ERASED_OBJECT = "erased_object"
    EVENT_LOST = "event_lost"
    METADATA_MISSING = "metadata_missing"

    @property
    def repair(self) -> Repair:
        return _REPAIRS.get(self, Repair.NONE)


_REPAIRS: Final[Mapping[DiscrepancyKind, Repair]] = {
    DiscrepancyKind.EXPIRED_UPLOAD: Repair.SAFE,
    DiscrepancyKind.UNFINISHED_PUT: Repair.SAFE,
    DiscrepancyKind.LEFT_OBJECT: Repair.SAFE,
    DiscrepancyKind.UNKNOWN_OBJECT: Repair.PERSON,
    DiscrepancyKind.GED_DOUBLE: Repair.SAFE,
    DiscrepancyKind.LEFT_COPY: Repair.SAFE,
    DiscrepancyKind.LEFT_METADATA: Repair.SAFE,
    DiscrepancyKind.ERASED_OBJECT: Repair.SAFE,
    DiscrepancyKind.EVENT_LOST: Repair.SAFE,
}


@dataclass(frozen=True, slots=True)
class ExpectedObject:
    """An object as a row describes it: ``size`` in bytes, sealed."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRow:
    """A document's row, as far as it is about objects.

    ``lease_held``: an upload under way. ``is_rendering``: thumbnails may be stored now that no row names yet. ``changed_at``: when
    it came to its state, or later.
    """

    document_id: UUID
    tenant: str
    status: Status
    object_key: str
    content: ExpectedObject | None
    changed_at: datetime
    thumbnails: tuple[ExpectedObject, ...] = ()
    lease_held: bool = False
    is_rendering: bool = False

    @property
    def expected(self) -> dict[str, ExpectedObject]:
        """The objects that have to be there, by key. What is QUARANTINED is known to be damaged."""
        if self.status in WITHOUT_OBJECTS | {Status.PENDING, Status.QUARANTINED} or self.content is None:
            return {}
        return {kept.key: kept for kept in (self.content, *self.thumbnails)}

    def may_have(self, key: str) -> bool:
        """Whether an object of that key is, or may come to be, this document's."""
        if self.status in WITHOUT_OBJECTS:
            return False
        if key == self.object_key:
            return True
        return key.startswith(f"{self.object_key}.") and (
            self.is_rendering or any(key == kept.key for kept in self.thumbnails)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileFinding:
    """One disagreement. ``place``: an object's key, the id of a copy in the GED, or an event's topic and id."""

    fault: DiscrepancyKind
    document_id: UUID | None
    tenant: str | None
    place: str
    repaired: bool = False
    #: Why it was not repaired though it was to be.
    failed: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)


def new_object_key(document_id: UUID) -> str:
    """The object key of another attempt to store a document's content: nobody can guess it, and no two attempts share it."""
    return f"documents/{document_id.hex[:2]}/{document_id}/{secrets.token_hex(16)}"


def document_of_key(key: str) -> UUID | None:
    """The document that an object key names; None if the key is not of our making."""
    match = _KEY.fullmatch(key)
    return UUID(match[2]) if match else None


def prefix_of(digit: int) -> str:
    """The key prefix of all documents whose ids begin with that hexadecimal digit."""
    return f"documents/{digit:x}"
