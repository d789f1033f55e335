"""What happened to documents, for who holds the audit log against it. Reads only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from storage.postgres.connections import Connections

PAGE: Final = 5_000

#: The oldest line that still waits: in the outbox (to be published, or to be finished by the audit consumer), for its place, or for
#: the log.
_SETTLED: Final = """
    SELECT least(
        now() - $1::interval,
        (SELECT min(o.created_at) FROM outbox o
         WHERE o.topic = 'dpj.audit.recorded' AND o.event_id IS NOT NULL AND NOT EXISTS (
             SELECT FROM inbox i WHERE i.consumer = 'audit' AND i.event_id = o.event_id AND i.state <> 'CLAIMED')),
        (SELECT min(((convert_from(entry, 'UTF8')::jsonb) ->> 'at')::timestamptz) FROM audit_pending),
        (SELECT min(((convert_from(line, 'UTF8')::jsonb) ->> 'occurred_at')::timestamptz) FROM audit_waiting)
    )
"""
_STATES: Final = """
    SELECT e.document_id, e.rang, e.type FROM dossier_events e JOIN documents d ON d.id = e.document_id
    WHERE d.tenant = $1 AND e.type = ANY($2::text[]) AND e.horodatage < $3 AND (e.document_id, e.rang) > ($4, $5)
    ORDER BY e.document_id, e.rang LIMIT $6
"""


class PostgresTimelines:
    """See ``operations.audit.timelines.Timelines``. ``states``: the types of events that count. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections, states: Sequence[str]) -> None:
        self._postgres = postgres
        self._states = list(states)

    async def settled_before(self, grace: timedelta) -> datetime:
        async with self._postgres.connection() as connection:
            found: datetime = await connection.fetchval(_SETTLED, grace)
        return found

    async def states(self, tenant: str, before: datetime) -> AsyncGenerator[tuple[str, str], None]:
        after: tuple[UUID, int] = (UUID(int=0), -1)
        while True:
            async with self._postgres.connection() as connection:
                rows = await connection.fetch(_STATES, tenant, self._states, before, *after, PAGE)
            for row in rows:
                yield str(row["document_id"]), row["type"]
            if len(rows) < PAGE:
                return
            after = rows[-1]["document_id"], rows[-1]["rang"]
