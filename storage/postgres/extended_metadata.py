"""Extended metadata in PostgreSQL, table ``metadonnees_etendues``: what the file itself says (pages, dimensions, PDF info)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from storage.postgres.connections import Connections
from storage.postgres.json_texts import storable_json


class PostgresExtendedMetadata:
    """See ``processors.ports.metadata.ExtendedMetadata``. One row per document id. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def put(self, document_id: UUID, tenant: str, metadata: Mapping[str, Any]) -> None:
        """Write, or write again."""
        # What a jsonb could not hold is kept as its text: no file's oddity may hold the pipeline up.
        held = storable_json(json.dumps(dict(metadata), default=str))
        async with self._postgres.connection() as connection:
            await connection.execute(
                """
                INSERT INTO metadonnees_etendues (document_id, tenant, metadonnees) VALUES ($1, $2, $3::text::jsonb)
                ON CONFLICT (document_id) DO UPDATE SET tenant = excluded.tenant, metadonnees = excluded.metadonnees
                """,
                document_id,
                tenant,
                held,
            )

    async def get(self, document_id: UUID) -> Any:
        """What was written, or None."""
        async with self._postgres.connection() as connection:
            held = await connection.fetchval(
                "SELECT metadonnees::text FROM metadonnees_etendues WHERE document_id = $1", document_id
            )
        return None if held is None else orjson.loads(held)

    async def known(self, ids: Sequence[UUID]) -> Collection[UUID]:
        """Those of ``ids`` that have any."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                "SELECT document_id FROM metadonnees_etendues WHERE document_id = ANY($1::uuid[])", list(ids)
            )
        return {row["document_id"] for row in rows}

    async def delete(self, document_id: UUID, tenant: str) -> None:
        """Forget it; nothing there is fine."""
        async with self._postgres.connection() as connection:
            await connection.execute(
                "DELETE FROM metadonnees_etendues WHERE document_id = $1 AND tenant = $2", document_id, tenant
            )
