"""What an object store says it holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """``size`` in bytes of the sealed object; ``etag`` changes whenever the bytes do."""

    key: str
    size: int
    etag: str
    modified_at: datetime
