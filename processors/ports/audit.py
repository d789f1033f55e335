"""Where the audit log stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.audit_chain import ChainEntry, ChainHead
from domain.checkpoints import SignedCheckpoint
from domain.events import AuditRecorded


class AuditStore(Protocol):
    """Where audit entries stay. Raises AuditStoreUnavailable, or DatabaseUnavailable where they stay in the database."""

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        """Keep the entries of one tenant; those already there in the same bytes are fine.

        Raises AuditConflict if the store holds something else in their place.
        """
        ...


class HeldChain(Protocol):
    """A chain as the database has it."""

    @property
    def handed_over(self) -> ChainHead:
        """The last entry that the audit log has, by the database's word."""
        ...

    @property
    def pending(self) -> Sequence[ChainEntry]:
        """Those behind it, which wait for the log."""
        ...


class ChainRebuild(Protocol):
    """A tenant's chain in the database, made anew from the audit log inside one transaction."""

    async def hold(self, tenant: str) -> HeldChain:
        """Nobody else chains until the transaction ends. Raises AuditConflict if the rows are no chain."""
        ...

    async def clear(self, tenant: str, above: int) -> None:
        """Forget tree and checkpoints, what waits for the log, and the places of entries above that number."""
        ...

    async def extend(self, entries: Sequence[ChainEntry], *, above: int, in_tree: bool) -> None:
        """Entries that follow those before; places for those above that number. ``in_tree``: a checkpoint is still to cover them."""
        ...

    async def checkpoint(self, signed: SignedCheckpoint, last_hash: str) -> None:
        """Put a checkpoint on record that is over all that the tree has now. Raises CheckpointConflict if it is over something else."""
        ...

    async def finish(self, head: ChainHead, lines: Sequence[AuditRecorded]) -> None:
        """The chain ends at ``head``; ``lines`` are to be chained next, before all others that wait."""
        ...
