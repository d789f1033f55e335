"""Audit checkpoints: now and then each tenant's chain is signed as it stands and told to a store that nobody can rewrite.

Numbered as in ``AuditCheckpointer._checkpoint``; a crash anywhere repeats a step, and never makes two checkpoints of one size:

1. compare: the database's tree must be what the store's newest checkpoint signed, that one's signature ours, and the store have
   nothing beyond. So what is signed next grows out of what was, even if somebody rewrote the tables;
2. fix: leaves since then go into the tree, and the checkpoint over it on record, in one transaction. From here on it is decided;
3. prove: what is on record is not believed, whether it was fixed just now or before a crash. It must name the store's newest
   checkpoint as the one before and have a time between that one's and now, and its root must be what its leaves make once they
   are added to the tree that the newest signed;
4. sign it: Ed25519 is deterministic, again is the same;
5. store it under its size; one that is there already in the same body is it;
6. record that it is there.

Leaf hashes are written by the chainer in the transaction that chains (``processors.audit.chaining``). Entries that are older than the trees
have theirs made from the audit log first, each verified to follow the one before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from domain.audit_chain import ChainCheck, ChainEntry, ChainHead, StoredEntry
from domain.checkpoints import AuditTree, Checkpoint, SignedCheckpoint, first_previous
from domain.errors import CheckpointConflict
from domain.merkle import RightEdge, TileId, edge_tiles, edge_within, leaf_tiles, leaves_within
from domain.shared.crash_points import reach
from processors.audit.chaining import AuditStep
from processors.audit.signing import VerifySignature
from processors.audit.stored_checkpoints import CheckpointStore, load_stored
from processors.ports.clock import Clock
from processors.ports.database import Locks
from processors.ports.signing import Signer

log = structlog.get_logger()

PAGE: Final = 1_000
#: Checkpoints that one tenant may take in a row while it has a backlog; then the others have their turn.
CHECKPOINTS_PER_TURN: Final = 16
#: Leaves that a proof holds in memory at once; a multiple of a tile's.
LEAVES_AT_ONCE: Final = 16_384
#: How far ahead another process's clock may be. A checkpoint from later than that was made by no clock of ours.
MAX_CLOCK_SKEW: Final = timedelta(minutes=1)


class TreeTiles(Protocol):
    """The trees' hashes, as the database has them. Raises DatabaseUnavailable."""

    async def tiles(self, tenant: str, needed: Sequence[TileId]) -> Mapping[TileId, bytes]:
        """Those of ``needed`` that are there."""
        ...


class CheckpointRows(Protocol):
    """The trees' edges and their checkpoints, as the database has them. Raises DatabaseUnavailable."""

    async def due(self, entries: int, before: datetime, ahead: datetime) -> Sequence[str]:
        """Tenants with a checkpoint to finish, or with ``entries`` new entries, or with any and the latest taken ``before``; and
        those whose rows nothing of ours wrote: a tree beyond its chain or without its checkpoint, or one taken after ``ahead``.
        """
        ...

    async def tree(self, tenant: str) -> AuditTree:
        """Raises CheckpointConflict if the rows fit nothing that was written."""
        ...

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        """Leaves of entries that lack them; repeated, nothing changes."""
        ...

    async def record_next(self, tenant: str, size: int, at: datetime) -> Checkpoint | None:
        """Step 2 from a tree of ``size``; None if no leaf follows. Raises DocumentBusy if the tree has another size."""
        ...

    async def record_signed(self, signed: SignedCheckpoint) -> None:
        """Step 6."""
        ...


class AuditTrees(TreeTiles, CheckpointRows, Protocol):
    """The trees, as the database has them."""


class AuditLogReader(Protocol):
    """The audit log. Raises AuditStoreUnavailable, or DatabaseUnavailable where it is in the database."""

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]: ...


class UnflushedReader(Protocol):
    """Entries on their way to the audit log. Raises DatabaseUnavailable."""

    async def first(self, tenant: str, limit: int, after: int = 0) -> Sequence[ChainEntry]: ...


class AuditCheckpointer(AuditStep):
    """Takes checkpoints after ``entries`` new entries, or ``seconds`` after the last one if there is any new entry; one at a time
    is at a tenant, whichever process it runs in."""

    def __init__(
        self,
        trees: AuditTrees,
        signer: Signer,
        verifies: VerifySignature,
        store: CheckpointStore,
        history: AuditLogReader,
        pending: UnflushedReader,
        locks: Locks,
        clock: Clock,
        *,
        entries: int,
        seconds: float,
    ) -> None:
        super().__init__("checkpoint", refused="audit_checkpoint_refused")
        self._trees = trees
        self._signer = signer
        self._verifies = verifies
        self._store = store
        self._history = history
        self._pending = pending
        self._locks = locks
        self._clock = clock
        self._entries: Final = entries
        self._age: Final = timedelta(seconds=seconds)

    async def run_once(self) -> int:
        """Take what is due; gives how many entries were covered. Every tenant is tried; the first refusal is raised at the end."""
        now = self._clock.now()
        due = await self._trees.due(self._entries, now - self._age, now + MAX_CLOCK_SKEW)
        moved, refusal = await self._each(due, self._of_tenant)
        if refusal is not None:
            raise refusal
        return moved

    async def _of_tenant(self, tenant: str) -> int:
        covered = 0
        async with self._locks.lock(f"audit-checkpoint/{tenant}"):
            for _ in range(CHECKPOINTS_PER_TURN):
                more = await self._checkpoint(tenant)
                covered += more
                if more < self._entries:
                    break
        return covered

    async def _checkpoint(self, tenant: str) -> int:
        tree = await self._trees.tree(tenant)
        newest = await self._verify_store(tree)  # 1
        edge = await self._signed_edge(tenant, newest)
        made, before = tree.latest, tree.size
        if made is None or tree.signed is not None:
            if tree.missing_to > tree.size:
                await self._backfill_leaves(tree)
            made = await self._trees.record_next(tenant, tree.size, self._time_after(newest))  # 2
            if made is None:
                return 0
        reach("checkpoint.fixed")
        await self._verify_growth(made, tenant, newest, edge)  # 3
        key = await self._signer.current()
        signature = await self._signer.sign(made.body, key.id)  # 4
        signed = SignedCheckpoint(checkpoint=made, key_id=key.id, signature=signature)
        await self._store.put(tenant, made.size, signed.content)  # 5
        reach("checkpoint.stored")
        kept = await self._stored_copy(made)
        if kept is None:
            raise CheckpointConflict("The checkpoint store holds another checkpoint of this size.")
        await self._trees.record_signed(kept)  # 6
        log.info("audit_checkpoint_taken", tenant=tenant, size=made.size)
        return max(made.size - before, 1)

    async def _verify_store(self, tree: AuditTree) -> Checkpoint | None:
        """The store's newest checkpoint but for one that is to be finished; None if it has none.

        Raises CheckpointConflict unless that is the tree's, or the one before the tree's that is to be finished. Of the tree's own size
        the store may then have nothing, if the last try did not get that far.
        """
        if tree.head < tree.size:
            raise CheckpointConflict("The database's audit chain ends before its tree does.")
        if await self._store.sizes(tree.tenant, tree.size + 1, 1):
            raise CheckpointConflict("The checkpoint store is ahead of the database: was that restored from before?")
        if tree.latest is None and not tree.size:
            return None
        if tree.latest is None or tree.latest.size != tree.size or tree.latest.root != tree.edge.root.hex():
            raise CheckpointConflict("The database's audit tree is not the one of its checkpoint.")
        stored = await self._store.sizes(tree.tenant, tree.before + 1, 2)
        if list(stored) not in ([], [tree.size]):
            raise CheckpointConflict("The database lacks a checkpoint that the checkpoint store has.")
        if (stored or tree.signed is not None) and await self._stored_copy(tree.latest) is None:
            raise CheckpointConflict("The checkpoint store holds another checkpoint, or none, of this size.")
        if tree.signed is not None:
            return tree.latest
        if not tree.before:
            return None
        newest = await self._load_stored(tree.tenant, tree.before)
        if newest is None:
            raise CheckpointConflict("The checkpoint store lacks the checkpoint before the one on record.")
        return newest.checkpoint

    def _time_after(self, newest: Checkpoint | None) -> datetime:
        """Now, as far as other processes' clocks allow."""
        now = self._clock.now()
        return now if newest is None else max(now, newest.time + timedelta(microseconds=1))

    async def _signed_edge(self, tenant: str, newest: Checkpoint | None) -> RightEdge:
        """The edge of the tree that ``newest`` signed. Raises CheckpointConflict if the database's tiles make another."""
        if newest is None:
            return RightEdge()
        if newest.time > self._clock.now() + MAX_CLOCK_SKEW:
            raise CheckpointConflict("The newest checkpoint is from the future.")
        try:
            edge = edge_within(newest.size, await self._trees.tiles(tenant, edge_tiles(newest.size)))
        except ValueError:
            raise CheckpointConflict("The database's audit tree is damaged.") from None
        if edge.root.hex() != newest.root:
            raise CheckpointConflict("The database's audit tree is not the one that was signed.")
        return edge

    async def _verify_growth(self, made: Checkpoint, tenant: str, newest: Checkpoint | None, edge: RightEdge) -> None:
        """Raises CheckpointConflict unless ``made`` follows ``newest``, whose tree ``edge`` is, in all that it says."""
        previous = first_previous(tenant) if newest is None else newest.hash
        if made.tenant != tenant or made.previous != previous:
            raise CheckpointConflict("The checkpoint on record does not follow the newest that is stored.")
        if made.time > self._clock.now() + MAX_CLOCK_SKEW or (newest is not None and made.time <= newest.time):
            raise CheckpointConflict("The checkpoint on record has a time that no clock gave it.")
        while edge.size < made.size:
            up_to = min(made.size, edge.size - edge.size % LEAVES_AT_ONCE + LEAVES_AT_ONCE)
            tiles = await self._trees.tiles(tenant, leaf_tiles(edge.size, up_to))
            try:
                leaves = leaves_within(edge.size, up_to, tiles)
            except ValueError:
                raise CheckpointConflict("The database's audit tree is damaged.") from None
            for leaf in leaves:
                edge.add(leaf)
        if edge.size != made.size or edge.root.hex() != made.root:
            raise CheckpointConflict("The checkpoint on record is not over the tree that grew out of what was signed.")

    async def _stored_copy(self, made: Checkpoint) -> SignedCheckpoint | None:
        """The store's own copy of ``made``; None if it has another, or none."""
        kept = await self._load_stored(made.tenant, made.size)
        return kept if kept is not None and kept.checkpoint == made else None

    async def _load_stored(self, tenant: str, size: int) -> SignedCheckpoint | None:
        return await load_stored(self._store, self._signer, self._verifies, tenant, size)

    async def _backfill_leaves(self, tree: AuditTree) -> None:
        """Leaves for entries that were chained before there were trees. Raises CheckpointConflict where they don't follow."""
        check = ChainCheck(ChainHead(tree.tenant, tree.size, tree.last_hash))
        page: list[ChainEntry] = []
        while check.head.seq < tree.missing_to:
            after = check.head.seq
            up_to = min(after + PAGE, tree.missing_to)
            page = [entry for entry in await self._pending.first(tree.tenant, PAGE, after) if entry.seq <= up_to]
            if not page or page[0].seq != after + 1:
                async with aclosing(self._history.entries(tree.tenant, after, up_to)) as entries:
                    page = [stored.entry async for stored in entries]
            for entry in page:
                check.add(entry)
            if not page or check.fault is not None:
                raise CheckpointConflict("The audit log does not follow from what was signed, or has gaps.")
            await self._trees.add(page)
