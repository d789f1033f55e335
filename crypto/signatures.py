"""Whether an Ed25519 signature holds."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from domain.checkpoints import PublicKey


def verifies(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """RFC 8032, pure Ed25519."""
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
