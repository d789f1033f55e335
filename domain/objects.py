"""What an object store says it holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

#: The one object that is no document's: put and deleted again to see whether the store takes writes. Reconciling looks below
#: ``documents/`` only.
WRITE_PROBE_KEY: Final = "health/write-probe"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """``size`` in bytes of the sealed object; ``etag`` changes whenever the bytes do.

    ``proved``: before it made the object visible the store compared all its bytes with a digest of ours, and said so.
    """

    key: str
    size: int
    etag: str
    modified_at: datetime
    proved: bool = False


@dataclass(frozen=True, slots=True)
class UnfinishedPut:
    """A put that was begun and has not ended. ``id`` is the store's name for it, ``key`` the object's if the store knows it.

    ``at``: when it began or was last written to, whichever the store tells.
    """

    id: str
    key: str | None
    at: datetime
