"""Signing key in a file, for sites without Vault: the embedded default.

The file (UTF-8 JSON, mode 0600; a file that group or others may read is refused):

    {
      "format": "dpj-signing-1",
      "current": 1,                             the version that signs
      "keys": {"1": "<seed, 32 bytes, base64url>"}    Ed25519 private keys (RFC 8032)
    }

Rotation adds a version and points ``current`` to it; old versions stay, because their public halves verify what they signed.
``LocalSigner.create(path)`` writes a first one. Who reads this file can sign whatever it likes: that is what Vault is for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from crypto.encoding import from_text, to_text
from crypto.key_files import create_key_file, read_key_file, refused
from domain.checkpoints import PublicKey, public_key
from domain.errors import KeyringUnavailable

FORMAT = "dpj-signing-1"
SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Keys:
    """The file's content, oldest version first."""

    current: PublicKey
    public: tuple[PublicKey, ...]
    private: dict[str, Ed25519PrivateKey] = field(repr=False)


class LocalSigner:
    """The Signer port over a key file, which is read when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: _Keys | None = None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Write a new file with one random key. Raises FileExistsError."""
        content = {"format": FORMAT, "current": 1, "keys": {"1": to_text(os.urandom(SEED_BYTES))}}
        create_key_file(path, json.dumps(content, indent=2).encode() + b"\n")
        return cls(path)

    async def current(self) -> PublicKey:
        """The key that signs now. Raises KeyringUnavailable if the file can't be used."""
        return self._loaded().current

    async def sign(self, message: bytes, key_id: str) -> bytes:
        """64 bytes. Raises KeyringUnavailable, also for a key that is not in the file."""
        private = self._loaded().private.get(key_id)
        if private is None:
            raise KeyringUnavailable("The signing key file lacks the key that is asked for.", outage=False)
        return private.sign(message)

    async def public_keys(self) -> Sequence[PublicKey]:
        """Oldest first. Raises KeyringUnavailable."""
        return self._loaded().public

    async def check(self) -> None:
        """Read the file anew. Raises KeyringUnavailable."""
        self._keys = _read(self._path)

    async def aclose(self) -> None:
        """Forget the keys."""
        self._keys = None

    def _loaded(self) -> _Keys:
        if self._keys is None:
            self._keys = _read(self._path)
        return self._keys


def _read(path: Path) -> _Keys:
    """Raises KeyringUnavailable."""
    content = read_key_file(path)
    try:
        parsed = json.loads(content)
        private = {
            int(version): Ed25519PrivateKey.from_private_bytes(from_text(seed))
            for version, seed in parsed["keys"].items()
        }
        public = {version: public_key(private[version].public_key().public_bytes_raw()) for version in sorted(private)}
        if parsed["format"] == FORMAT:
            by_id = {public[version].id: private[version] for version in public}
            return _Keys(public[int(parsed["current"])], tuple(public.values()), by_id)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise refused(path, "malformed")
