"""After a restore: which stores were restored, what the audit log tells of a document, and how that differs from its row.

The audit log is ahead of a database that was restored to before. What it tells and the database has forgotten is one of the
``Difference`` kinds; a store other than the database has kinds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from domain.lifecycle import ATTEMPTS, ERASURE_STATES, Status


class RestoredStore(Enum):
    """A store that can be restored; the value names it in commands."""

    POSTGRESQL = "postgresql"
    MONGODB = "mongodb"
    OBJECT_STORE = "object-store"
    REGISTRY = "registry"
    KAFKA = "kafka"
    GED = "ged"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRestore:
    """A restore that is being looked at: until somebody ends it nothing is deleted. ``opened_by`` is a pseudonym, ``reason`` a code.

    ``erasures_done_at``: since when what was erased before and came back is erased again; until then a restored PostgreSQL's documents
    are not served.
    """

    store: RestoredStore
    opened_at: datetime
    opened_by: str
    reason: str
    erasures_done_at: datetime | None = None

    @property
    def erasures_done(self) -> bool:
        return self.erasures_done_at is not None

    @property
    def keeps_from_serving(self) -> bool:
        return self.store is RestoredStore.POSTGRESQL and not self.erasures_done


@dataclass(frozen=True, slots=True)
class RestoreState:
    """``server_started``: when the database server began to run; after a restore it is another time. ``incarnation`` names server, start,
    database and table of chains: a restore that loads rows into a running server makes tables anew."""

    server_started: datetime
    incarnation: str
    open: tuple[OpenRestore, ...]


class Difference(Enum):
    """A way in which the stores disagree; the value names it in reports."""

    # What the audit log tells, and a restored PostgreSQL has forgotten.
    ERASURE_UNDONE = "erasure_undone"
    ERASURE_WITHOUT_ROW = "erasure_without_row"
    DOCUMENT_LOST = "document_lost"
    ARCHIVED_WITHOUT_ROW = "archived_without_row"
    HOLD_LOST = "hold_lost"
    RETENTION_LOST = "retention_lost"
    DECISION_LOST = "decision_lost"
    MAIL_SENT = "mail_sent"
    CHAIN_BEHIND = "chain_behind"
    # What is wrong with the audit log itself, or with what MongoDB has beside it.
    LOG_BROKEN = "log_broken"
    ENTRY_MISSING = "entry_missing"
    METADATA_MISSING = "metadata_missing"
    # What a restored object store, GED, registry or Kafka lacks, or has again.
    ERASED_LEFT = "erased_left"
    OBJECT_WITHOUT_ROW = "object_without_row"
    CONTENT_MISSING = "content_missing"
    GED_MISSING = "ged_missing"
    EVENT_LOST = "event_lost"
    TOPIC_MISSING = "topic_missing"
    SCHEMA_MISSING = "schema_missing"


#: The step of a repair that puts it right; None: a person, or another command.
REPAIRED_BY: Final[Mapping[Difference, str | None]] = {
    Difference.ERASURE_UNDONE: "erasures",
    Difference.ERASED_LEFT: "erasures",
    Difference.ERASURE_WITHOUT_ROW: None,
    Difference.DOCUMENT_LOST: None,
    Difference.HOLD_LOST: "holds",
    Difference.RETENTION_LOST: "holds",
    Difference.CHAIN_BEHIND: "chain",
    Difference.ENTRY_MISSING: "log",
    Difference.ARCHIVED_WITHOUT_ROW: "rows",
    Difference.METADATA_MISSING: "metadata",
    Difference.EVENT_LOST: "events",
    Difference.DECISION_LOST: None,
    Difference.MAIL_SENT: None,
    Difference.LOG_BROKEN: None,
    Difference.OBJECT_WITHOUT_ROW: None,
    Difference.CONTENT_MISSING: None,
    Difference.GED_MISSING: None,
    Difference.TOPIC_MISSING: None,
    Difference.SCHEMA_MISSING: None,
}

STORED: Final = "document.stored"
ARCHIVED: Final = "document.archived"
ERASING: Final = "document.erasing"
ERASED: Final = "document.erased"
HOLD_SET: Final = "document.legal_hold.set"
HOLD_LIFTED: Final = "document.legal_hold.lifted"
RETENTION_EXTENDED: Final = "document.retention.extended"
DECISIONS: Final = ("document.validated", "document.rejected")
#: Actions of the audit log that say what became of a document.
TOLD: Final = frozenset(
    {
        *(STORED, ARCHIVED, ERASING, ERASED, HOLD_SET, HOLD_LIFTED, RETENTION_EXTENDED, *DECISIONS),
        *("document.verified", "document.quarantined", "document.archive_failed"),
    }
)
#: The template of the mail that follows such an act.
MAIL_AFTER: Final[Mapping[str, str]] = {
    STORED: "receipt",
    "document.validated": "validated",
    "document.rejected": "rejected",
    "document.quarantined": "quarantined",
    ARCHIVED: "archived",
}
#: The state that an act brought its document to.
STATE_AFTER: Final[Mapping[str, Status]] = {
    f"document.{status.value.lower()}": status for status in Status if f"document.{status.value.lower()}" in TOLD
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAct:
    """One line of the audit log about a document. ``seq``: its number there; 0 if it comes from Kafka alone. ``actor`` is a pseudonym."""

    event_id: UUID
    seq: int
    sequence: int
    at: datetime
    action: str
    actor: str
    correlation_id: UUID
    details: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """A detail that is a text; None if there is none."""
        found = self.details.get(name)
        return found if isinstance(found, str) else None

    def number(self, name: str) -> int | None:
        found = self.details.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) else None


@dataclass(frozen=True, slots=True)
class DocumentHistory:
    """What was recorded of one document, in the order of its acts."""

    document_id: UUID
    tenant: str
    acts: tuple[RecordedAct, ...]

    def last(self, action: str) -> RecordedAct | None:
        return next((act for act in reversed(self.acts) if act.action == action), None)

    @property
    def sha256(self) -> str | None:
        """Of the clear bytes; entries of earlier releases have it only of what was archived."""
        for action in (STORED, ARCHIVED):
            act = self.last(action)
            if act is not None and (found := act.text("sha256")) is not None:
                return found
        return None

    @property
    def standing_holds(self) -> Mapping[str, RecordedAct]:
        """By reference, the act that set a legal hold which nobody lifted."""
        holds: dict[str, RecordedAct] = {}
        for act in self.acts:
            reference = act.text("reference")
            if reference is not None and act.action == HOLD_SET:
                holds[reference] = act
            elif reference is not None and act.action == HOLD_LIFTED:
                holds.pop(reference, None)
        return holds

    @property
    def kept_until(self) -> datetime | None:
        """The furthest end that somebody extended its retention to."""
        ends = [_time(act.text("until")) for act in self.acts if act.action == RETENTION_EXTENDED]
        return max((end for end in ends if end is not None), default=None)

    def mails_after(self, row: RestoredRow | None) -> Iterator[str]:
        """Templates of the mails that followed what the row has forgotten."""
        known = 0 if row is None or row.status in ATTEMPTS else row.sequence
        return (MAIL_AFTER[act.action] for act in self.acts if act.action in MAIL_AFTER and act.sequence > known)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredRow:
    """A document's row as the database has it now. ``holds``: when each legal hold was set, by reference, lifted ones too."""

    document_id: UUID
    tenant: str
    status: Status
    sequence: int
    expires_at: datetime | None
    holds: Mapping[str, datetime] = field(default_factory=dict)


def differences(history: DocumentHistory, row: RestoredRow | None) -> Sequence[Difference]:
    """What the log tells of a document and its row does not. ``row`` must have been read after the history: it is ahead of it, if anything."""
    going = history.last(ERASING) is not None
    if row is None or row.status in ATTEMPTS or row.tenant != history.tenant:
        if history.last(STORED) is None or history.last(ERASED) is not None:
            return ()
        if going:
            return (Difference.ERASURE_WITHOUT_ROW,)
        return (Difference.ARCHIVED_WITHOUT_ROW if history.last(ARCHIVED) else Difference.DOCUMENT_LOST,)
    if going:
        return () if row.status in ERASURE_STATES else (Difference.ERASURE_UNDONE,)
    found = []
    if row.status not in ERASURE_STATES:
        if any(row.holds.get(name, act.at) < act.at or name not in row.holds for name, act in _holds(history)):
            found.append(Difference.HOLD_LOST)
        until = history.kept_until
        if until is not None and (row.expires_at is None or row.expires_at < until):
            found.append(Difference.RETENTION_LOST)
        decided = any(act.action in DECISIONS and act.sequence > row.sequence for act in history.acts)
        if decided and row.status in {Status.STORED, Status.VERIFIED}:
            found.append(Difference.DECISION_LOST)
    return tuple(found)


def _holds(history: DocumentHistory) -> Iterator[tuple[str, RecordedAct]]:
    return iter(history.standing_holds.items())


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
