"""Batches of operators' acts (lots) and the result of each item (lots_lignes)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.batches import NOTE_CHARACTERS, UNDER_WAY, Act, ActRequest, Batch, BatchItem, BatchState
from domain.refusals import BatchNotFound
from storage.postgres.connections import Connections

_COUNTS: Final = """
    (SELECT jsonb_object_agg(result, n) FROM (
        SELECT coalesce(resultat, 'waiting') AS result, count(*) AS n FROM lots_lignes WHERE lot = lots.id GROUP BY 1) c
    ) AS counts
"""


class PostgresBatches:
    """See ``processors.ports.batches.Batches``."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def add(self, batch: Batch, items: Sequence[BatchItem]) -> bool:
        added = await self._connection.fetchval(
            """
            INSERT INTO lots (id, acte, demande, empreinte, tenants, acteur, motif, etat, eprouvettes, arret_apres,
                              a_deux)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING RETURNING true
            """,
            batch.id,
            batch.request.act.value,
            batch.request.as_json(),
            batch.plan_hash,
            None if batch.tenants is None else list(batch.tenants),
            batch.actor,
            batch.reason,
            batch.state.value,
            batch.canary,
            batch.stop_after,
            batch.by_two,
        )
        if not added:
            return False
        await self._connection.execute(
            """
            INSERT INTO lots_lignes (lot, rang, objet, prevu, resultat, note, faite_a)
            SELECT $1, rang, objet, prevu, resultat, note, CASE WHEN resultat IS NOT NULL THEN now() END
            FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[])
                 AS lignes (rang, objet, prevu, resultat, note)
            """,
            batch.id,
            [item.rank for item in items],
            [item.name for item in items],
            [item.forecast for item in items],
            [item.result for item in items],
            [item.note[:NOTE_CHARACTERS] for item in items],
        )
        return True

    async def get(self, batch_id: UUID) -> Batch:
        row = await self._connection.fetchrow(
            f"SELECT lots.*, {_COUNTS} FROM lots WHERE id = $1 FOR NO KEY UPDATE",  # noqa: S608 - made of constants
            batch_id,
        )
        if row is None:
            raise BatchNotFound
        return _batch(row)

    async def move(
        self,
        batch_id: UUID,
        before: Collection[BatchState],
        after: BatchState,
        *,
        stopped: str | None = None,
        second: str | None = None,
    ) -> bool:
        moved = await self._connection.fetchval(
            """
            UPDATE lots SET etat = $3, arret = $4, second = coalesce($5, second), change_a = now()
            WHERE id = $1 AND etat = ANY($2::text[]) RETURNING true
            """,
            batch_id,
            [state.value for state in before],
            after.value,
            stopped,
            second,
        )
        return bool(moved)

    async def record(self, batch_id: UUID, rank: int, result: str, note: str) -> bool:
        # The share lock makes who stops the batch wait for the item at work, and this one see the stop.
        recorded = await self._connection.fetchval(
            """
            WITH lot AS (SELECT id FROM lots WHERE id = $1 AND etat = ANY($5::text[]) FOR SHARE)
            UPDATE lots_lignes SET resultat = $3, note = $4, faite_a = now() FROM lot
            WHERE lots_lignes.lot = lot.id AND rang = $2 AND resultat IS NULL RETURNING true
            """,
            batch_id,
            rank,
            result,
            note[:NOTE_CHARACTERS],
            [state.value for state in UNDER_WAY],
        )
        return bool(recorded)


class PostgresBatchQueries:
    """What is asked about batches, outside transactions. Raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def newest(self, limit: int, *, within: Collection[str] | None = None) -> Sequence[Batch]:
        """Newest first. ``within``: only those that are bound to some of these tenants and to no other; None: all."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                f"""
                SELECT lots.*, {_COUNTS} FROM lots WHERE $2::text[] IS NULL OR tenants <@ $2::varchar[] ORDER BY cree_a DESC, id LIMIT $1
                """,  # noqa: S608 - made of constants
                limit,
                None if within is None else list(within),
            )
        return [_batch(row) for row in rows]

    async def find(self, batch_id: UUID) -> Batch | None:
        async with self._postgres.connection() as connection:
            row = await connection.fetchrow(f"SELECT lots.*, {_COUNTS} FROM lots WHERE id = $1", batch_id)  # noqa: S608
        return None if row is None else _batch(row)

    async def last_done(self, act: Act) -> Batch | None:
        """The batch of that act that was finished last."""
        async with self._postgres.connection() as connection:
            row = await connection.fetchrow(
                f"""
                SELECT lots.*, {_COUNTS} FROM lots WHERE acte = $1 AND etat = 'DONE' ORDER BY change_a DESC, id LIMIT 1
                """,  # noqa: S608 - made of constants
                act.value,
            )
        return None if row is None else _batch(row)

    async def items(self, batch_id: UUID, *, after: int = 0, limit: int = 100) -> Sequence[BatchItem]:
        """A batch's items behind the rank ``after``."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                "SELECT * FROM lots_lignes WHERE lot = $1 AND rang > $2 ORDER BY rang LIMIT $3", batch_id, after, limit
            )
        return [_item(row) for row in rows]

    async def under_way(self) -> Batch | None:
        """The oldest batch that is to be carried out."""
        async with self._postgres.connection() as connection:
            row = await connection.fetchrow(
                f"SELECT lots.*, {_COUNTS} FROM lots WHERE etat IN ('CANARY', 'RUNNING') ORDER BY cree_a, id LIMIT 1"  # noqa: S608
            )
        return None if row is None else _batch(row)

    async def waiting(self, batch_id: UUID, limit: int) -> Sequence[BatchItem]:
        """Items without a result, in their order."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                "SELECT * FROM lots_lignes WHERE lot = $1 AND resultat IS NULL ORDER BY rang LIMIT $2", batch_id, limit
            )
        return [_item(row) for row in rows]


def _batch(row: Any) -> Batch:
    return Batch(
        id=row["id"],
        request=ActRequest.from_json(row["demande"]),
        plan_hash=row["empreinte"],
        tenants=None if row["tenants"] is None else tuple(row["tenants"]),
        actor=row["acteur"],
        reason=row["motif"],
        state=BatchState(row["etat"]),
        canary=row["eprouvettes"],
        stop_after=row["arret_apres"],
        by_two=row["a_deux"],
        stopped=row["arret"],
        second=row["second"],
        created_at=row["cree_a"],
        changed_at=row["change_a"],
        counts=row["counts"] or {},
    )


def _item(row: Any) -> BatchItem:
    return BatchItem(
        rank=row["rang"],
        name=row["objet"],
        forecast=row["prevu"],
        result=row["resultat"],
        note=row["note"],
        done_at=row["faite_a"],
    )
