"""The key that signs checkpoints and receipts, and whether it was the one that did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from domain.checkpoints import PublicKey, SignedCheckpoint

#: Whether a signature of a message holds under a key.
Verifies = Callable[[PublicKey, bytes, bytes], bool]


class Signer(Protocol):
    """An Ed25519 key that stays where it is. Raises KeyringUnavailable."""

    async def current(self) -> PublicKey:
        """The key that signs now."""
        ...

    async def sign(self, message: bytes, key_id: str) -> bytes:
        """64 bytes; the same key and message always give the same."""
        ...

    async def public_keys(self) -> Sequence[PublicKey]:
        """Every key that ever signed, oldest first, as far as this process knows."""
        ...

    async def check(self) -> None:
        """Look at the keys anew."""
        ...


async def is_ours(signer: Signer, verifies: Verifies, signed: SignedCheckpoint) -> bool:
    """Whether one of our keys made this signature. Raises KeyringUnavailable.

    A key that is not known yet may be of a rotation that another process has seen before us: then the keys are read once more.
    """
    key = await _key(signer, signed.key_id)
    if key is None:
        await signer.check()
        key = await _key(signer, signed.key_id)
    return key is not None and verifies(key, signed.signature, signed.checkpoint.body)


async def _key(signer: Signer, key_id: str) -> PublicKey | None:
    return next((key for key in await signer.public_keys() if key.id == key_id), None)
