"""What sealing audit lines under keys of subjects needs: the keys' rows (part of ``processors.ports.work.Work``), and the seals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from domain.subjects import SealedAuditField, Subject, SubjectKey


class SubjectSeals(Protocol):
    """``crypto.subject_keys.SubjectKeys``. Keys go in and out wrapped."""

    def new(self, subject: Subject) -> str: ...

    def seal(
        self, wrapped: str, subject: Subject, fields: Mapping[SealedAuditField, str]
    ) -> Mapping[SealedAuditField, str]:
        """Raises WrongKey if the key that wrapped ``wrapped`` is not here."""
        ...

    def unseal(self, wrapped: str, subject: Subject, field: SealedAuditField, sealed: str) -> str:
        """Raises WrongKey."""
        ...

    def is_of_subject(self, sealed: str) -> bool:
        """Whether the text was sealed under a subject's key, and not under the site's."""
        ...


class SubjectKeyRows(Protocol):
    """One row per subject, which stays when its key is destroyed: no other key comes in its place."""

    async def ensure(self, subject: Subject, wrapped: str) -> str | None:
        """The subject's key: the one it has, else ``wrapped``, which is its from now on. None: it was destroyed."""
        ...

    async def destroy(self, subject: Subject, at: datetime) -> datetime:
        """Destroy the subject's key, whether it has one or not; gives when that was done first."""
        ...


class SubjectKeyReader(Protocol):
    """Outside any transaction of ours. Raises DatabaseUnavailable."""

    async def of(self, subjects: Sequence[Subject]) -> Mapping[Subject, SubjectKey]:
        """Those that have a row."""
        ...
