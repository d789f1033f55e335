"""Rows of production as lines of an anonymised export: what is kept is named here, everything else stays out.

Persons and ids become pseudonyms under a key that lives as long as the export is made, so that neither production nor another export has
them. Texts that somebody typed (file names, comments, tags, metadata, reasons, references, purposes) are not even read. Of details only what is
named below and has the form that it should have goes over: a number, a state, a code of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, Protocol
from uuid import UUID

from domain.antivirus import ScanResult
from domain.erasure import LegalBasis
from domain.error_table import ERROR_TABLE
from domain.lifecycle import Status
from domain.renderings import THUMBNAIL_BOXES, NoThumbnail

FORMAT: Final = 1

Line = dict[str, Any]


class Times(Enum):
    """What becomes of times. ``DAY``: the day alone. ``SHIFTED``: all of them earlier by one secret span, so that what lies between two of
    them stays. ``EXACT``: as they are, by which a line can be found in production again."""

    DAY = "day"
    SHIFTED = "shifted"
    EXACT = "exact"


class Sizes(Enum):
    """``ROUNDED``: two significant digits, and no ranges. ``EXACT``: in bytes, by which most documents can be told from all others."""

    EXACT = "exact"
    ROUNDED = "rounded"


class Pseudonyms(Protocol):
    """Under the export's own key."""

    def name(self, purpose: str, value: str) -> str:
        """The same short text for the same purpose and value."""
        ...

    def id(self, value: UUID) -> UUID:
        """The same new id for the same id, wherever it stands."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """What an export reads of a document: no name, no address, no text of anybody's. ``client`` is the platform's id of the client."""

    id: UUID
    dossier_id: UUID
    client: str = field(repr=False)
    parent_id: UUID | None
    type_code: str
    version: int
    status: str
    mandatory: bool
    language: str
    depositor: str
    validator: str | None
    mime_type: str | None
    size: int | None
    archive_planned: bool | None
    retention_years: int | None
    failure_code: str | None
    thumbnail_note: str | None
    events: int
    times: Mapping[str, datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """What an export reads of a timeline entry. ``rank`` orders those of one document."""

    document_id: UUID
    rank: int
    type: str
    actor: str
    at: datetime
    details: Mapping[str, Any]


#: What audit lines are about, and with what, or one of ``_OTHER_ACTS``, their actions begin.
ENTITIES: Final = frozenset(
    {
        *(
            "document",
            "dossier",
            "document_type",
            "token",
            "key",
            "object",
            "dead_letter",
            "outbox_row",
            "export",
            "restore",
        ),
        *("batch", "consumer", "event"),
    }
)
_OTHER_ACTS: Final = frozenset({"audit", "outbox", "reconcile"})

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_ACTION: Final = re.compile(r"[a-z_]{1,32}(\.[a-z_]{1,32}){1,3}")
_SYSTEM: Final = re.compile(r"system:[a-z-]{1,32}")
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]{1,100}")
_PIXELS: Final = re.compile(r"\d{1,5}x\d{1,5}")

_NOTES: Final = frozenset({note.value for note in NoThumbnail} | ERROR_TABLE.keys())


def _one_of(*values: str) -> Callable[[Any], bool]:
    known = frozenset(values)
    return lambda value: isinstance(value, str) and value in known


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) <= 19
    return isinstance(value, int)


def _is_action(value: Any) -> bool:
    known = isinstance(value, str) and value.partition(".")[0] in ENTITIES | _OTHER_ACTS
    return known and bool(_ACTION.fullmatch(value))


#: The bytes that somebody read: the last range of a document ends where it ends.
_RANGES: Final = frozenset({"start", "end"})

_STATUS: Final = _one_of(*(status.value for status in Status))

#: Details that go over, and the form that they must have.
DETAILS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "size": _is_number,
    "start": _is_number,
    "end": _is_number,
    "count": _is_number,
    "retention_years": _is_number,
    "mime_type": lambda value: isinstance(value, str) and bool(_MEDIA_TYPE.fullmatch(value)),
    "status": _STATUS,
    "decision": _STATUS,
    "comment": _one_of("NOTED", "NONE"),
    "antivirus": _one_of(*(finding.value for finding in ScanResult)),
    "legal_basis": _one_of(*(basis.value for basis in LegalBasis)),
    "code": _one_of(*ERROR_TABLE),
    "after": _one_of(*ERROR_TABLE),
    "consumer": _one_of("integrity", "renditions", "archiving", "notification", "audit"),
    "role": _one_of("content", *(f"thumbnail-{box}" for box in THUMBNAIL_BOXES)),
    "claim": _one_of("jti", "sid"),
    **{
        f"thumbnail-{box}": lambda value: isinstance(value, str) and bool(_PIXELS.fullmatch(value))
        for box in THUMBNAIL_BOXES
    },
}


class Anonymiser:
    """Of one export. ``types``: the document types that this site knows. ``shift``: by how much ``SHIFTED`` times are earlier."""

    def __init__(
        self, pseudonyms: Pseudonyms, types: frozenset[str], times: Times, sizes: Sizes, shift: timedelta
    ) -> None:
        self._pseudonyms = pseudonyms
        self._types = types
        self._times = times
        self._sizes = sizes
        self._shift = shift

    def document(self, row: DocumentRow) -> Line:
        return {
            "document": self._id(row.id),
            "dossier": self._id(row.dossier_id),
            "client": self._pseudonyms.name("client", row.client),
            "parent": self._id(row.parent_id),
            "version": row.version,
            "type": self._type(row.type_code),
            "status": _kept(row.status, _STATUS),
            "mandatory": row.mandatory,
            "language": _kept(row.language, _one_of("fr", "en")),
            "depositor": self._actor(row.depositor),
            "validator": row.validator and self._actor(row.validator),
            "media_type": _kept(row.mime_type, DETAILS["mime_type"]),
            "size": self._size(row.size),
            "archive_planned": row.archive_planned,
            "retention_years": row.retention_years,
            "failure_code": _kept(row.failure_code, DETAILS["code"]),
            "thumbnail_note": _kept(row.thumbnail_note, _one_of(*_NOTES)),
            "events": row.events,
            **{name: self._at(at) for name, at in row.times.items()},
        }

    def timeline(self, row: TimelineRow, position: int) -> Line:
        """``position``: its number among those of its document, from 1."""
        return {
            "document": self._id(row.document_id),
            "position": position,
            "type": _kept(row.type, lambda value: bool(_CODE.fullmatch(value))),
            "actor": self._actor(row.actor),
            "at": self._at(row.at),
            "details": self._details(row.details),
        }

    def audit(self, fields: Mapping[str, Any]) -> Line:
        """Of the fields of an audit entry (``domain.audit_chain``). Its hashes, number and sealed fields stay out."""
        return {
            "entity": self._entity(str(fields["entity_id"])),
            "entity_type": _kept(fields["entity_type"], _one_of(*ENTITIES)),
            "action": _kept(fields["action"], _is_action),
            "actor": self._actor(str(fields["actor"])),
            "at": self._at(datetime.fromisoformat(fields["at"])),
            "event_number": fields["event_sequence"],
            "conversation": self._entity(str(fields["correlation_id"])),
            "old_status": _kept(_object(fields["old_state"]).get("status"), _STATUS),
            "new_status": _kept(_object(fields["new_state"]).get("status"), _STATUS),
            "details": self._details(_object(fields["details"])),
        }

    def order(self, value: str) -> str:
        """What lines about ``value`` are sorted by: an order that neither production nor another export has."""
        return self._pseudonyms.name("order", value)

    def _details(self, details: Mapping[str, Any]) -> Line:
        kept = {name: value for name, value in details.items() if name in DETAILS and DETAILS[name](value)}
        if self._sizes is not Sizes.EXACT:
            kept = {name: value for name, value in kept.items() if name not in _RANGES}
        if _is_number(kept.get("size")):
            kept["size"] = self._size(int(kept["size"]))
        if details.get("type") in self._types:
            kept["type"] = details["type"]
        return kept

    def _type(self, code: str) -> str | None:
        return code if code in self._types else None

    def _actor(self, actor: str) -> str:
        """A part of the system as it is, somebody as a pseudonym, a link as one that says that it is a link."""
        if _SYSTEM.fullmatch(actor):
            return actor
        name = self._pseudonyms.name("actor", actor)
        return f"link:{name}" if actor.startswith("link:") else name

    def _entity(self, value: str) -> str:
        """An id as the new id that it has everywhere, anything else as a pseudonym."""
        try:
            return str(self._pseudonyms.id(UUID(value)))
        except ValueError:
            return self._pseudonyms.name("entity", value)

    def _id(self, value: UUID | None) -> str | None:
        return None if value is None else str(self._pseudonyms.id(value))

    def _size(self, size: int | None) -> int | None:
        if size is None or self._sizes is Sizes.EXACT:
            return size
        return round(size, 2 - len(str(size)))

    def _at(self, at: datetime | None) -> str | None:
        if at is None:
            return None
        at = at.astimezone(UTC)
        if self._times is Times.DAY:
            return at.date().isoformat()
        if self._times is Times.SHIFTED:
            at -= self._shift
        return at.isoformat(timespec="milliseconds")


def _kept(value: str | None, is_known: Callable[[Any], bool]) -> str | None:
    return value if is_known(value) else None


def _object(text: str | None) -> Mapping[str, Any]:
    """What a JSON text says, if that is an object."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
