"""The audit log's chains, looked at from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from operations.audit_export import Exported
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


async def export(settings: Settings, tenant: str, folder: Path) -> Exported:
    """What ``operations.audit_export`` says. Raises AuditStoreUnavailable, DatabaseUnavailable, CheckpointStoreUnavailable,
    KeyringUnavailable, or FileExistsError."""
    from operations.audit_export import export_audit
    from runtime.wiring import Site
    from storage.audit_chain_postgres import PostgresAuditPending
    from storage.audit_mongo import MongoAuditStore

    site = Site(settings)
    store = MongoAuditStore(settings.mongo_url.get_secret_value(), settings.mongo_database)
    try:
        keys = await site.signer.public_keys()
        pending = PostgresAuditPending(site.postgres)
        return await export_audit(tenant, folder, store, pending, site.checkpoint_store, keys)
    finally:
        await store.aclose()
        await site.aclose()


async def public_keys(settings: Settings) -> bytes:
    """The public keys that verify checkpoints and receipts, as a JSON Web Key Set. Raises KeyringUnavailable."""
    from operations.audit_export import key_set
    from runtime.wiring import create_signer

    signer = create_signer(settings)
    try:
        return key_set(await signer.public_keys())
    finally:
        await signer.aclose()
