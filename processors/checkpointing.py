"""Audit checkpoints: now and then each tenant's chain is signed as it stands and told to a store that nobody can rewrite.

Numbered as in ``AuditCheckpointer._checkpoint``; a crash anywhere repeats a step, and never makes two checkpoints of one size:

1. compare: the database's tree must be what the store's last checkpoint signed, and the store have nothing beyond. So what is
   signed next grows out of what was, even if somebody rewrote the tables;
2. fix: leaves since then go into the tree, and the checkpoint over it on record, in one transaction. From here on it is decided;
3. sign it: Ed25519 is deterministic, again is the same;
4. store it under its size; one that is there already in the same body is it;
5. record that it is there.

Leaf hashes are written by the chainer in the transaction that chains (``processors.audit``). Entries that are older than the trees
have theirs made from the audit log first, each verified to follow the one before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from domain.audit_chain import ChainCheck, ChainEntry, ChainHead, StoredEntry
from domain.checkpoints import AuditTree, Checkpoint, PublicKey, SignedCheckpoint, signed_checkpoint_of
from domain.crash_points import reach
from domain.errors import CheckpointConflict
from processors.audit import Locks, Mover
from processors.ports import Clock

log = structlog.get_logger()

PAGE: Final = 1_000
#: Checkpoints that one tenant may take in a row while it has a backlog; then the others have their turn.
IN_A_ROW: Final = 16


class AuditTrees(Protocol):
    """The trees and their checkpoints, as the database has them. Raises DatabaseUnavailable."""

    async def due(self, entries: int, before: datetime) -> Sequence[str]:
        """Tenants with a checkpoint to finish, or with ``entries`` new entries, or with any and the latest taken ``before``."""
        ...

    async def tree(self, tenant: str) -> AuditTree:
        """Raises CheckpointConflict if the rows fit nothing that was written."""
        ...

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        """Leaves of entries that lack them; repeated, nothing changes."""
        ...

    async def fix(self, tenant: str, size: int, at: datetime) -> Checkpoint | None:
        """Step 2 from a tree of ``size``; None if no leaf follows. Raises DocumentBusy if the tree has another size."""
        ...

    async def finish(self, signed: SignedCheckpoint) -> None:
        """Step 5."""
        ...


class Signer(Protocol):
    """An Ed25519 key that stays where it is. Raises KeyringUnavailable."""

    async def current(self) -> PublicKey:
        """The key that signs now."""
        ...

    async def sign(self, message: bytes, key_id: str) -> bytes:
        """64 bytes; the same key and message always give the same."""
        ...

    async def public_keys(self) -> Sequence[PublicKey]:
        """Every key that ever signed, oldest first."""
        ...


class CheckpointStore(Protocol):
    """Where checkpoints stay and can't be rewritten, by tenant and size. Raises CheckpointStoreUnavailable."""

    async def put(self, tenant: str, size: int, content: bytes) -> None:
        """Keep it, durably, for good. One of that size that is there stays what it is, whatever it says."""
        ...

    async def sizes(self, tenant: str, first: int, limit: int) -> Sequence[int]:
        """The sizes kept, from ``first`` on, in order, at most ``limit``."""
        ...

    async def contents(self, tenant: str, size: int) -> Sequence[bytes]:
        """All that was ever put under that size and differs, oldest first: one, if all is well; none if there is none."""
        ...


class AuditHistory(Protocol):
    """The audit log. Raises AuditStoreUnavailable."""

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]: ...


class PendingHistory(Protocol):
    """Entries on their way to the audit log. Raises DatabaseUnavailable."""

    async def first(self, tenant: str, limit: int, after: int = 0) -> Sequence[ChainEntry]: ...


class AuditCheckpointer(Mover):
    """Takes checkpoints after ``entries`` new entries, or ``seconds`` after the last one if there is any new entry; one at a time
    is at a tenant, whichever process it runs in."""

    def __init__(
        self,
        trees: AuditTrees,
        signer: Signer,
        store: CheckpointStore,
        history: AuditHistory,
        pending: PendingHistory,
        locks: Locks,
        clock: Clock,
        *,
        entries: int,
        seconds: float,
    ) -> None:
        super().__init__("checkpoint", refused="audit_checkpoint_refused")
        self._trees = trees
        self._signer = signer
        self._store = store
        self._history = history
        self._pending = pending
        self._locks = locks
        self._clock = clock
        self._entries: Final = entries
        self._age: Final = timedelta(seconds=seconds)

    async def move(self) -> int:
        """Take what is due; gives how many entries were covered. Every tenant is tried; the first refusal is raised at the end."""
        due = await self._trees.due(self._entries, self._clock.now() - self._age)
        moved, refusal = await self._each(due, self._of_tenant)
        if refusal is not None:
            raise refusal
        return moved

    async def _of_tenant(self, tenant: str) -> int:
        covered = 0
        async with self._locks.lock(f"audit-checkpoint/{tenant}"):
            for _ in range(IN_A_ROW):
                more = await self._checkpoint(tenant)
                covered += more
                if more < self._entries:
                    break
        return covered

    async def _checkpoint(self, tenant: str) -> int:
        tree = await self._trees.tree(tenant)
        await self._compare(tree)  # 1
        made, before = tree.latest, tree.size
        if made is None or tree.signed is not None:
            if tree.missing_to > tree.size:
                await self._fill(tree)
            made = await self._trees.fix(tenant, tree.size, self._clock.now())  # 2
            if made is None:
                return 0
        reach("checkpoint.fixed")
        key = await self._signer.current()
        signature = await self._signer.sign(made.body, key.id)  # 3
        signed = SignedCheckpoint(checkpoint=made, key_id=key.id, signature=signature)
        await self._store.put(tenant, made.size, signed.content)  # 4
        reach("checkpoint.stored")
        kept = await self._kept(made)
        if kept is None:
            raise CheckpointConflict("The checkpoint store holds another checkpoint of this size.")
        await self._trees.finish(kept)  # 5
        log.info("audit_checkpoint_taken", tenant=tenant, size=made.size)
        return max(made.size - before, 1)

    async def _compare(self, tree: AuditTree) -> None:
        """Raises CheckpointConflict unless the tree is what the store's last checkpoint signed.

        Of the tree's own size the store may have nothing only if the last try did not get that far.
        """
        beyond = await self._store.sizes(tree.tenant, tree.size + 1, 1)
        if beyond:
            raise CheckpointConflict("The checkpoint store is ahead of the database: was that restored from before?")
        if tree.latest is None:
            return
        if tree.latest.size != tree.size or tree.latest.root != tree.edge.root.hex():
            raise CheckpointConflict("The database's audit tree is not the one of its checkpoint.")
        stored = await self._store.sizes(tree.tenant, tree.size, 1)
        if (stored or tree.signed is not None) and await self._kept(tree.latest) is None:
            raise CheckpointConflict("The checkpoint store holds another checkpoint, or none, of this size.")

    async def _kept(self, made: Checkpoint) -> SignedCheckpoint | None:
        """The store's own copy of ``made``; None if it has another, or none."""
        try:
            kept = [signed_checkpoint_of(one) for one in await self._store.contents(made.tenant, made.size)]
        except ValueError:
            return None
        return kept[0] if kept and all(one.checkpoint == made for one in kept) else None

    async def _fill(self, tree: AuditTree) -> None:
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
