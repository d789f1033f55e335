"""Tenants that an operator created."""

from __future__ import annotations

from typing import Any

import asyncpg

from storage.postgres.connections import Connections


class PostgresTenants:
    """See ``processors.ports.tenants.Tenants``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def add(self, tenant: str, actor: str) -> bool:
        added = await self._connection.fetchval(
            "INSERT INTO tenants (tenant, cree_par) VALUES ($1, $2) ON CONFLICT (tenant) DO NOTHING RETURNING 1",
            tenant,
            actor,
        )
        return added is not None


class PostgresTenantQueries:
    """See ``processors.ports.tenants.TenantQueries``."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def is_created(self, tenant: str) -> bool:
        async with self._postgres.connection() as connection:
            return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM tenants WHERE tenant = $1)", tenant))
