"""Tenants that an operator created."""

from __future__ import annotations

from typing import Protocol


class Tenants(Protocol):
    """Rows of created tenants, inside a transaction; part of ``processors.ports.work.Work``."""

    async def add(self, tenant: str, actor: str) -> bool:
        """False if it was there."""
        ...


class TenantQueries(Protocol):
    """Raises DatabaseUnavailable."""

    async def is_created(self, tenant: str) -> bool: ...
