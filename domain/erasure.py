"""Erasing a document: what was asked for, and the receipt that says what was destroyed, what remains, and why.

Form: ``domain.shared.jws``, type ``dpj-erasure+jws``. Payload: v, type ("dpj-erasure-receipt"), document {id, tenant, type, sha256 (of the
clear bytes, hex), size, deposited_at}, request {by, at, reason, legal_basis, retention_until}, completed_at, destroyed and remains
(lists, in words). Times are ISO 8601, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final
from uuid import UUID

from domain.documents import Document
from domain.keys import WrappedKey
from domain.shared.jws import payload_of, signing_input

FORMAT: Final = 1
TYPE: Final = "dpj-erasure-receipt"
JWS_TYPE: Final = "dpj-erasure+jws"

#: Fields of a document's row that are, or may hold, personal data; what they hold once they are erased.
PERSONAL_FIELDS: Final[Mapping[str, Any]] = {
    "original_name": "",
    "depositor_email_sealed": "",
    "depositor_name_sealed": None,
    "labels_sealed": None,
    "personal_key": None,
    "lookup_key": None,
    "file_name_index": None,
    "email_index": None,
    "tags": (),
    "metadata": {},
    "validation_comment": None,
    "rejection_reason": None,
    "pending_decision": None,
}


#: How much longer than its topic's days a record may stay: it goes with its segment, which takes records for a day
#: (``operations.kafka.topics``), when the broker looks next.
_SEGMENT_DAYS: Final = 2
#: Rows go some time after their time is over: by regular work, and what this very erasure writes comes after the receipt.
_PRUNED: Final = timedelta(days=1)


class LegalBasis(Enum):
    """Why a document may be erased. Those of GDPR article 17(1), a court's order, or that its retention has ended."""

    GDPR_17_1_A = "GDPR_17_1_A"
    GDPR_17_1_B = "GDPR_17_1_B"
    GDPR_17_1_C = "GDPR_17_1_C"
    GDPR_17_1_D = "GDPR_17_1_D"
    GDPR_17_1_E = "GDPR_17_1_E"
    GDPR_17_1_F = "GDPR_17_1_F"
    COURT_ORDER = "COURT_ORDER"
    RETENTION_ENDED = "RETENTION_ENDED"


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """``text``: the compact JWS. ``key_id``: the key that signed it."""

    text: str
    key_id: str

    def fields(self) -> dict[str, Any]:
        """What it says."""
        return payload_of(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """An erasure under way or done. ``actor`` is a pseudonym, ``reason`` a code or ticket; ``retention_until``: when it would
    have been due by itself. ``key``: what named the destroyed data key, without its wrapped bytes."""

    document_id: UUID
    tenant: str
    actor: str
    reason: str
    basis: LegalBasis
    retention_until: datetime
    requested_at: datetime
    correlation_id: UUID
    key: tuple[str, str, int]
    thumbnails: tuple[str, ...]
    receipt: SignedReceipt | None = None


@dataclass(frozen=True, slots=True)
class ErasureBacklog:
    """Erasures that are not complete: how many, and for how many seconds the oldest."""

    count: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class RetentionPeriods:
    """How long that lives which an erasure does not reach: events in topics, backups, rows of delivery (``row_days``) and
    Idempotency-Keys (``key_hours``). ``audit_store``: where audit entries and extended metadata are, "mongodb" or "postgresql"."""

    topic_days: int
    backup_days: int
    row_days: int
    key_hours: float
    audit_store: str = "mongodb"


def key_name(wrapped: WrappedKey | None) -> tuple[str, str, int]:
    """What names a wrapped key without giving it."""
    return ("", "", 0) if wrapped is None else (wrapped.scheme, wrapped.key_name, wrapped.key_version)


def receipt_input(
    document: Document,
    erasure: Erasure,
    periods: RetentionPeriods,
    at: datetime,
    key_id: str,
    lines_erased_at: datetime,
) -> bytes:
    """The bytes that the receipt's signature is over, of a document whose erasure is complete at ``at``. ``lines_erased_at``: when
    the key of the audit lines about it was destroyed."""
    return signing_input(JWS_TYPE, _payload(document, erasure, periods, at, lines_erased_at), key_id)


def _payload(
    document: Document, erasure: Erasure, periods: RetentionPeriods, at: datetime, lines_erased_at: datetime
) -> Mapping[str, Any]:
    return {
        "v": FORMAT,
        "type": TYPE,
        "document": {
            "id": str(document.id),
            "tenant": document.tenant,
            "type": document.type_code,
            "sha256": document.sha256,
            "size": document.size,
            "deposited_at": _time(document.deposited_at),
        },
        "request": {
            "by": erasure.actor,
            "at": _time(erasure.requested_at),
            "reason": erasure.reason,
            "legal_basis": erasure.basis.value,
            "retention_until": _time(erasure.retention_until),
        },
        "completed_at": _time(at),
        "destroyed": _destroyed(document, erasure, periods, at, lines_erased_at),
        "remains": _remains(periods, at),
    }


def _destroyed(
    document: Document, erasure: Erasure, kept: RetentionPeriods, at: datetime, lines_erased_at: datetime
) -> Sequence[Mapping[str, Any]]:
    scheme, name, version = erasure.key
    asked, done = _time(erasure.requested_at), _time(at)
    return [
        {
            "what": "data_key",
            "where": "postgresql",
            "key": {"scheme": scheme, "name": name, "version": version},
            "effect": "content and thumbnails can't be decrypted any more, wherever a copy of them may lie",
            "at": asked,
        },
        {"what": "personal_fields", "where": "postgresql", "fields": sorted(PERSONAL_FIELDS), "at": asked},
        {
            "what": "subject_key",
            "where": "postgresql",
            "effect": "addresses and user agents in audit entries about the document, sealed under it, can't be read any more,"
            " wherever a copy of them may lie; the entries stay and verify",
            "at": _time(lines_erased_at),
        },
        {"what": "answers_of_idempotency_keys", "where": "postgresql", "at": asked},
        {"what": "links", "where": "postgresql", "at": asked},
        {"what": "content", "where": "object_store", "key": document.object_key, "versions": "all", "at": done},
        {
            "what": "thumbnails",
            "where": "object_store",
            "keys": sorted(erasure.thumbnails),
            "versions": "all",
            "at": done,
        },
        {
            "what": "archived_copy",
            "where": "ged",
            "id": document.ged_id,
            "path": document.ged_path,
            "versions": "all",
            "effect": "nothing is in its place, and the recorded one is gone from wherever somebody had moved it",
            "at": done,
        },
        {"what": "extended_metadata", "where": kept.audit_store, "at": done},
    ]


#: What nothing ends: what, where (``RetentionPeriods.audit_store`` filled in), why.
_STAYS: Final = (
    (
        "row_without_personal_fields",
        "postgresql",
        "proof that this document was taken in and erased; ids, pseudonyms, type, size, SHA-256, times",
    ),
    (
        "dossier_events",
        "postgresql",
        "the dossier's timeline: that this document came, what became of it, when and by whom; ids, pseudonyms, states, codes",
    ),
    ("notifications", "postgresql", "which mails were sent about it and when; ids, template, language"),
    (
        "legal_holds",
        "postgresql",
        "who kept it for which case, by codes and pseudonyms; lifted ones, if there were any",
    ),
    (
        "erasure",
        "postgresql",
        "the request and this receipt: who, when, reason, legal basis, the name of the destroyed key",
    ),
    ("subject_key_row", "postgresql", "without its key: keeps another one from being made; id, tenant, times"),
    ("dossier", "postgresql", "is not this document's alone; number and client id as the platform gave them"),
    (
        "audit_entries",
        "{audit_store}",
        (
            "obligation to account for processing; pseudonyms and codes. Addresses in them are unreadable but for those under"
            " the site's key: of who asked for the erasure and of who came after, and in entries from before documents had subject keys"
        ),
    ),
    (
        "deleted_copy",
        "the GED's recycle bin, if it has one",
        "the copy, if there was one: who deletes through CMIS does not empty a bin; the GED's administrators do",
    ),
    ("further_copies", "ged", "what users of the GED copied into documents of their own has other ids; out of reach"),
    ("mails", "the depositor's mailbox", "sent; out of reach"),
    ("logs", "the site's logs", "ids, pseudonyms, codes; for as long as the site keeps logs"),
    ("handed_out", "whoever got them", "receipts and exports of before, downloads; out of reach"),
)


def _remains(periods: RetentionPeriods, at: datetime) -> Sequence[Mapping[str, Any]]:
    passing = (
        (
            "events",
            "kafka",
            "topics, those of dead letters too, can't be rewritten; ids, pseudonyms, type, size, SHA-256",
            timedelta(days=periods.topic_days + _SEGMENT_DAYS),
        ),
        (
            "idempotency_keys",
            "postgresql",
            "the text of the upload's Idempotency-Key as the platform chose it, without its answer: a late repetition is refused",
            timedelta(hours=periods.key_hours) + _PRUNED,
        ),
        (
            "outbox_and_inbox",
            "postgresql",
            "which events were sent and finished, so that none is twice; ids, and what the events hold",
            timedelta(days=periods.row_days) + _PRUNED,
        ),
        (
            "backups",
            "backups of every store",
            (
                "backups can't be rewritten; a restored one holds the wrapped key, the subject key and personal fields until it"
                " is brought up to date by this erasure"
            ),
            timedelta(days=periods.backup_days),
        ),
    )
    return [
        *(
            {"what": what, "where": where.format(audit_store=periods.audit_store), "why": why, "until": None}
            for what, where, why in _STAYS
        ),
        *({"what": what, "where": where, "why": why, "until": _time(at + time)} for what, where, why, time in passing),
    ]


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds")
