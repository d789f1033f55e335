"""What the database says of the whole site, for those who check it from outside. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from storage.postgres.database import Postgres

#: Documents whose object is in the store: every state that was stored once, until its erasure begins.
_OBJECTS: Final = """
    SELECT chemin_stockage FROM documents WHERE statut NOT IN ('PENDING', 'ABANDONED', 'ERASING', 'ERASED')
    UNION ALL SELECT v.chemin_stockage FROM vignettes v JOIN documents d ON d.id = v.document_id
    WHERE d.statut NOT IN ('ERASING', 'ERASED')
"""


@dataclass(frozen=True, slots=True)
class DatabaseContents:
    """Object keys that rows name; outbox rows that wait for Kafka; audit lines that are not in the audit log yet."""

    objects: frozenset[str]
    unpublished: int
    unchained: int


async def database_contents(postgres: Postgres) -> DatabaseContents:
    """Raises DatabaseUnavailable."""
    async with postgres.connection() as connection, connection.transaction(readonly=True):
        rows: list[Any] = await connection.fetch(_OBJECTS)
        return DatabaseContents(
            objects=frozenset(row[0] for row in rows),
            unpublished=await connection.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"),
            unchained=await connection.fetchval(
                "SELECT (SELECT count(*) FROM audit_waiting) + (SELECT count(*) FROM audit_pending)"
            ),
        )
