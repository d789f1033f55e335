"""What a site needs before its processes start: tables, schemas, an object store, a tenant's key. Each is safe to repeat.

Each imports what it needs when it is called: a command that migrates waits for no other part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.config.settings import Settings


async def migrate(settings: Settings) -> str:
    """The revision in force afterwards."""
    from storage.migrate import upgrade

    return await upgrade(settings.postgres_dsn.get_secret_value())


async def register_schemas(settings: Settings) -> dict[str, int]:
    """Ids of this release's schemas by subject."""
    from runtime.wiring.adapters import create_registry
    from schemas.registry import register_all

    registry = create_registry(settings)
    try:
        return await register_all(registry)
    finally:
        await registry.close()


async def create_tenant_key(settings: Settings, tenant: str, operator: str) -> None:
    """``operator`` is the login name in whose name it is made; only its pseudonym is written down."""
    from runtime.wiring.site import Site

    site = Site(settings)
    try:
        await site.codec.check()
        await site.key_administration(operator).create(tenant)
    finally:
        await site.aclose()


async def prepare_object_store(settings: Settings) -> None:
    from runtime.wiring.adapters import create_object_store

    objects = create_object_store(settings)
    try:
        await objects.prepare()
    finally:
        await objects.aclose()
