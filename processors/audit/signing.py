"""The key that signs checkpoints and receipts, and whether it was the one that did."""

from __future__ import annotations

from collections.abc import Callable

from domain.checkpoints import PublicKey, SignedCheckpoint
from processors.ports.signing import Signer

#: Whether a signature of a message holds under a key.
VerifySignature = Callable[[PublicKey, bytes, bytes], bool]


async def is_ours(signer: Signer, verifies: VerifySignature, signed: SignedCheckpoint) -> bool:
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
