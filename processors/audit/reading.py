"""An auditor's look at the audit entries about one document, with what of their sealed fields can still be read.

What can't be read says why (``domain.subjects.Legibility``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

from domain.audit_chain import StoredEntry
from domain.errors import AuditConflict, WrongKey
from domain.subjects import Legibility, OpenedAuditField, SealedAuditField, Subject, SubjectKey
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.subjects import SubjectKeyReader
from processors.ports.work import AuditWork


class EntriesOfEntity(Protocol):
    """The audit store. Raises AuditStoreUnavailable, or DatabaseUnavailable where it is in the database."""

    def of_entity(self, tenant: str, entity_id: str) -> AsyncGenerator[StoredEntry, None]:
        """In their order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedAuditEntry:
    """An audit entry. ``faithful``: what is stored beside it for queries says the same as the entry itself."""

    seq: int
    at: datetime
    action: str
    actor: str
    details: str
    ip: OpenedAuditField = field(repr=False)
    user_agent: OpenedAuditField = field(repr=False)
    faithful: bool


class AuditEntryReader:
    """Acts of the auditor whose pseudonym is ``actor``."""

    def __init__(
        self,
        entries: EntriesOfEntity,
        keys: SubjectKeyReader,
        personal: PersonalData,
        database: Transactions[AuditWork],
        clock: Clock,
        actor: str,
    ) -> None:
        self._entries = entries
        self._keys = keys
        self._personal = personal
        self._database = database
        self._clock = clock
        self._actor = actor

    async def about(self, tenant: str, document_id: UUID, reason: str) -> AsyncGenerator[OpenedAuditEntry, None]:
        """Oldest first; that they are looked at is on record before the first of them is given.

        Raises AuditStoreUnavailable or DatabaseUnavailable, or AuditConflict at an entry that can't be read.
        """
        origin = Origin(actor=self._actor, at=self._clock.now(), correlation_id=uuid4())
        line = audit_line(origin, tenant, "document", str(document_id), "audit.unsealed", details={"reason": reason})
        async with self._database.transaction() as work:
            await work.outbox.add(line)
        subject = Subject(tenant, document_id)
        key = (await self._keys.of([subject])).get(subject)
        async with aclosing(self._entries.of_entity(tenant, str(document_id))) as entries:
            async for stored in entries:
                yield self._read(stored, subject, key)

    def _read(self, stored: StoredEntry, subject: Subject, key: SubjectKey | None) -> OpenedAuditEntry:
        try:
            return self._read_fields(stored, stored.entry.fields(), subject, key)
        except (ValueError, KeyError, TypeError):
            raise AuditConflict(f"Entry {stored.entry.seq} is not what was written.") from None

    def _read_fields(
        self, stored: StoredEntry, fields: Mapping[str, Any], subject: Subject, key: SubjectKey | None
    ) -> OpenedAuditEntry:
        return OpenedAuditEntry(
            seq=stored.entry.seq,
            at=datetime.fromisoformat(fields["at"]),
            action=fields["action"],
            actor=fields["actor"],
            details=fields["details"],
            ip=self._opened(SealedAuditField.IP, fields["ip_sealed"], subject, key),
            user_agent=self._opened(SealedAuditField.USER_AGENT, fields["user_agent_sealed"], subject, key),
            faithful=stored.faithful,
        )

    def _opened(
        self, field_: SealedAuditField, sealed: str | None, subject: Subject, key: SubjectKey | None
    ) -> OpenedAuditField:
        if sealed is None:
            return OpenedAuditField(Legibility.ABSENT)
        seals = self._personal.subjects
        if not seals.is_of_subject(sealed):
            return _opened(lambda: self._personal.unseal(sealed))
        if key is None:
            return OpenedAuditField(Legibility.UNREADABLE)
        wrapped = key.wrapped
        if wrapped is None:
            return OpenedAuditField(Legibility.ERASED, erased_at=key.destroyed_at)
        return _opened(lambda: seals.unseal(wrapped, subject, field_, sealed))


def _opened(unseal: Callable[[], str]) -> OpenedAuditField:
    try:
        return OpenedAuditField(Legibility.CLEAR, unseal())
    except WrongKey:
        return OpenedAuditField(Legibility.UNREADABLE)
