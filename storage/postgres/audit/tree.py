"""The audit chains' Merkle trees in PostgreSQL. What is here is a working copy: the checkpoint store has what was signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain.audit_chain import ChainEntry, genesis
from domain.checkpoints import AuditTree, Checkpoint, SignedCheckpoint, checkpoint_of, next_checkpoint
from domain.errors import CheckpointConflict, DocumentBusy
from domain.merkle import RightEdge, TileId, grown, leaf_hash, proof_tiles, split, unfinished_tiles
from domain.receipts import ArchivingEntry, InclusionProof, archiving_entry_of
from storage.postgres.connections import Connections

#: Rows of leaves read at once; a checkpoint takes rows until it has LEAVES, so that its memory and its time are bounded.
ROWS: Final = 64
LEAVES: Final = 16_384


def leaves_of(entries: Sequence[ChainEntry]) -> bytes:
    """The leaf hashes of entries, one after the other."""
    return b"".join(leaf_hash(entry.body) for entry in entries)


def archivings_of(entries: Sequence[ChainEntry]) -> list[ArchivingEntry]:
    """What receipts will be about."""
    return [found for entry in entries if (found := archiving_entry_of(entry)) is not None]


class PostgresAuditTrees:
    """See ``processors.audit.checkpoints.AuditTrees``. Every method raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def due(self, entries: int, before: datetime, ahead: datetime) -> Sequence[str]:
        """Tenants with a checkpoint to finish, or with ``entries`` new ones, or with any and the latest taken ``before``.

        And those whose rows say what none of ours wrote, so that taking theirs tells it: none may keep a tenant from being due.
        """
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT tenant FROM audit_heads AS heads
                FULL JOIN audit_trees AS trees USING (tenant)
                LEFT JOIN audit_checkpoints AS latest USING (tenant, size)
                WHERE (latest.body IS NOT NULL AND latest.signature IS NULL) OR (
                    coalesce(heads.seq, 0) > coalesce(trees.size, 0) AND (
                        latest.taken_at IS NULL OR latest.taken_at <= $2 OR heads.seq - trees.size >= $1
                    )
                )
                OR coalesce(trees.size, 0) > coalesce(heads.seq, 0)
                OR (trees.size > 0 AND latest.body IS NULL)
                OR latest.taken_at > $3
                ORDER BY tenant
                """,
                entries,
                before,
                ahead,
            )
        return [row["tenant"] for row in rows]

    async def tree(self, tenant: str) -> AuditTree:
        """The tree at its latest checkpoint. Raises CheckpointConflict if the rows fit nothing that was written."""
        async with self._postgres.connection() as connection:
            return await _tree(connection, tenant)

    async def tiles(self, tenant: str, needed: Sequence[TileId]) -> Mapping[TileId, bytes]:
        """Those of ``needed`` that are there."""
        async with self._postgres.connection() as connection:
            return await _tiles(connection, tenant, needed)

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        """Leaves of entries that were chained before there were trees; repeated, nothing changes."""
        archivings = archivings_of(entries)
        async with self._postgres.connection() as connection:
            await connection.execute(
                """
                WITH archivings AS (
                    INSERT INTO audit_archivings (document_id, tenant, seq, entry)
                    SELECT document_id, $1, seq, entry
                    FROM unnest($5::uuid[], $6::bigint[], $7::bytea[]) AS archived (document_id, seq, entry)
                    ON CONFLICT DO NOTHING
                )
                INSERT INTO audit_leaves (tenant, first_seq, hashes, last_hash) VALUES ($1, $2, $3, $4)
                ON CONFLICT DO NOTHING
                """,
                entries[0].tenant,
                entries[0].seq,
                leaves_of(entries),
                entries[-1].hash,
                [one.document_id for one in archivings],
                [one.seq for one in archivings],
                [one.entry for one in archivings],
            )

    async def record_next(self, tenant: str, size: int, at: datetime) -> Checkpoint | None:
        """Add the leaves that follow ``size`` and put the checkpoint over them on record, in one transaction: from then on that size
        has this checkpoint and no other. None if no leaf follows.

        Raises DocumentBusy if the tree is no longer of ``size``, CheckpointConflict as ``tree``.
        """
        async with self._postgres.connection() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO audit_trees (tenant, size, edge, last_hash) VALUES ($1, 0, '', $2) ON CONFLICT DO NOTHING",
                tenant,
                genesis(tenant).hash,
            )
            held = await connection.fetchval("SELECT size FROM audit_trees WHERE tenant = $1 FOR UPDATE", tenant)
            if held != size:
                raise DocumentBusy("Another process took this checkpoint.")
            tree = await _tree(connection, tenant)
            leaves, last_hash = await _following(connection, tenant, size)
            if not leaves:
                return None
            await grow(connection, tenant, size, leaves)
            for leaf in leaves:
                tree.edge.add(leaf)
            made = next_checkpoint(tree, tree.edge, at)
            await record(connection, made, b"".join(tree.edge.hashes), last_hash)
        return made

    async def record_signed(self, signed: SignedCheckpoint) -> None:
        """The checkpoint store has it."""
        made = signed.checkpoint
        async with self._postgres.connection() as connection:
            await connection.execute(
                """
                UPDATE audit_checkpoints SET key_id = $3, signature = $4
                WHERE tenant = $1 AND size = $2 AND hash = $5 AND signature IS NULL
                """,
                made.tenant,
                made.size,
                signed.key_id,
                signed.signature,
                made.hash,
            )

    async def recorded(self, tenant: str | None) -> dict[str, list[tuple[int, str]]]:
        """Sizes and hashes of the checkpoints that are on record as signed, in order, by tenant; all tenants', or one's."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(
                """
                SELECT tenant, size, encode(sha256(body), 'hex') AS hash FROM audit_checkpoints
                WHERE signature IS NOT NULL AND ($1::text IS NULL OR tenant = $1) ORDER BY tenant, size
                """,
                tenant,
            )
        found: dict[str, list[tuple[int, str]]] = {}
        for row in rows:
            found.setdefault(row["tenant"], []).append((row["size"], row["hash"]))
        return found


class PostgresInclusionProofs:
    """See ``processors.audit.receipts.InclusionProofs``. Every method raises DatabaseUnavailable."""

    def __init__(self, postgres: Connections) -> None:
        self._postgres = postgres

    async def archiving(self, document_id: UUID) -> ArchivingEntry | None:
        """The entry that archived the document; None while it has no place in the chain."""
        async with self._postgres.connection() as connection:
            row = await connection.fetchrow(
                "SELECT tenant, seq, entry FROM audit_archivings WHERE document_id = $1", document_id
            )
        return row and ArchivingEntry(
            document_id=document_id, tenant=row["tenant"], seq=row["seq"], entry=bytes(row["entry"])
        )

    async def inclusion(self, archiving: ArchivingEntry) -> InclusionProof | None:
        """In the first signed checkpoint that covers the entry; None while there is none. Reads a few tiles, however long the chain.

        Raises CheckpointConflict if checkpoint or tiles are not what was written.
        """
        async with self._postgres.connection() as connection:
            row = await connection.fetchrow(
                """
                SELECT body, key_id, signature FROM audit_checkpoints
                WHERE tenant = $1 AND size >= $2 AND signature IS NOT NULL ORDER BY size LIMIT 1
                """,
                archiving.tenant,
                archiving.seq,
            )
            if row is None:
                return None
            signed = _signed(row)
            needed = proof_tiles(archiving.seq - 1, signed.checkpoint.size)
            tiles = await _tiles(connection, archiving.tenant, needed)
        return InclusionProof.of_tiles(archiving, signed, tiles)


async def _tree(connection: Any, tenant: str) -> AuditTree:
    row = await connection.fetchrow(
        """
        SELECT trees.size, trees.edge, trees.last_hash, latest.body, latest.key_id, latest.signature, latest.taken_at,
            coalesce((SELECT seq FROM audit_heads WHERE tenant = $1), 0) AS head,
            (SELECT min(first_seq) FROM audit_leaves WHERE tenant = $1 AND first_seq > coalesce(trees.size, 0)) AS next,
            coalesce((SELECT max(size) FROM audit_checkpoints WHERE tenant = $1 AND size < trees.size), 0) AS before
        FROM (SELECT 1) AS one
        LEFT JOIN audit_trees AS trees ON trees.tenant = $1
        LEFT JOIN audit_checkpoints AS latest ON latest.tenant = $1 AND latest.size = trees.size
        """,
        tenant,
    )
    missing_to = row["head"] if row["next"] is None else row["next"] - 1
    if not row["size"]:
        start = genesis(tenant).hash
        return AuditTree(
            tenant=tenant,
            edge=RightEdge(),
            last_hash=start,
            latest=None,
            signed=None,
            missing_to=missing_to,
            head=row["head"],
        )
    try:
        edge = RightEdge.of_bytes(row["size"], row["edge"])
        latest = checkpoint_of(bytes(row["body"] or b""))
    except ValueError:
        raise CheckpointConflict("The database's audit tree is damaged.") from None
    if row["taken_at"] != latest.time:
        raise CheckpointConflict("The database's checkpoint was not taken when it says that it was.")
    return AuditTree(
        tenant=tenant,
        edge=edge,
        last_hash=row["last_hash"],
        latest=latest,
        signed=None if row["signature"] is None else _signed(row),
        missing_to=missing_to,
        head=row["head"],
        before=row["before"],
    )


async def _following(connection: Any, tenant: str, size: int) -> tuple[list[bytes], str]:
    """Leaf hashes from number ``size + 1`` on without a gap, whole rows, about LEAVES at most; and their last entry's hash."""
    leaves: list[bytes] = []
    last_hash = ""
    while len(leaves) < LEAVES:
        rows = await connection.fetch(
            """
            SELECT first_seq, hashes, last_hash FROM audit_leaves
            WHERE tenant = $1 AND first_seq > $2 ORDER BY first_seq LIMIT $3
            """,
            tenant,
            size + len(leaves),
            ROWS,
        )
        for row in rows:
            if row["first_seq"] != size + len(leaves) + 1 or len(leaves) >= LEAVES:
                return leaves, last_hash
            leaves += split(row["hashes"])
            last_hash = row["last_hash"]
        if len(rows) < ROWS:
            break
    return leaves, last_hash


async def grow(connection: Any, tenant: str, size: int, leaves: Sequence[bytes]) -> None:
    """Write the tiles that ``leaves`` make, and forget the rows they came in."""
    try:
        changed = grown(size, await _tiles(connection, tenant, unfinished_tiles(size)), leaves)
    except ValueError:
        raise CheckpointConflict("The database's audit tree is damaged.") from None
    await connection.execute(
        """
        WITH taken AS (DELETE FROM audit_leaves WHERE tenant = $1 AND first_seq <= $5)
        INSERT INTO audit_tiles (tenant, level, number, hashes)
        SELECT $1, level, number, hashes
        FROM unnest($2::smallint[], $3::bigint[], $4::bytea[]) AS tiles (level, number, hashes)
        ON CONFLICT (tenant, level, number) DO UPDATE SET hashes = EXCLUDED.hashes
        """,
        tenant,
        [tile.level for tile in changed],
        [tile.number for tile in changed],
        list(changed.values()),
        size + len(leaves),
    )


async def record(connection: Any, made: Checkpoint, edge: bytes, last_hash: str) -> None:
    """The checkpoint and the tree it is about, as one statement."""
    await connection.execute(
        """
        WITH made AS (
            INSERT INTO audit_checkpoints (tenant, size, body, hash, taken_at) VALUES ($1, $2, $3, $4, $5)
        )
        UPDATE audit_trees SET size = $2, edge = $6, last_hash = $7 WHERE tenant = $1
        """,
        made.tenant,
        made.size,
        made.body,
        made.hash,
        made.time,
        edge,
        last_hash,
    )


async def _tiles(connection: Any, tenant: str, needed: Sequence[TileId]) -> dict[TileId, bytes]:
    rows = await connection.fetch(
        """
        SELECT level, number, hashes FROM audit_tiles
        JOIN unnest($2::smallint[], $3::bigint[]) AS needed (level, number) USING (level, number) WHERE tenant = $1
        """,
        tenant,
        [tile.level for tile in needed],
        [tile.number for tile in needed],
    )
    return {TileId(row["level"], row["number"]): bytes(row["hashes"]) for row in rows}


def _signed(row: asyncpg.Record) -> SignedCheckpoint:
    try:
        return SignedCheckpoint(
            checkpoint=checkpoint_of(bytes(row["body"])), key_id=row["key_id"], signature=bytes(row["signature"])
        )
    except (ValueError, TypeError):
        raise CheckpointConflict("The database's checkpoint is damaged.") from None
