"""Created tenants in memory; see ``processors.ports.tenants.Tenants``."""

from __future__ import annotations


class MemoryTenants:
    """``rows``: who created each."""

    def __init__(self, rows: dict[str, str]) -> None:
        self._rows = rows

    async def add(self, tenant: str, actor: str) -> bool:
        if tenant in self._rows:
            return False
        self._rows[tenant] = actor
        return True
