"""What the GED holds, as far as the pipeline needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class GedObject:
    """A document or folder of the GED: its id there, and a document's ``size`` in bytes if the GED says it."""

    id: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GedDocument:
    """A document to be created: its name, media type, a description for those who search the GED, and size in bytes."""

    name: str
    mime_type: str
    description: str
    size: int


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """A creation that was begun and whose outcome is not known; ``settled``: it can't take effect any more."""

    attempt: UUID
    settled: bool
