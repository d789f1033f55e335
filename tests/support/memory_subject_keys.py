"""Keys of subjects in memory; see ``processors.ports.subjects``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from domain.subjects import Subject, SubjectKey


class MemorySubjectKeys:
    def __init__(self, rows: Any) -> None:
        self._keys: dict[Subject, SubjectKey] = rows.subject_keys

    async def ensure(self, subject: Subject, wrapped: str) -> str | None:
        return self._keys.setdefault(subject, SubjectKey(wrapped)).wrapped

    async def destroy(self, subject: Subject, at: datetime) -> datetime:
        held = self._keys.get(subject)
        destroyed = (held and held.destroyed_at) or at
        self._keys[subject] = SubjectKey(None, destroyed)
        return destroyed


class MemorySubjectKeyReader:
    def __init__(self, database: Any) -> None:
        self._database = database

    async def of(self, subjects: Sequence[Subject]) -> Mapping[Subject, SubjectKey]:
        held = self._database.rows.subject_keys
        return {subject: held[subject] for subject in subjects if subject in held}
