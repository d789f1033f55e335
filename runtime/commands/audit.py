"""``dpj audit``: a look at a site's audit log, opened for it and closed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from operations.audit_verify import AuditReport, verify_audit

if TYPE_CHECKING:
    from runtime.settings import Settings


async def verify(settings: Settings, tenant: str | None) -> AuditReport:
    """Verify the chain of ``tenant``, or all. Raises AuditStoreUnavailable or DatabaseUnavailable."""
    from storage.audit_chain_postgres import PostgresAuditPending
    from storage.audit_mongo import MongoAuditStore
    from storage.postgres import Postgres

    postgres = Postgres(settings.postgres_dsn.get_secret_value(), connections=1)
    store = MongoAuditStore(settings.mongo_url.get_secret_value(), settings.mongo_database)
    try:
        return await verify_audit(store, PostgresAuditPending(postgres), tenant)
    finally:
        await store.aclose()
        await postgres.aclose()
