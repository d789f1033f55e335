"""Who asks: the caller of a use case, what of it may be written down, and which tenants it may see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from domain.documents import Document, Role
from domain.lifecycle import Status
from processors.ports import Clock, PersonalData
from processors.recording import Origin

#: Attempts, not documents: nothing that a 2xx answered. Only who sees all tenants sees them.
ATTEMPTS: Final = frozenset({Status.PENDING, Status.ABANDONED})
DOCUMENTS: Final = frozenset(Status) - ATTEMPTS

#: Roles that may see metadata of every tenant, where the way they came does not narrow it.
ALL_TENANTS: Final = frozenset({Role.OPERATOR, Role.AUDITOR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller. ``subject``, ``ip`` and ``user_agent`` are personal data: they leave as pseudonym or sealed.

    ``own_tenant_only``: what was asked for is never another tenant's, whatever the caller's roles.
    """

    subject: str = field(repr=False)
    tenant: str
    roles: frozenset[Role]
    correlation_id: UUID
    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = field(default=None, repr=False)
    own_tenant_only: bool = False

    @property
    def sees_all_tenants(self) -> bool:
        """Whether metadata of every tenant is visible; content never is outside one's own."""
        return not self.own_tenant_only and bool(self.roles & ALL_TENANTS)

    @property
    def metadata_tenant(self) -> str | None:
        """The one tenant whose metadata is visible; None for all."""
        return None if self.sees_all_tenants else self.tenant

    def sees(self, document: Document) -> bool:
        """Whether the document exists for this caller."""
        if self.sees_all_tenants:
            return True
        return document.tenant == self.tenant and document.status not in ATTEMPTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who comes without a token. ``ip`` and ``user_agent`` are personal data, as a caller's."""

    correlation_id: UUID
    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = field(default=None, repr=False)


class Origins:
    """Turns callers into origins that may be written down."""

    def __init__(self, personal: PersonalData, clock: Clock) -> None:
        self._personal = personal
        self._clock = clock

    def of(self, caller: Caller) -> Origin:
        """Pseudonymous actor, sealed address and agent, the time now."""
        return Origin(
            actor=self._personal.pseudonym("actor", f"{caller.tenant}/{caller.subject}"),
            at=self._clock.now(),
            correlation_id=caller.correlation_id,
            ip_sealed=self._seal(caller.ip),
            user_agent_sealed=self._seal(caller.user_agent),
        )

    def of_visitor(self, visitor: Visitor, actor: str) -> Origin:
        """The same for who comes without a token; ``actor`` says by what right."""
        return Origin(
            actor=actor,
            at=self._clock.now(),
            correlation_id=visitor.correlation_id,
            ip_sealed=self._seal(visitor.ip),
            user_agent_sealed=self._seal(visitor.user_agent),
        )

    def _seal(self, text: str | None) -> str | None:
        return self._personal.seal(text) if text else None
