"""Events on their way: out by the outbox, in by the inbox, and into the audit chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

from domain.events import AuditRecorded, Event


class Outbox(Protocol):
    """Events leave with the transaction that wrote them, or not at all."""

    async def add(self, event: Event) -> None: ...

    async def add_dead_letter(
        self,
        consumer: str,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, str],
        tenant: str | None = None,
    ) -> None:
        """A letter of ``consumer``, with its entry in the index of dead letters. ``tenant``: its event's, if that is known."""
        ...

    async def add_record(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, str],
        owed: tuple[UUID, str] | None = None,
    ) -> None:
        """A record as it is, byte for byte, for any topic. ``owed``: the event that it carries, and the one consumer that must finish it."""
        ...


class Inbox(Protocol):
    """Which events a consumer has done, and who works on which now. Rows by (consumer, event_id)."""

    async def finish(self, consumer: str, event_id: UUID, owner: UUID, outcome: str) -> None:
        """Mark DONE or DEAD if ``owner`` still holds the claim; else ClaimLost, and the transaction rolls back."""
        ...

    async def reopen(self, consumer: str, event_id: UUID) -> str | None:
        """Forget a DEAD event, so that the consumer takes it again. The state it was in: None, CLAIMED, DONE or DEAD."""
        ...


class AuditChains(Protocol):
    """The way into the per-tenant chains; see ``domain.audit_chain``."""

    async def append(self, event: AuditRecorded) -> None:
        """Have the event wait for its place in its tenant's chain, once: one that waits or has its place is no news."""
        ...
