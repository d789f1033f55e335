"""Where the audit log stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.audit_chain import ChainEntry


class AuditStore(Protocol):
    """Where audit entries stay. Raises AuditStoreUnavailable, or DatabaseUnavailable where they stay in the database."""

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        """Keep the entries of one tenant; those already there in the same bytes are fine.

        Raises AuditConflict if the store holds something else in their place.
        """
        ...
