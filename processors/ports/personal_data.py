"""Personal texts, sealed."""

from __future__ import annotations

from typing import Protocol

from processors.ports.subjects import SubjectSeals


class PersonalData(Protocol):
    """Seals personal texts under the personal-data key, or under keys of subjects, and makes keyed pseudonyms."""

    @property
    def subjects(self) -> SubjectSeals: ...

    def seal(self, text: str) -> str: ...

    def unseal(self, sealed: str) -> str: ...

    def pseudonym(self, purpose: str, value: str) -> str:
        """The same short id for the same purpose and value, not reversible without the key."""
        ...
