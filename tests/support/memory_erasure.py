"""Erasures, legal holds and what is due, in memory; see ``processors.ports.erasure``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.documents import Document
from domain.erasure import Erasure, ErasureBacklog, SignedReceipt
from domain.lifecycle import ERASURE_STATES
from domain.refusals import StateChanged
from domain.retention import DueDocumentCount, LegalHold, retention_end
from processors.documents.callers import ATTEMPTS
from tests.support.builders import FixedClock

ACTIVE_CONSUMERS = frozenset({"archiving", "renditions"})


class MemoryErasures:
    def __init__(self, rows: Any, clock: FixedClock) -> None:
        self._rows = rows
        self._clock = clock

    async def add(self, erasure: Erasure) -> None:
        assert erasure.document_id not in self._rows.erasures
        self._rows.erasures[erasure.document_id] = erasure, self._clock.at

    async def get(self, document_id: UUID) -> Erasure | None:
        found = self._rows.erasures.get(document_id)
        return None if found is None else found[0]

    async def delete_content_rows(self, document_id: UUID) -> None:
        for key in [key for key in self._rows.renditions if key[0] == document_id]:
            del self._rows.renditions[key]
        for link in [link for link in self._rows.links.values() if link.document_id == document_id]:
            del self._rows.links[link.id]
        for scope, (held, until) in list(self._rows.keys.items()):
            if held.document_id == document_id:
                empty = replace(held, response=None, metadata_fingerprint="", content_sha256=None)
                self._rows.keys[scope] = empty, until

    async def has_active_consumer(self, document_id: UUID) -> bool:
        return any(
            consumer in ACTIVE_CONSUMERS
            and row.document_key == str(document_id)
            and row.state == "CLAIMED"
            and row.until > self._clock.at
            for (consumer, _), row in self._rows.inbox.items()
        )

    async def complete(self, document_id: UUID, receipt: SignedReceipt) -> None:
        erasure, due = self._rows.erasures[document_id]
        if erasure.receipt is not None:
            raise StateChanged
        self._rows.erasures[document_id] = replace(erasure, receipt=receipt), due


class MemoryLegalHolds:
    def __init__(self, rows: Any) -> None:
        self._rows = rows.holds

    async def of(self, document_id: UUID) -> Sequence[LegalHold]:
        found = [hold for (held, _), hold in self._rows.items() if held == document_id]
        return sorted(found, key=lambda hold: (hold.set_at, hold.reference))

    async def put(self, document_id: UUID, hold: LegalHold) -> None:
        self._rows[document_id, hold.reference] = hold


class MemoryErasureQueue:
    """``postponed`` lists the codes of tries that failed."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.postponed: list[str] = []

    async def claim(self, lease_seconds: float) -> UUID | None:
        now = self._database.clock.at
        due = [
            (at, document_id)
            for document_id, (erasure, at) in self._database.rows.erasures.items()
            if erasure.receipt is None and at <= now
        ]
        if not due:
            return None
        _, document_id = min(due)
        self._put_off(document_id, lease_seconds)
        return document_id

    async def postpone(self, document_id: UUID, code: str, seconds: float) -> None:
        self.postponed.append(code)
        self._put_off(document_id, seconds)

    async def waiting(self) -> ErasureBacklog:
        open_ones = [erasure for erasure, _ in self._database.rows.erasures.values() if erasure.receipt is None]
        ages = [(self._database.clock.at - erasure.requested_at).total_seconds() for erasure in open_ones]
        return ErasureBacklog(len(open_ones), max(ages, default=0.0))

    def _put_off(self, document_id: UUID, seconds: float) -> None:
        rows = self._database.rows
        erasure, _ = rows.erasures[document_id]
        rows.erasures[document_id] = erasure, self._database.clock.at + timedelta(seconds=seconds)


class MemoryPeriodicJobs:
    def __init__(self, clock: FixedClock) -> None:
        self._clock = clock
        self._ends: dict[str, datetime] = {}

    async def age(self, name: str) -> float | None:
        return (self._clock.at - self._ends[name]).total_seconds() if name in self._ends else None

    async def mark_done(self, name: str) -> None:
        self._ends[name] = self._clock.at


class MemoryDueDocuments:
    def __init__(self, database: Any) -> None:
        self._database = database

    def _due(self) -> list[tuple[datetime, Document, bool]]:
        rows = self._database.rows
        found = []
        for document in rows.documents.values():
            end = retention_end(document, rows.types[document.type_code])
            if document.status not in ERASURE_STATES | ATTEMPTS and end <= self._database.clock.at:
                held = any(hold.lifted_at is None for (one, _), hold in rows.holds.items() if one == document.id)
                found.append((end, document, held))
        return sorted(found, key=lambda one: (one[0], one[1].id))

    async def survey(self) -> Sequence[DueDocumentCount]:
        groups: dict[tuple[str, str], DueDocumentCount] = {}
        for end, document, held in self._due():
            key = (document.tenant, document.type_code)
            before = groups.get(key) or DueDocumentCount(tenant=key[0], type_code=key[1], count=0, held=0, oldest=end)
            groups[key] = replace(
                before, count=before.count + 1, held=before.held + held, oldest=min(before.oldest, end)
            )
        return [groups[key] for key in sorted(groups)]

    async def next(self, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[tuple[datetime, UUID]]:
        found = [(end, document.id) for end, document, held in self._due() if not held]
        return [one for one in found if after is None or one > after][:limit]
