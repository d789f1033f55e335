"""Checkpoints as they stay where nobody can rewrite them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.checkpoints import SignedCheckpoint, signed_checkpoint_of
from domain.errors import CheckpointConflict
from processors.audit.signing import VerifySignature, is_ours
from processors.ports.signing import Signer


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


async def load_stored(
    store: CheckpointStore, signer: Signer, verifies: VerifySignature, tenant: str, size: int
) -> SignedCheckpoint | None:
    """What the store has of that size; None if nothing. Raises CheckpointConflict for what is not one checkpoint that we signed."""
    try:
        found = [signed_checkpoint_of(content) for content in await store.contents(tenant, size)]
    except ValueError:
        raise CheckpointConflict("What the checkpoint store holds is no checkpoint.") from None
    for one in found:
        made = one.checkpoint
        if (made.tenant, made.size) != (tenant, size) or made != found[0].checkpoint:
            raise CheckpointConflict("The checkpoint store holds another checkpoint of this size.")
        if not await is_ours(signer, verifies, one):
            raise CheckpointConflict("The checkpoint store holds a checkpoint that no key of ours signed.")
    return found[0] if found else None
