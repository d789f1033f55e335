"""What is written beside a document: its timeline (dossier_events), thumbnails (vignettes) and notifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from domain.documents import Rendition, TimelineEntry
from domain.records import NotificationRecord


class PostgresTimeline:
    """See ``processors.ports.documents.Timeline``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def add(self, entry: TimelineEntry) -> None:
        await self._connection.execute(
            """
            INSERT INTO dossier_events (document_id, dossier_id, type, payload_json, auteur_id, horodatage)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            entry.document_id,
            entry.dossier_id,
            entry.type,
            dict(entry.details),
            entry.actor,
            entry.at,
        )

    async def of(self, document_id: UUID) -> Sequence[TimelineEntry]:
        rows = await self._connection.fetch(
            "SELECT * FROM dossier_events WHERE document_id = $1 ORDER BY rang", document_id
        )
        return [
            TimelineEntry(
                document_id=row["document_id"],
                dossier_id=row["dossier_id"],
                type=row["type"],
                actor=row["auteur_id"],
                at=row["horodatage"],
                details=row["payload_json"],
            )
            for row in rows
        ]


class PostgresRenditions:
    """See ``processors.ports.documents.Renditions``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def put(self, rendition: Rendition) -> None:
        await self._connection.execute(
            """
            INSERT INTO vignettes (document_id, role, chemin_stockage, mime_type, largeur, hauteur, taille,
                                   checksum_sha256, etag_objet, taille_objet)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            ON CONFLICT (document_id, role) DO UPDATE SET
                chemin_stockage = excluded.chemin_stockage, mime_type = excluded.mime_type, largeur = excluded.largeur,
                hauteur = excluded.hauteur, taille = excluded.taille, checksum_sha256 = excluded.checksum_sha256,
                etag_objet = excluded.etag_objet, taille_objet = excluded.taille_objet
            """,
            rendition.document_id,
            rendition.role,
            rendition.object_key,
            rendition.mime_type,
            rendition.width,
            rendition.height,
            rendition.size,
            rendition.sha256,
            rendition.object_etag,
            rendition.object_size,
        )

    async def of(self, document_id: UUID) -> Sequence[Rendition]:
        rows = await self._connection.fetch(
            "SELECT * FROM vignettes WHERE document_id = $1 ORDER BY largeur", document_id
        )
        return [
            Rendition(
                document_id=row["document_id"],
                role=row["role"],
                object_key=row["chemin_stockage"],
                mime_type=row["mime_type"],
                width=row["largeur"],
                height=row["hauteur"],
                size=row["taille"],
                sha256=row["checksum_sha256"],
                object_etag=row["etag_objet"],
                object_size=row["taille_objet"],
            )
            for row in rows
        ]


class PostgresNotifications:
    """See ``processors.ports.mail.Notifications``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def put(self, record: NotificationRecord) -> None:
        await self._connection.execute(
            """
            INSERT INTO notifications (id, document_id, dossier_id, event_id, canal, template, langue, payload_json,
                                       message_id, statut, tentative, sent_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            ON CONFLICT (id) DO UPDATE SET
                statut = excluded.statut, tentative = excluded.tentative, sent_at = excluded.sent_at
            """,
            record.id,
            record.document_id,
            record.dossier_id,
            record.event_id,
            record.channel,
            record.template,
            record.language,
            dict(record.payload),
            record.message_id,
            record.status,
            record.attempt,
            record.sent_at,
        )

    async def get(self, notification_id: UUID) -> NotificationRecord | None:
        row = await self._connection.fetchrow("SELECT * FROM notifications WHERE id = $1", notification_id)
        return None if row is None else _notification(row)

    async def of(self, document_id: UUID) -> Sequence[NotificationRecord]:
        rows = await self._connection.fetch(
            "SELECT * FROM notifications WHERE document_id = $1 ORDER BY sent_at NULLS LAST, created_at, id",
            document_id,
        )
        return [_notification(row) for row in rows]


def _notification(row: Mapping[str, Any]) -> NotificationRecord:
    return NotificationRecord(
        id=row["id"],
        document_id=row["document_id"],
        dossier_id=row["dossier_id"],
        event_id=row["event_id"],
        channel=row["canal"],
        template=row["template"],
        language=row["langue"],
        payload=row["payload_json"],
        message_id=row["message_id"],
        status=row["statut"],
        attempt=row["tentative"],
        sent_at=row["sent_at"],
    )
