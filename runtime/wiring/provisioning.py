"""What a site needs before its processes start: tables, schemas, an object store, a tenant's key. Each is safe to repeat."""

from __future__ import annotations

from runtime.config.settings import Settings
from runtime.config.transport import https_tls
from runtime.wiring.adapters import create_object_store
from runtime.wiring.site import Site
from schemas.registry import SchemaRegistry, register_all
from storage.migrate import upgrade


async def migrate(settings: Settings) -> str:
    """The revision in force afterwards."""
    return await upgrade(settings.postgres_dsn.get_secret_value())


async def register_schemas(settings: Settings) -> dict[str, int]:
    """Ids of this release's schemas by subject."""
    url = settings.registry_url
    async with SchemaRegistry(url, tls=https_tls(settings, url)) as registry:
        return await register_all(registry)


async def create_tenant_key(settings: Settings, tenant: str, operator: str) -> None:
    """``operator`` is the login name in whose name it is made; only its pseudonym is written down."""
    site = Site(settings)
    try:
        await site.codec.check()
        await site.key_care(operator).create(tenant)
    finally:
        await site.aclose()


async def prepare_object_store(settings: Settings) -> None:
    objects = create_object_store(settings)
    try:
        await objects.prepare()
    finally:
        await objects.aclose()
