"""One PostgreSQL transaction, as far as a use case needs it: all of it happens, or nothing.

A use case says what it needs by the ``Work`` it asks for, made of the parts below: ``class ArchivingWork(HasDocuments, HasTypes, Protocol)``.
The transaction of ``storage.postgres`` has all parts, so it satisfies each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from processors.ports.audit import ChainRebuild
from processors.ports.batches import Batches
from processors.ports.documents import Documents, DocumentTypes, Dossiers, Renditions, Timeline
from processors.ports.erasure import Erasures, LegalHolds
from processors.ports.events import AuditChains, Inbox, Outbox
from processors.ports.ged import GedAttempts
from processors.ports.links import Links
from processors.ports.mail import Notifications
from processors.ports.operators import DeadLetterIndexRows, DeadLetterMarks, GiveUpOrders, ReEmissions, RefusedRows
from processors.ports.orders import Orders
from processors.ports.pauses import Pauses
from processors.ports.sessions import ConsoleSessions
from processors.ports.subjects import SubjectKeyRows
from processors.ports.tenants import Tenants
from processors.ports.uploads import IdempotencyKeys, Uploads


class HasDocuments(Protocol):
    @property
    def documents(self) -> Documents: ...


class HasTimeline(Protocol):
    @property
    def timeline(self) -> Timeline: ...


class HasRenditions(Protocol):
    @property
    def renditions(self) -> Renditions: ...


class HasDossiers(Protocol):
    @property
    def dossiers(self) -> Dossiers: ...


class HasDocumentTypes(Protocol):
    @property
    def types(self) -> DocumentTypes: ...


class HasUploads(Protocol):
    @property
    def uploads(self) -> Uploads: ...


class HasIdempotencyKeys(Protocol):
    @property
    def idempotency(self) -> IdempotencyKeys: ...


class HasOutbox(Protocol):
    @property
    def outbox(self) -> Outbox: ...


class HasInbox(Protocol):
    @property
    def inbox(self) -> Inbox: ...


class HasAuditChains(Protocol):
    @property
    def audit_chains(self) -> AuditChains: ...


class HasConsoleSessions(Protocol):
    @property
    def sessions(self) -> ConsoleSessions: ...


class HasNotifications(Protocol):
    @property
    def notifications(self) -> Notifications: ...


class HasGedAttempts(Protocol):
    @property
    def ged_attempts(self) -> GedAttempts: ...


class HasErasures(Protocol):
    @property
    def erasures(self) -> Erasures: ...


class HasLegalHolds(Protocol):
    @property
    def holds(self) -> LegalHolds: ...


class HasDeadLetterMarks(Protocol):
    @property
    def dead_letters(self) -> DeadLetterMarks: ...


class HasDeadLetterIndex(Protocol):
    @property
    def letter_index(self) -> DeadLetterIndexRows: ...


class HasBatches(Protocol):
    @property
    def batches(self) -> Batches: ...


class HasPauses(Protocol):
    @property
    def pauses(self) -> Pauses: ...


class HasHeldOrders(Protocol):
    @property
    def held(self) -> GiveUpOrders: ...


class HasRefusedRows(Protocol):
    @property
    def refused(self) -> RefusedRows: ...


class HasReEmissions(Protocol):
    @property
    def re_emissions(self) -> ReEmissions: ...


class HasChainRebuild(Protocol):
    @property
    def chain_rebuild(self) -> ChainRebuild: ...


class HasLinks(Protocol):
    @property
    def links(self) -> Links: ...


class HasSubjectKeyRows(Protocol):
    @property
    def subjects(self) -> SubjectKeyRows: ...


class HasOrders(Protocol):
    @property
    def orders(self) -> Orders: ...


class HasTenants(Protocol):
    @property
    def tenants(self) -> Tenants: ...


class StateWork(HasDocuments, HasTimeline, HasOutbox, Protocol):
    """What a change of a document's state writes."""


class AuditWork(HasOutbox, HasSubjectKeyRows, Protocol):
    """What an audit line about a caller needs: the outbox that it leaves by, and the keys that its address is sealed under."""


class Work(
    HasDocuments,
    HasTimeline,
    HasRenditions,
    HasDossiers,
    HasDocumentTypes,
    HasUploads,
    HasIdempotencyKeys,
    HasOutbox,
    HasInbox,
    HasAuditChains,
    HasNotifications,
    HasGedAttempts,
    HasErasures,
    HasLegalHolds,
    HasDeadLetterMarks,
    HasDeadLetterIndex,
    HasBatches,
    HasPauses,
    HasHeldOrders,
    HasRefusedRows,
    HasReEmissions,
    HasChainRebuild,
    HasLinks,
    HasSubjectKeyRows,
    HasTenants,
    HasOrders,
    Protocol,
):
    """The whole of it. Whoever writes for others (``streams.delivery``) hands it on; nobody else asks for it."""


#: What a processor leaves to be written, in delivery's one transaction, after its external effects.
Commit = Callable[[Work], Awaitable[None]]
