"""What checks look at beyond the API: database, object store and audit log of a site, opened for one look and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.native.files import home
from domain.documents import Language
from operations.demo.proofs import DemoSite, StoreContents
from runtime.config.transport import https_tls, kafka_security

if TYPE_CHECKING:
    from runtime.config.settings import Settings

#: Object keys of documents and their renditions begin with this.
PREFIX: Final = "documents/"


def demo_site_of(settings: Settings, verify_audit: Callable[[], Any]) -> DemoSite:
    """The demonstration's view of a local stack."""
    if settings.smtp_maildir is None:
        raise ValueError("the settings name no Maildir")
    return DemoSite(
        api_url=settings.api_url,
        console_url=settings.console_url,
        kafka_bootstrap=settings.kafka_bootstrap,
        kafka_security=kafka_security(settings),
        ged_tls=https_tls(settings, settings.ged_url),
        ged_url=settings.ged_url,
        ged_repository=settings.ged_repository,
        ged_user=settings.ged_user,
        ged_password=settings.ged_password.get_secret_value(),
        maildir=settings.smtp_maildir,
        subjects=mail_subjects(),
        kept=lambda: asyncio.run(read_stores(settings)),
        stored_files=lambda since: written_since(store_folder(settings), since),
        verify_audit=verify_audit,
    )


async def read_stores(settings: Settings) -> StoreContents:
    """What database and object store hold now. Raises DatabaseUnavailable or ObjectStoreUnavailable."""
    from runtime.wiring.adapters import create_object_store
    from storage.postgres.database import Postgres
    from storage.postgres.inspection import database_contents

    postgres = Postgres(settings.postgres_dsn.get_secret_value(), connections=1)
    objects = create_object_store(settings)
    try:
        # The store is listed first: whatever was committed before is then known to the database.
        stored = frozenset([found.key async for found in objects.list(PREFIX)])
        known = await database_contents(postgres)
    finally:
        await postgres.aclose()
        await objects.aclose()
    return StoreContents(known.objects, stored, known.unpublished, known.unchained)


def store_folder(settings: Settings) -> Path:
    """Where the object store of a local stack keeps its bytes on disk."""
    if settings.object_store == "filesystem" and settings.objects_dir is not None:
        return settings.objects_dir
    return home() / settings.stack_name / "data" / "minio"


def written_since(folder: Path, since: float) -> Sequence[Path]:
    """All files below ``folder`` that were written at ``since`` (Unix time) or later, whatever their names."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_mtime >= since]


def mail_subjects() -> dict[tuple[str, str], str]:
    """The subject of every mail template in every language, by (template, language)."""
    from notifications.rendering import MailTemplates
    from processors.events.notification import TEMPLATES

    at = datetime(2026, 1, 1, tzinfo=UTC)
    values = {
        **dict.fromkeys(("reference", "file_name", "type_label", "dossier_number", "sha256", "reason"), "-"),
        "deposited_at": at,
        "occurred_at": at,
        "size": 1,
        "to_be_archived": True,
        "retention_years": 1,
    }
    templates = MailTemplates()
    return {
        (template, language.value): templates.render(template, language, values).subject
        for template in TEMPLATES.values()
        for language in Language
    }
