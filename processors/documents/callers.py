"""Who asks: the caller of a use case, what of it may be written down, and which tenants it may see."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

import structlog

from domain.documents import Document, Role
from domain.errors import WrongKey
from domain.lifecycle import ATTEMPTS, ERASURE_STATES, Status
from domain.subjects import SealedAuditField, subject_of
from processors.documents.transitions import Origin
from processors.ports.clock import Clock
from processors.ports.personal_data import PersonalData
from processors.ports.work import HasSubjectKeyRows

_log = structlog.get_logger()

DOCUMENTS: Final = frozenset(Status) - ATTEMPTS

#: Roles that may see metadata of every tenant, where the way they came does not narrow it.
ALL_TENANTS: Final = frozenset({Role.OPERATOR, Role.AUDITOR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller. ``subject``, ``ip`` and ``user_agent`` are personal data: they leave as pseudonym or sealed.

    ``marks``: what a revocation of the caller's token would be kept by (``domain.revocations``).
    ``own_tenant_only``: what was asked for is never another tenant's, whatever the caller's roles.
    ``bound_to``: the only tenants that exist for the caller as an operator or auditor; None: every one. ``as_tenant``: what was asked for
    may also be the caller's own tenant's, by another role.
    """

    subject: str = field(repr=False)
    tenant: str
    roles: frozenset[Role]
    correlation_id: UUID
    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = field(default=None, repr=False)
    own_tenant_only: bool = False
    marks: tuple[str, ...] = field(default=(), repr=False)
    bound_to: frozenset[str] | None = None
    as_tenant: bool = True

    @property
    def oversees(self) -> bool:
        """Whether metadata of other tenants may be visible, attempts too; content never is outside one's own."""
        return not self.own_tenant_only and bool(self.roles & ALL_TENANTS)

    def visible_tenants(self, *, attempts: bool = False) -> frozenset[str] | None:
        """The tenants whose metadata, or whose ``attempts``, are visible; None: those of all."""
        own = frozenset({self.tenant})
        if not self.oversees:
            return frozenset() if attempts else own
        if self.bound_to is None or attempts or not self.as_tenant:
            return self.bound_to
        return self.bound_to | own

    def sees(self, document: Document) -> bool:
        """Whether the document exists for this caller."""
        tenants = self.visible_tenants(attempts=document.status in ATTEMPTS)
        return tenants is None or document.tenant in tenants


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkVisitor:
    """Who comes without a token. ``ip`` and ``user_agent`` are personal data, as a caller's."""

    correlation_id: UUID
    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = field(default=None, repr=False)


def actor_of(personal: PersonalData, tenant: str, subject: str) -> str:
    """The pseudonym of a person or client, by which acts are told apart; the same wherever it acts from."""
    return personal.pseudonym("actor", f"{tenant}/{subject}")


class Origins:
    """Turns callers into origins that may be written down.

    What a line about a document says of an address is sealed under that document's key, which its erasure destroys; what any other
    line says of one, under the site's.
    """

    def __init__(self, personal: PersonalData, clock: Clock) -> None:
        self._personal = personal
        self._clock = clock

    def bare(self, caller: Caller) -> Origin:
        """Pseudonymous actor and the time now; address and agent are left to ``about``."""
        return Origin(
            actor=actor_of(self._personal, caller.tenant, caller.subject),
            at=self._clock.now(),
            correlation_id=caller.correlation_id,
        )

    def of(self, caller: Caller) -> Origin:
        """For lines about no document, and for those that outlive their document: address and agent under the site's key."""
        return self._under_site(caller, self.bare(caller))

    async def about(self, work: HasSubjectKeyRows, document: Document, caller: Caller) -> Origin:
        """For a line about ``document`` that ``work`` writes."""
        return await self.sealed(work, document, caller, self.bare(caller))

    async def about_visit(
        self, work: HasSubjectKeyRows, document: Document, visitor: LinkVisitor, actor: str
    ) -> Origin:
        """The same for who comes without a token; ``actor`` says by what right."""
        origin = Origin(actor=actor, at=self._clock.now(), correlation_id=visitor.correlation_id)
        return await self.sealed(work, document, visitor, origin)

    async def sealed(
        self, work: HasSubjectKeyRows, document: Document, who: Caller | LinkVisitor, origin: Origin
    ) -> Origin:
        """``origin`` with address and agent. A document that has no key yet gets one, in the transaction of its line; one that is
        being erased gets none any more."""
        if not (who.ip or who.user_agent):
            return origin
        if document.status in ERASURE_STATES | ATTEMPTS:
            return self._under_site(who, origin)
        wrapped = document.subject_key
        if wrapped is None:
            subject = subject_of(document)
            wrapped = await work.subjects.ensure(subject, self._personal.subjects.new(subject))
        if wrapped is None:
            return self._under_site(who, origin)
        return self.under_key(wrapped, document, who, origin)

    def under_key(self, wrapped: str, document: Document, who: Caller | LinkVisitor, origin: Origin) -> Origin:
        """``origin`` with address and agent sealed under the key ``wrapped`` of ``document``."""
        fields = {SealedAuditField.IP: who.ip, SealedAuditField.USER_AGENT: who.user_agent}
        clear = {field: text for field, text in fields.items() if text}
        try:
            sealed = self._personal.subjects.seal(wrapped, subject_of(document), clear)
        except WrongKey:
            # A site's key that was taken away must not make its documents unreadable.
            _log.warning("subject_key_not_opened", document_id=str(document.id))
            return self._under_site(who, origin)
        return replace(
            origin, ip_sealed=sealed.get(SealedAuditField.IP), user_agent_sealed=sealed.get(SealedAuditField.USER_AGENT)
        )

    def _under_site(self, who: Caller | LinkVisitor, origin: Origin) -> Origin:
        return replace(origin, ip_sealed=self._seal(who.ip), user_agent_sealed=self._seal(who.user_agent))

    def _seal(self, text: str | None) -> str | None:
        return self._personal.seal(text) if text else None
