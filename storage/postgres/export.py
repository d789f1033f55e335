"""What an anonymised export reads of PostgreSQL: page by page, no transaction longer than a page, no column that holds somebody's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from domain.anonymising import DocumentRow, TimelineRow
from storage.postgres.connections import Connections

#: Name in the export -> column.
_TIMES: Final[Mapping[str, str]] = {
    "created_at": "created_at",
    "deposited_at": "date_depot",
    "decided_at": "date_validation",
    "archived_at": "date_archivage",
    "expires_at": "date_expiration",
}
#: Attempts are no documents.
_ARE_DOCUMENTS: Final = "documents.tenant = $1 AND documents.statut NOT IN ('PENDING', 'ABANDONED')"
_COLUMNS: Final = """
    documents.id, documents.dossier_id, dossiers.client_id, documents.document_parent_id, documents.type_document,
    documents.numero_version, documents.statut, documents.est_obligatoire, documents.langue, documents.deposant_id,
    documents.validateur_id, documents.mime_type, documents.taille_fichier, documents.archivage_prevu,
    documents.duree_conservation_annees, documents.code_echec, documents.note_vignette, documents.sequence
"""


class PostgresExportRows:
    """See ``operations.export.anonymised_export.ExportRows``. Every method raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def count(self, tenant: str) -> int:
        async with self._postgres.connection() as connection:
            return int(
                await connection.fetchval(f"SELECT count(*) FROM documents WHERE {_ARE_DOCUMENTS}", tenant)  # noqa: S608
            )

    async def types(self) -> frozenset[str]:
        async with self._postgres.connection() as connection:
            return frozenset(row[0] for row in await connection.fetch("SELECT code_type FROM types_documents"))

    async def documents(self, tenant: str, after: UUID, limit: int) -> Sequence[DocumentRow]:
        times = ", ".join(f"documents.{column}" for column in _TIMES.values())
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                f"""
                SELECT {_COLUMNS}, {times}
                FROM documents JOIN dossiers ON dossiers.id = documents.dossier_id
                WHERE {_ARE_DOCUMENTS} AND documents.id > $2 ORDER BY documents.id LIMIT $3
                """,  # noqa: S608
                tenant,
                after,
                limit,
            )
        return [_document_of(row) for row in rows]

    async def timeline(
        self, documents: Sequence[UUID], after: tuple[UUID, int] | None, limit: int
    ) -> Sequence[TimelineRow]:
        document, rank = after or (UUID(int=0), 0)
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT document_id, rang, type, auteur_id, horodatage, payload_json FROM dossier_events
                WHERE document_id = ANY($1::uuid[]) AND (document_id, rang) > ($2, $3)
                ORDER BY document_id, rang LIMIT $4
                """,
                documents,
                document,
                rank,
                limit,
            )
        return [
            TimelineRow(
                document_id=row["document_id"],
                rank=row["rang"],
                type=row["type"],
                actor=row["auteur_id"],
                at=row["horodatage"],
                details=row["payload_json"],
            )
            for row in rows
        ]


def _document_of(row: Mapping[str, Any]) -> DocumentRow:
    return DocumentRow(
        id=row["id"],
        dossier_id=row["dossier_id"],
        client=row["client_id"],
        parent_id=row["document_parent_id"],
        type_code=row["type_document"],
        version=row["numero_version"],
        status=row["statut"],
        mandatory=row["est_obligatoire"],
        language=row["langue"],
        depositor=row["deposant_id"],
        validator=row["validateur_id"],
        mime_type=row["mime_type"],
        size=row["taille_fichier"],
        archive_planned=row["archivage_prevu"],
        retention_years=row["duree_conservation_annees"],
        failure_code=row["code_echec"],
        thumbnail_note=row["note_vignette"],
        events=row["sequence"],
        times={name: row[column] for name, column in _TIMES.items()},
    )
