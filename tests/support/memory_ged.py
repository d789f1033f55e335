"""Creations of unknown outcome and cluster-wide locks, in memory; see ``processors.ports``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from domain.archive import OpenAttempt
from domain.documents import Document
from domain.errors import DatabaseUnavailable, DocumentBusy
from domain.lifecycle import ERASURE_STATES
from tests.support.builders import FixedClock


class _Rows(Protocol):
    ged_attempts: dict[UUID, tuple[UUID, datetime]]
    documents: dict[UUID, Document]


class MemoryLock:
    def __init__(self, name: str, lost: set[str]) -> None:
        self._name = name
        self._lost = lost

    async def check(self) -> None:
        if self._name in self._lost:
            raise DatabaseUnavailable


class MemoryGedAttempts:
    def __init__(self, rows: _Rows, clock: FixedClock) -> None:
        self._rows = rows.ged_attempts
        self._documents = rows.documents
        self._clock = clock

    async def open(self, document_id: UUID) -> OpenAttempt | None:
        if document_id not in self._rows:
            return None
        attempt, settles_at = self._rows[document_id]
        return OpenAttempt(attempt, settled=settles_at <= self._clock.at)

    async def begin(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        if document_id in self._documents and self._documents[document_id].status in ERASURE_STATES:
            raise DocumentBusy
        held = await self.open(document_id)
        if held is not None and not held.settled:
            raise DocumentBusy
        self._set(document_id, attempt, seconds)

    async def renew(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        await self._ours(document_id, attempt)
        self._set(document_id, attempt, seconds)

    async def end(self, document_id: UUID, attempt: UUID) -> None:
        await self._ours(document_id, attempt)
        del self._rows[document_id]

    async def _ours(self, document_id: UUID, attempt: UUID) -> None:
        held = await self.open(document_id)
        if held is None or held.attempt != attempt:
            raise DocumentBusy

    def _set(self, document_id: UUID, attempt: UUID, seconds: float) -> None:
        self._rows[document_id] = attempt, self._clock.at + timedelta(seconds=seconds)
