"""The key that signs checkpoints and receipts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.checkpoints import PublicKey


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
