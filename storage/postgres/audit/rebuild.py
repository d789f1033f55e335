"""A tenant's chain, its tree and its checkpoints, made anew from the audit log inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from domain.audit_chain import ChainEntry, ChainHead
from domain.checkpoints import SignedCheckpoint
from domain.errors import AuditConflict, CheckpointConflict
from domain.events import AuditRecorded
from domain.merkle import RightEdge, leaf_hash
from storage.postgres.audit.chain import hold_head, line_to_bytes, pending_entry
from storage.postgres.audit.tree import archivings_of, grow, leaves_of, record


@dataclass(frozen=True, slots=True)
class HeldChain:
    """See ``processors.ports.audit.HeldChain``."""

    handed_over: ChainHead
    pending: tuple[ChainEntry, ...]


class PostgresChainRebuild:
    """See ``processors.ports.audit.ChainRebuild``. One chain a transaction."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._edge = RightEdge()

    async def hold(self, tenant: str) -> HeldChain:
        head = await hold_head(self._connection, tenant, wait=True)
        if head is None:
            raise LookupError(tenant)
        rows = await self._connection.fetch(
            "SELECT tenant, seq, event_id, entry, hash FROM audit_pending WHERE tenant = $1 ORDER BY seq", tenant
        )
        pending = [pending_entry(row) for row in rows]
        if not pending:
            return HeldChain(head, ())
        if [entry.seq for entry in pending] != list(range(head.seq - len(pending) + 1, head.seq + 1)):
            raise AuditConflict("What waits for the log does not end at the chain's head.")
        try:
            before = str(pending[0].fields()["prev"])
        except (ValueError, KeyError):
            raise AuditConflict("What waits for the log is damaged.") from None
        return HeldChain(ChainHead(tenant, pending[0].seq - 1, before), tuple(pending))

    async def clear(self, tenant: str, above: int) -> None:
        for table in ("audit_trees", "audit_tiles", "audit_checkpoints", "audit_leaves", "audit_pending"):
            await self._connection.execute(f"DELETE FROM {table} WHERE tenant = $1", tenant)  # noqa: S608 - names of ours
        for table in ("audit_chained", "audit_archivings"):
            statement = f"DELETE FROM {table} WHERE tenant = $1 AND seq > $2"  # noqa: S608
            await self._connection.execute(statement, tenant, above)
        self._edge = RightEdge()

    async def extend(self, entries: Sequence[ChainEntry], *, above: int, in_tree: bool) -> None:
        tenant, new = entries[0].tenant, [entry for entry in entries if entry.seq > above]
        if in_tree:
            leaves = [leaf_hash(entry.body) for entry in entries]
            await grow(self._connection, tenant, self._edge.size, leaves)
            for leaf in leaves:
                self._edge.add(leaf)
        else:
            await self._connection.execute(
                "INSERT INTO audit_leaves (tenant, first_seq, hashes, last_hash) VALUES ($1, $2, $3, $4)",
                tenant,
                entries[0].seq,
                leaves_of(entries),
                entries[-1].hash,
            )
        archivings = archivings_of(new)
        await self._connection.execute(
            """
            WITH archivings AS (
                INSERT INTO audit_archivings (document_id, tenant, seq, entry)
                SELECT document_id, $1, seq, entry
                FROM unnest($4::uuid[], $5::bigint[], $6::bytea[]) AS archived (document_id, seq, entry)
                ON CONFLICT DO NOTHING
            )
            INSERT INTO audit_chained (event_id, tenant, seq)
            SELECT event_id, $1, seq FROM unnest($2::uuid[], $3::bigint[]) AS new (event_id, seq) ON CONFLICT DO NOTHING
            """,
            tenant,
            [entry.event_id for entry in new],
            [entry.seq for entry in new],
            [one.document_id for one in archivings],
            [one.seq for one in archivings],
            [one.entry for one in archivings],
        )

    async def checkpoint(self, signed: SignedCheckpoint, last_hash: str) -> None:
        made = signed.checkpoint
        if (made.size, made.root) != (self._edge.size, self._edge.root.hex()):
            raise CheckpointConflict("A signed checkpoint is over other entries than the log has.")
        await self._connection.execute(
            "INSERT INTO audit_trees (tenant, size, edge, last_hash) VALUES ($1, 0, '', '') ON CONFLICT DO NOTHING",
            made.tenant,
        )
        await record(self._connection, made, b"".join(self._edge.hashes), last_hash)
        await self._connection.execute(
            "UPDATE audit_checkpoints SET key_id = $3, signature = $4 WHERE tenant = $1 AND size = $2",
            made.tenant,
            made.size,
            signed.key_id,
            signed.signature,
        )

    async def finish(self, head: ChainHead, lines: Sequence[AuditRecorded]) -> None:
        waiting = await self._connection.fetch(
            "DELETE FROM audit_waiting WHERE tenant = $1 RETURNING id, event_id, line", head.tenant
        )
        rows = [(line.event_id, line_to_bytes(line)) for line in lines]
        rows += [(row["event_id"], row["line"]) for row in sorted(waiting, key=lambda row: int(row["id"]))]
        await self._connection.execute(
            """
            INSERT INTO audit_waiting (tenant, event_id, line)
            SELECT $1, event_id, line
            FROM unnest($2::uuid[], $3::bytea[]) WITH ORDINALITY AS rows (event_id, line, place) ORDER BY place
            """,
            head.tenant,
            [event_id for event_id, _ in rows],
            [line for _, line in rows],
        )
        await self._connection.execute(
            "UPDATE audit_heads SET seq = $2, hash = $3, updated_at = now() WHERE tenant = $1",
            head.tenant,
            head.seq,
            head.hash,
        )
