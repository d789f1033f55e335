"""The audit log's chains, looked at from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from operations.audit_verify import AuditReport
    from runtime.settings import Settings


async def verify(settings: Settings, tenant: str | None) -> AuditReport:
    """Every tenant's chain, or that of ``tenant``. Raises AuditStoreUnavailable or DatabaseUnavailable."""
    from operations.audit_verify import verify_audit
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
