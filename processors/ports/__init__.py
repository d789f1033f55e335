"""What the use cases need from the world, as small Protocols; ``runtime.wiring.site`` decides who provides them.

Rules that every adapter keeps: a call has a deadline; vendor errors arrive as ``domain.errors``; nothing is retried
silently for longer than that deadline (holding on through an outage is delivery's business, in ``streams.delivery``).
Content and its keys have theirs in ``processors.ports.content``, links, operators' acts and keys of subjects in ``link_ports``,
``operator_ports`` and ``subject_ports``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from domain.archive import OpenAttempt
from domain.documents import Document, DocumentType, Dossier, Rendition, TimelineEntry
from domain.events import AuditRecorded, Event
from domain.records import IdempotencyRecord, NotificationRecord, UploadSurroundings
from processors.ports.erasure import Erasures, LegalHolds
from processors.ports.links import Links
from processors.ports.operators import DeadLetterMarks, HeldOrders, RefusedRows
from processors.ports.subjects import SubjectKeyRows, SubjectSeals


class Clock(Protocol):
    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...


class PersonalData(Protocol):
    """Seals personal texts under the personal-data key, or under keys of subjects, and makes keyed pseudonyms."""

    @property
    def subjects(self) -> SubjectSeals: ...

    def seal(self, text: str) -> str: ...

    def unseal(self, sealed: str) -> str: ...

    def pseudonym(self, purpose: str, value: str) -> str:
        """The same short id for the same purpose and value, not reversible without the key."""
        ...


# --- Relational state: one transaction is a Work ---------------------------------------------------------------------


class Documents(Protocol):
    """Rows of DOCUMENTS inside a transaction."""

    async def add(self, document: Document) -> None: ...

    async def get(self, document_id: UUID) -> Document:
        """Raises DocumentNotFound."""
        ...

    async def lock(self, document_id: UUID) -> Document:
        """As ``get``, holding the row until the transaction ends."""
        ...

    async def next_version(self, parent_id: UUID) -> int:
        """The number after those of the parent and all its versions, as long as the transaction lasts; it locks the parent.

        Raises DocumentNotFound.
        """
        ...

    async def update(self, old: Document, new: Document) -> None:
        """Write what changed, only if the row is still in ``old``'s state and sequence; else StateChanged."""
        ...


class Uploads(Protocol):
    """The lease that keeps a PENDING row alive while its upload runs. An attempt is named by its object key."""

    async def begin(self, document: Document, lease_seconds: float) -> None:
        """Insert the PENDING row with a lease."""
        ...

    async def renew(self, document_id: UUID, object_key: str, lease_seconds: float) -> None:
        """Raises UploadSuperseded if the attempt no longer holds the row."""
        ...

    async def hold(self, document_id: UUID, object_key: str) -> Document:
        """Lock the row if it is PENDING, of this attempt, and its lease has not run out; else UploadSuperseded."""
        ...

    async def abandon_expired(self, limit: int) -> Sequence[Document]:
        """PENDING rows whose lease ran out, set ABANDONED by compare-and-set and returned for their objects' removal."""
        ...


class Dossiers(Protocol):
    async def add(self, dossier: Dossier) -> None:
        """Raises DossierExists if the tenant has one of that number."""
        ...

    async def get(self, tenant: str, dossier_id: UUID) -> Dossier:
        """Raises DossierNotFound; another tenant's dossier is not found either."""
        ...

    async def page(self, tenant: str | None, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[Dossier]:
        """Newest first, from just after the given (created_at, id)."""
        ...


class DocumentTypes(Protocol):
    async def get(self, code: str) -> DocumentType:
        """Raises TypeUnknown."""
        ...


class Outbox(Protocol):
    """Events leave with the transaction that wrote them, or not at all."""

    async def add(self, event: Event) -> None: ...

    async def add_dead_letter(
        self, consumer: str, key: bytes | None, value: bytes | None, headers: Mapping[str, str]
    ) -> None: ...

    async def add_record(self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, str]) -> None:
        """A record as it is, byte for byte, for any topic."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a document's state as it is to be written: the row before and after, and what is owed beside it."""

    old: Document
    new: Document
    entry: TimelineEntry
    events: tuple[Event, ...]


class Timeline(Protocol):
    async def add(self, entry: TimelineEntry) -> None: ...

    async def of(self, document_id: UUID) -> Sequence[TimelineEntry]:
        """Oldest first."""
        ...


class Renditions(Protocol):
    async def put(self, rendition: Rendition) -> None:
        """Insert, or replace that of the same document and role."""
        ...

    async def of(self, document_id: UUID) -> Sequence[Rendition]: ...


class Notifications(Protocol):
    async def put(self, record: NotificationRecord) -> None:
        """Insert, or update status, attempt and sent_at of the row with the same id."""
        ...

    async def get(self, notification_id: UUID) -> NotificationRecord | None: ...


class AuditChains(Protocol):
    """The way into the per-tenant chains; see ``domain.audit_chain``."""

    async def append(self, event: AuditRecorded) -> None:
        """Have the event wait for its place in its tenant's chain, once: one that waits or has its place is no news."""
        ...


class IdempotencyKeys(Protocol):
    """Rows by (tenant, caller, key)."""

    async def claim(
        self, scope: tuple[str, str, str], record: IdempotencyRecord, lease_seconds: float
    ) -> IdempotencyRecord | None:
        """None: the key is ours now. Otherwise what holds it; a lease that ran out, or an abandoned upload, frees it."""
        ...

    async def renew(self, scope: tuple[str, str, str], object_key: str, lease_seconds: float) -> None: ...

    async def complete(
        self, scope: tuple[str, str, str], object_key: str, content_sha256: str, response: Mapping[str, Any]
    ) -> None:
        """Raises UploadSuperseded if the key is no longer held by this attempt."""
        ...

    async def release(self, scope: tuple[str, str, str], object_key: str) -> None:
        """Free the key after a refused or failed upload, if this attempt still holds it."""
        ...


class GedAttempts(Protocol):
    """Creations in the GED that were begun and whose outcome is not known (yet): one per document at most."""

    async def open(self, document_id: UUID) -> OpenAttempt | None: ...

    async def begin(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        """From now on ``attempt`` may take effect, until ``seconds`` later. DocumentBusy if another one still may.

        DocumentBusy too if the document is being erased, or was: so that an erasure sees every attempt that there will be.
        """
        ...

    async def renew(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        """It may take effect until ``seconds`` from now. DocumentBusy if another has taken its place."""
        ...

    async def end(self, document_id: UUID, attempt: UUID) -> None:
        """Its outcome is known. DocumentBusy if another has taken its place."""
        ...


class Inbox(Protocol):
    """Which events a consumer has done, and who works on which now. Rows by (consumer, event_id)."""

    async def finish(self, consumer: str, event_id: UUID, owner: UUID, outcome: str) -> None:
        """Mark DONE or DEAD if ``owner`` still holds the claim; else ClaimLost, and the transaction rolls back."""
        ...

    async def reopen(self, consumer: str, event_id: UUID) -> str | None:
        """Forget a DEAD event, so that the consumer takes it again. The state it was in: None, CLAIMED, DONE or DEAD."""
        ...


class Work(Protocol):
    """One PostgreSQL transaction: all of it happens, or nothing."""

    @property
    def documents(self) -> Documents: ...
    @property
    def uploads(self) -> Uploads: ...
    @property
    def dossiers(self) -> Dossiers: ...
    @property
    def types(self) -> DocumentTypes: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def timeline(self) -> Timeline: ...
    @property
    def renditions(self) -> Renditions: ...
    @property
    def notifications(self) -> Notifications: ...
    @property
    def audit_chains(self) -> AuditChains: ...
    @property
    def idempotency(self) -> IdempotencyKeys: ...
    @property
    def inbox(self) -> Inbox: ...
    @property
    def ged_attempts(self) -> GedAttempts: ...
    @property
    def erasures(self) -> Erasures: ...
    @property
    def holds(self) -> LegalHolds: ...
    @property
    def dead_letters(self) -> DeadLetterMarks: ...
    @property
    def held(self) -> HeldOrders: ...
    @property
    def links(self) -> Links: ...
    @property
    def refused(self) -> RefusedRows: ...
    @property
    def subjects(self) -> SubjectKeyRows: ...


class HeldLock(Protocol):
    async def check(self) -> None:
        """Raises DatabaseUnavailable if the lock's session has ended, and the lock with it."""
        ...


class UploadRecords(Protocol):
    """An upload's rows, one call each way: every call is a transaction of its own, whole or not at all.

    The same could be said with a Work, in eight round trips where this takes one. Raises DatabaseUnavailable; then the
    transaction may have taken effect all the same.
    """

    async def surroundings(
        self, tenant: str, type_code: str, dossier_id: UUID, step_id: UUID | None, parent_id: UUID | None
    ) -> UploadSurroundings:
        """Raises TypeUnknown."""
        ...

    async def begin(
        self, document: Document, scope: tuple[str, str, str] | None, claim: IdempotencyRecord, lease_seconds: float
    ) -> bool:
        """Insert the PENDING row with a lease, and the key's claim if there is a ``scope``.

        False, and nothing is written, if something stands under the key: ``IdempotencyKeys.claim`` tells what.
        """
        ...

    async def complete(
        self,
        change: Change,
        scope: tuple[str, str, str] | None,
        response: Mapping[str, Any],
    ) -> None:
        """Write ``change`` with the document's ``subject_key`` and, with a ``scope``, the key's answer, if the attempt still holds
        its row and its key.

        Raises UploadSuperseded if it holds one of them no longer, KeyVersionRetired if its key's version was retired meanwhile.
        """
        ...


class Database(Protocol):
    """Raises DatabaseUnavailable. Leaving ``transaction()`` normally commits; an exception rolls back."""

    @property
    def uploads(self) -> UploadRecords: ...

    def transaction(self) -> AbstractAsyncContextManager[Work]: ...

    def lock(self, name: str) -> AbstractAsyncContextManager[HeldLock]:
        """A cluster-wide lock by name (a PostgreSQL advisory lock on a session of its own); waits, with a deadline.

        It ends with its session, which nobody is told of: ask ``check`` before what must not be done by two.
        """
        ...


# --- Processors of events --------------------------------------------------------------------------------------------

#: What a processor leaves to be written, in delivery's one transaction, after its external effects.
Commit = Callable[[Work], Awaitable[None]]


class Processor(Protocol):
    """One consumer group's work. External effects in ``process`` may happen twice after a crash: make them idempotent."""

    @property
    def consumer(self) -> str: ...

    @property
    def handles(self) -> tuple[type[Event], ...]: ...

    async def process(self, event: Event) -> Commit:
        """Do the external effects; return what to write. Raises domain errors; anything else counts as our defect."""
        ...

    async def give_up(self, event: Event, code: str) -> Commit:
        """What to write when the event can't be processed: the document's state has to say so."""
        ...
