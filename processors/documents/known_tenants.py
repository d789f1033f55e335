"""Nothing is done in the name of a tenant that no operator created: it gets no row, no audit chain and no checkpoint."""

from __future__ import annotations

from domain.refusals import TenantUnknown
from processors.ports.tenants import TenantQueries


class KnownTenants:
    """Whether a tenant was created. A yes is kept as long as the process lives, since a tenant is never taken away; a no is not:
    a new tenant counts at once, in every process."""

    def __init__(self, queries: TenantQueries) -> None:
        self._queries = queries
        self._created: set[str] = set()

    async def check(self, tenant: str) -> None:
        """Raises TenantUnknown, or DatabaseUnavailable while that can't be known."""
        if tenant in self._created:
            return
        if not await self._queries.is_created(tenant):
            raise TenantUnknown("No operator has created this tenant.")
        self._created.add(tenant)
