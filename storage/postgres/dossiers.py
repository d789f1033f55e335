"""Rows of DOSSIERS, ETAPES_PARCOURS and TYPES_DOCUMENTS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.documents import DocumentType, Dossier, Step
from domain.refusals import DossierExists, DossierNotFound, TypeUnknown

MEGABYTE: Final = 1024 * 1024


def type_of(row: Mapping[str, Any]) -> DocumentType:
    """The DocumentType of a row of TYPES_DOCUMENTS."""
    return DocumentType(
        code=row["code_type"],
        label=row["libelle"],
        description=row["description"],
        allowed_formats=frozenset(row["formats_autorises"]),
        max_size_bytes=row["taille_max_mb"] * MEGABYTE,
        active=row["est_actif"],
        archived=row["est_archive"],
        retention_years=row["duree_conservation_annees"],
        duties_separated=row["separation_des_taches"],
        erased_by_two=row["effacement_a_deux"],
        validation_rules=row["regles_validation"],
        metadata_template=row["template_metadata"],
    )


class PostgresDocumentTypes:
    """See ``processors.ports.documents.DocumentTypes``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def get(self, code: str) -> DocumentType:
        row = await self._connection.fetchrow("SELECT * FROM types_documents WHERE code_type = $1", code)
        if row is None:
            raise TypeUnknown
        return type_of(row)

    async def lock(self, code: str) -> DocumentType:
        """See ``processors.ports.documents.ChangeableTypes``."""
        row = await self._connection.fetchrow("SELECT * FROM types_documents WHERE code_type = $1 FOR UPDATE", code)
        if row is None:
            raise TypeUnknown
        return type_of(row)

    async def change(self, rule: DocumentType) -> None:
        await self._connection.execute(
            """
            UPDATE types_documents SET formats_autorises = $2, taille_max_mb = $3, est_actif = $4, est_archive = $5,
                duree_conservation_annees = $6, separation_des_taches = $7, effacement_a_deux = $8
            WHERE code_type = $1
            """,
            rule.code,
            sorted(rule.allowed_formats),
            rule.max_size_bytes // MEGABYTE,
            rule.active,
            rule.archived,
            rule.retention_years,
            rule.duties_separated,
            rule.erased_by_two,
        )


class PostgresDossiers:
    """See ``processors.ports.documents.Dossiers``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def add(self, dossier: Dossier) -> None:
        added = await self._connection.fetchval(
            """
            INSERT INTO dossiers (id, tenant, numero_dossier, client_id, type_parcours, statut, etape_courante, priorite,
                                  date_creation, date_modification, created_by, updated_by)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
            ON CONFLICT (tenant, numero_dossier) DO NOTHING RETURNING 1
            """,
            dossier.id,
            dossier.tenant,
            dossier.number,
            dossier.client_id,
            dossier.journey_type,
            dossier.status,
            dossier.current_step,
            dossier.priority,
            dossier.created_at,
            dossier.updated_at,
            dossier.created_by,
        )
        if added is None:
            raise DossierExists
        await self._connection.executemany(
            """
            INSERT INTO etapes_parcours (id, dossier_id, nom_etape, code_etape, ordre_etape, statut,
                                         documents_obligatoires, documents_optionnels)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            [
                (
                    step.id,
                    dossier.id,
                    step.name,
                    step.code,
                    step.position,
                    step.status,
                    list(step.mandatory_documents),
                    list(step.optional_documents),
                )
                for step in dossier.steps
            ],
        )

    async def get(self, tenant: str, dossier_id: UUID) -> Dossier:
        row = await self._connection.fetchrow(
            "SELECT * FROM dossiers WHERE id = $1 AND tenant = $2", dossier_id, tenant
        )
        if row is None:
            raise DossierNotFound
        return (await self._with_steps([row]))[0]

    async def page(self, tenant: str | None, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[Dossier]:
        # Only the conditions that hold are in the statement: each shape gets a plan, and an index, of its own.
        conditions, values = ["true"], list[Any]()
        if tenant is not None:
            values.append(tenant)
            conditions.append("tenant = $1")
        if after is not None:
            conditions.append(f"(date_creation, id) < (${len(values) + 1}, ${len(values) + 2})")
            values.extend(after)
        # A plan for any tenant would walk the whole table for one that has next to nothing in it.
        await self._connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        rows = await self._connection.fetch(
            f"SELECT * FROM dossiers WHERE {' AND '.join(conditions)} "  # noqa: S608 - fixed texts and places only
            f"ORDER BY date_creation DESC, id DESC LIMIT {int(limit)}",
            *values,
        )
        return await self._with_steps(rows)

    async def _with_steps(self, rows: Sequence[Mapping[str, Any]]) -> list[Dossier]:
        steps: dict[UUID, list[Step]] = {row["id"]: [] for row in rows}
        for row in await self._connection.fetch(
            "SELECT * FROM etapes_parcours WHERE dossier_id = ANY($1::uuid[]) ORDER BY dossier_id, ordre_etape",
            list(steps),
        ):
            steps[row["dossier_id"]].append(_step_of(row))
        return [_dossier_of(row, tuple(steps[row["id"]])) for row in rows]


def _step_of(row: Mapping[str, Any]) -> Step:
    return Step(
        id=row["id"],
        code=row["code_etape"],
        name=row["nom_etape"],
        position=row["ordre_etape"],
        status=row["statut"],
        mandatory_documents=tuple(row["documents_obligatoires"]),
        optional_documents=tuple(row["documents_optionnels"]),
    )


def _dossier_of(row: Mapping[str, Any], steps: tuple[Step, ...]) -> Dossier:
    return Dossier(
        id=row["id"],
        tenant=row["tenant"],
        number=row["numero_dossier"],
        client_id=row["client_id"],
        journey_type=row["type_parcours"],
        status=row["statut"],
        current_step=row["etape_courante"],
        priority=row["priorite"],
        created_at=row["date_creation"],
        updated_at=row["date_modification"],
        created_by=row["created_by"],
        steps=steps,
    )
