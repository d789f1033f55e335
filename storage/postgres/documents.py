"""Rows of DOCUMENTS: the one place where English fields meet French columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.documents import Decision, Document, Language
from domain.keys import WrappedKey
from domain.lifecycle import Status
from domain.refusals import DocumentNotFound, StateChanged, UploadSuperseded

#: Field -> column, where the value goes over as it is.
_PLAIN: Final[Mapping[str, str]] = {
    "id": "id",
    "tenant": "tenant",
    "dossier_id": "dossier_id",
    "step_id": "etape_id",
    "type_code": "type_document",
    "category": "categorie_document",
    "original_name": "nom_original",
    "stored_name": "nom_fichier",
    "object_key": "chemin_stockage",
    "mandatory": "est_obligatoire",
    "depositor_id": "deposant_id",
    "depositor_email_sealed": "courriel_scelle",
    "depositor_name_sealed": "deposant_nom_scelle",
    "labels_sealed": "etiquettes_scellees",
    "personal_key": "cle_personnelle",
    "lookup_key": "cle_index",
    "file_name_index": "nom_original_index",
    "email_index": "courriel_index",
    "version_number": "numero_version",
    "parent_id": "document_parent_id",
    "mime_type": "mime_type",
    "size": "taille_fichier",
    "sha256": "checksum_sha256",
    "object_etag": "etag_objet",
    "object_size": "taille_objet",
    "validator_id": "validateur_id",
    "validation_comment": "commentaire_validation",
    "rejection_reason": "motif_rejet",
    "ged_id": "ged_id",
    "ged_path": "chemin_ged",
    "archive_planned": "archivage_prevu",
    "retention_years": "duree_conservation_annees",
    "failure_code": "code_echec",
    "thumbnail_note": "note_vignette",
    "sequence": "sequence",
    "correlation_id": "correlation_id",
    "trace_id": "trace_depot",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "deposited_at": "date_depot",
    "decided_at": "date_validation",
    "archived_at": "date_archivage",
    "expires_at": "date_expiration",
}


_VALUES: Final = attrgetter(*_PLAIN)


def document_columns(document: Document) -> dict[str, Any]:
    """Column -> value, for every column that a Document decides."""
    columns = dict(zip(_PLAIN.values(), _VALUES(document), strict=True))
    key, decision = document.wrapped_key, document.pending_decision
    return columns | {
        "statut": document.status.value,
        "langue": document.language.value,
        "tags": list(document.tags),
        "metadata": dict(document.metadata),
        "cle_schema": key and key.scheme,
        "cle_nom": key and key.key_name,
        "cle_version": key and key.key_version,
        "cle_enveloppee": key and key.ciphertext,
        "decision_en_attente": decision and _decision_json(decision),
    }


def document_of(row: Mapping[str, Any]) -> Document:
    """The Document of a row of all columns; with its subject's key, if that was read with it."""
    wrapped = row["cle_enveloppee"]
    decision = row["decision_en_attente"]
    return Document(
        **{field: row[column] for field, column in _PLAIN.items()},
        status=Status(row["statut"]),
        language=Language(row["langue"]),
        tags=tuple(row["tags"]),
        metadata=row["metadata"],
        wrapped_key=wrapped and WrappedKey(row["cle_schema"], row["cle_nom"], row["cle_version"], wrapped),
        pending_decision=decision and _decision_of(decision),
        subject_key=row.get("cle_sujet"),
    )


def _decision_json(decision: Decision) -> dict[str, str]:
    return {
        "statut": decision.to.value,
        "validateur_id": decision.actor,
        "date": decision.at.isoformat(),
        "texte": decision.note,
    }


def _decision_of(value: Mapping[str, str]) -> Decision:
    return Decision(
        Status(value["statut"]), value["validateur_id"], datetime.fromisoformat(value["date"]), value["texte"]
    )


#: What is written about a document is sealed under its subject's key: it comes along, and costs no statement of its own.
_WITH_SUBJECT_KEY: Final = """
    SELECT documents.*, sujets.cle_enveloppee AS cle_sujet
    FROM documents LEFT JOIN cles_sujets AS sujets ON sujets.sujet = documents.id AND sujets.tenant = documents.tenant
"""


class PostgresDocuments:
    """See ``processors.ports.documents.Documents``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def add(self, document: Document) -> None:
        await insert(self._connection, document_columns(document))

    async def get(self, document_id: UUID) -> Document:
        return await self._one(f"{_WITH_SUBJECT_KEY} WHERE documents.id = $1", document_id)

    async def lock(self, document_id: UUID) -> Document:
        # Its subject's key may be older than the row, if that was waited for; then the row says that it is being erased.
        return await self._one(
            f"{_WITH_SUBJECT_KEY} WHERE documents.id = $1 FOR NO KEY UPDATE OF documents", document_id
        )

    async def next_version(self, parent_id: UUID) -> int:
        parent = await self.lock(parent_id)
        # A statement of its own: it sees what was committed while we waited for the lock.
        newest = await self._connection.fetchval(
            "SELECT max(numero_version) FROM documents WHERE document_parent_id = $1 AND statut <> 'ABANDONED'",
            parent_id,
        )
        return max(parent.version_number, newest or 0) + 1

    async def update(self, old: Document, new: Document) -> None:
        before, after = document_columns(old), document_columns(new)
        changed = {column: value for column, value in after.items() if value != before[column]}
        if not changed:
            return
        assignments = ", ".join(f"{column} = ${place}" for place, column in enumerate(changed, 4))
        found = await self._connection.fetchval(
            f"UPDATE documents SET {assignments} WHERE id = $1 AND statut = $2 AND sequence = $3 RETURNING 1",  # noqa: S608
            old.id,
            old.status.value,
            old.sequence,
            *changed.values(),
        )
        if found is None:
            raise StateChanged

    async def _one(self, query: str, document_id: UUID) -> Document:
        row = await self._connection.fetchrow(query, document_id)
        if row is None:
            raise DocumentNotFound
        return document_of(row)


class PostgresUploads:
    """See ``processors.ports.uploads.Uploads``. The server's clock alone decides whether a lease has run out."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def begin(self, document: Document, lease_seconds: float) -> None:
        now = await self._connection.fetchval("SELECT clock_timestamp() + make_interval(secs => $1)", lease_seconds)
        await insert(self._connection, document_columns(document) | {"bail_expire_a": now})

    async def renew(self, document_id: UUID, object_key: str, lease_seconds: float) -> None:
        renewed = await self._connection.fetchval(
            """
            UPDATE documents SET bail_expire_a = clock_timestamp() + make_interval(secs => $3)
            WHERE id = $1 AND chemin_stockage = $2 AND statut = 'PENDING' AND bail_expire_a > clock_timestamp()
            RETURNING 1
            """,
            document_id,
            object_key,
            lease_seconds,
        )
        if renewed is None:
            raise UploadSuperseded

    async def hold(self, document_id: UUID, object_key: str) -> Document:
        row = await self._connection.fetchrow(
            """
            SELECT * FROM documents
            WHERE id = $1 AND chemin_stockage = $2 AND statut = 'PENDING' AND bail_expire_a > clock_timestamp()
            FOR NO KEY UPDATE
            """,
            document_id,
            object_key,
        )
        if row is None:
            raise UploadSuperseded
        return document_of(row)

    async def abandon_expired(self, limit: int) -> Sequence[Document]:
        rows = await self._connection.fetch(
            """
            SELECT * FROM documents WHERE statut = 'PENDING' AND bail_expire_a <= clock_timestamp()
            ORDER BY bail_expire_a LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
            """,
            limit,
        )
        await self._connection.execute(
            "UPDATE documents SET statut = 'ABANDONED', updated_at = now() WHERE id = ANY($1::uuid[])",
            [row["id"] for row in rows],
        )
        return [replace(document_of(row), status=Status.ABANDONED) for row in rows]


async def insert(connection: asyncpg.Connection[Any], columns: Mapping[str, Any]) -> None:
    """Insert one row of DOCUMENTS; the columns' names are ours, never a caller's."""
    names = ", ".join(columns)
    places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    await connection.execute(f"INSERT INTO documents ({names}) VALUES ({places})", *columns.values())  # noqa: S608
