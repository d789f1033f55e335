"""The audit trees in memory, a signer and a checkpoint store that can misbehave, and a site made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain.audit_chain import ChainEntry, genesis
from domain.checkpoints import AuditTree, Checkpoint, PublicKey, SignedCheckpoint, next_checkpoint, public_key
from domain.errors import CheckpointStoreUnavailable, DocumentBusy, KeyringUnavailable
from domain.merkle import RightEdge, TileId, grown, leaf_hash, unfinished_tiles
from domain.receipts import ArchivingEntry, InclusionProof, archiving_entry_of


@dataclass
class MemoryTree:
    """One tenant's rows."""

    leaves: dict[int, list[ChainEntry]] = field(default_factory=dict)
    size: int = 0
    edge: list[bytes] = field(default_factory=list)
    last_hash: str = ""
    tiles: dict[TileId, bytes] = field(default_factory=dict)
    made: list[Checkpoint] = field(default_factory=list)
    signed: dict[int, SignedCheckpoint] = field(default_factory=dict)
    head: int = 0


@dataclass
class MemoryAuditTrees:
    """See ``processors.audit.checkpoints.AuditTrees`` and ``processors.audit.receipts.InclusionProofs``."""

    trees: dict[str, MemoryTree] = field(default_factory=dict)
    archivings: dict[UUID, ArchivingEntry] = field(default_factory=dict)

    def of(self, tenant: str) -> MemoryTree:
        return self.trees.setdefault(tenant, MemoryTree())

    def chained(self, entries: Sequence[ChainEntry], *, with_leaves: bool = True) -> None:
        """What the chainer leaves here; without leaves: what one did that knew of no trees."""
        tree = self.of(entries[0].tenant)
        tree.head = entries[-1].seq
        if with_leaves:
            self._keep(entries)

    async def due(self, entries: int, before: datetime, ahead: datetime) -> Sequence[str]:
        found = []
        for tenant, tree in sorted(self.trees.items()):
            new, latest = tree.head - tree.size, tree.made[-1] if tree.made else None
            unfinished = latest is not None and latest.size not in tree.signed
            forged = new < 0 or (tree.size and latest is None) or (latest is not None and latest.time > ahead)
            if unfinished or forged or (new > 0 and (latest is None or latest.time <= before or new >= entries)):
                found.append(tenant)
        return found

    async def tree(self, tenant: str) -> AuditTree:
        tree = self.of(tenant)
        following = [first for first in tree.leaves if first > tree.size]
        return AuditTree(
            tenant=tenant,
            edge=RightEdge(tree.size, tree.edge),
            last_hash=tree.last_hash or genesis(tenant).hash,
            latest=tree.made[-1] if tree.made else None,
            signed=tree.signed.get(tree.size),
            missing_to=min(following) - 1 if following else tree.head,
            head=tree.head,
            before=max((made.size for made in tree.made if made.size < tree.size), default=0),
        )

    async def tiles(self, tenant: str, needed: Sequence[TileId]) -> Mapping[TileId, bytes]:
        tree = self.of(tenant)
        return {tile: tree.tiles[tile] for tile in needed if tile in tree.tiles}

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        self._keep(entries)

    async def record_next(self, tenant: str, size: int, at: datetime) -> Checkpoint | None:
        tree = self.of(tenant)
        if tree.size != size:
            raise DocumentBusy
        entries: list[ChainEntry] = []
        while size + len(entries) + 1 in tree.leaves:
            entries += tree.leaves.pop(size + len(entries) + 1)
        if not entries:
            return None
        before = await self.tree(tenant)
        leaves = [leaf_hash(entry.body) for entry in entries]
        tree.tiles |= grown(size, {tile: tree.tiles[tile] for tile in unfinished_tiles(size)}, leaves)
        for leaf in leaves:
            before.edge.add(leaf)
        made = next_checkpoint(before, before.edge, at)
        tree.size, tree.edge, tree.last_hash = made.size, before.edge.hashes, entries[-1].hash
        tree.made.append(made)
        return made

    async def record_signed(self, signed: SignedCheckpoint) -> None:
        self.of(signed.checkpoint.tenant).signed.setdefault(signed.checkpoint.size, signed)

    async def archiving(self, document_id: UUID) -> ArchivingEntry | None:
        return self.archivings.get(document_id)

    async def inclusion(self, archiving: ArchivingEntry) -> InclusionProof | None:
        tree = self.of(archiving.tenant)
        covering = [size for size in tree.signed if size >= archiving.seq]
        return InclusionProof.of_tiles(archiving, tree.signed[min(covering)], tree.tiles) if covering else None

    def _keep(self, entries: Sequence[ChainEntry]) -> None:
        self.of(entries[0].tenant).leaves.setdefault(entries[0].seq, list(entries))
        for entry in entries:
            if (found := archiving_entry_of(entry)) is not None:
                self.archivings.setdefault(found.document_id, found)


class MemorySigner:
    """``away`` counts the coming calls of ``sign`` that fail."""

    def __init__(self, seed: int = 1) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = public_key(self.private.public_key().public_bytes_raw())
        self.away = 0
        self.signed: list[bytes] = []

    async def current(self) -> PublicKey:
        return self.public

    async def sign(self, message: bytes, key_id: str) -> bytes:
        if self.away:
            self.away -= 1
            raise KeyringUnavailable
        assert key_id == self.public.id
        self.signed.append(message)
        return self.private.sign(message)

    async def public_keys(self) -> Sequence[PublicKey]:
        return [self.public]

    async def check(self) -> None: ...


@dataclass
class MemoryCheckpointStore:
    """Keeps all that is put, as a bucket with versions does. ``away`` counts the coming calls of ``put`` that fail, ``silent``
    those that keep what they are given and fail all the same."""

    kept: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)
    away: int = 0
    silent: int = 0

    async def put(self, tenant: str, size: int, content: bytes) -> None:
        if self.away:
            self.away -= 1
            raise CheckpointStoreUnavailable
        versions = self.kept.setdefault((tenant, size), [])
        if content not in versions:
            versions.append(content)
        if self.silent:
            self.silent -= 1
            raise CheckpointStoreUnavailable

    async def sizes(self, tenant: str, first: int, limit: int) -> Sequence[int]:
        return sorted(size for owner, size in self.kept if owner == tenant and size >= first)[:limit]

    async def tenants(self) -> Sequence[str]:
        return sorted({tenant for tenant, _ in self.kept})

    async def contents(self, tenant: str, size: int) -> Sequence[bytes]:
        return list(self.kept.get((tenant, size), []))


class MemoryLocks:
    """Whoever asks gets the lock, unless its name is in ``held``."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def lock(self, name: str) -> AbstractAsyncContextManager[object]:
        return _Lock(self.held, name)


class _Lock(AbstractAsyncContextManager[object]):
    def __init__(self, held: set[str], name: str) -> None:
        self._held, self._name = held, name

    async def __aenter__(self) -> object:
        if self._name in self._held:
            raise DocumentBusy
        return self

    async def __aexit__(self, *_: object) -> None: ...
