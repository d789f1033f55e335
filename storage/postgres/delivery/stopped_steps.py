"""Which steps of documents are stopped until an operator acts: letters, events given up, refused and lost rows, by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from domain.processing import LOST, REFUSED, StoppedStep
from storage.postgres.connections import Connections

#: $1: document ids, $2: the same as texts, $3: as keys, $4 and $5: topics and the first step of each, $6 and $7: codes of a refused and of
#: a lost row. Each part reads a partial index that holds such rows only. A row that is lost to a consumer may have been finished since.
_STOPPED: Final = """
    SELECT DISTINCT ON (document, step, settled) document, step, code, since, settled FROM (
        SELECT document_id::text AS document, consumer AS step, code, ecrite_a AS since, reglement IS NOT NULL AS settled
        FROM lettres_mortes
        WHERE document_id = ANY($1::uuid[]) AND document_id IS NOT NULL AND reglement IS DISTINCT FROM 'REDRIVEN'
      UNION ALL
        SELECT i.document_key, i.consumer, l.code, i.updated_at, coalesce(l.reglement = 'DISCARDED', false)
        FROM inbox i LEFT JOIN LATERAL (
            SELECT code, reglement FROM lettres_mortes
            WHERE consumer = i.consumer AND event_id = i.event_id ORDER BY ecrite_a DESC LIMIT 1) AS l ON true
        WHERE i.document_key = ANY($2::text[]) AND i.state = 'DEAD'
      UNION ALL
        SELECT convert_from(o.key, 'UTF8'), r.step, $6::text, o.refused_at, false
        FROM outbox o JOIN unnest($4::text[], $5::text[]) AS r (topic, step) ON r.topic = o.topic
        WHERE o.key = ANY($3::bytea[]) AND o.published_at IS NULL AND o.refused_at IS NOT NULL
      UNION ALL
        SELECT convert_from(o.key, 'UTF8'), r.step, $7::text, o.lost_at, false
        FROM outbox o, unnest(o.lost_to) AS r (step)
        WHERE o.key = ANY($3::bytea[]) AND o.lost_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM inbox i WHERE i.consumer = r.step AND i.event_id = o.event_id AND i.state = 'DONE')
    ) AS found
    ORDER BY document, step, settled, since
"""


class PostgresStoppedSteps:
    """See ``processors.documents.reading.StoppedSteps``. ``reads``: the consumers of each topic, in the order of the pipeline."""

    def __init__(self, postgres: Connections, reads: Mapping[str, Sequence[str]]) -> None:
        self._postgres = postgres
        first = {topic: consumers[0] for topic, consumers in reads.items() if consumers}
        self._columns = list(first), list(first.values())

    async def of(self, document_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[StoppedStep]]:
        texts = [str(document_id) for document_id in document_ids]
        keys = [text.encode() for text in texts]
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(_STOPPED, list(document_ids), texts, keys, *self._columns, REFUSED, LOST)
        found: dict[UUID, list[StoppedStep]] = {}
        for row in rows:
            step = StoppedStep(step=row["step"], code=row["code"], since=row["since"], settled=row["settled"])
            found.setdefault(UUID(row["document"]), []).append(step)
        return found
