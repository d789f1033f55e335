"""Keyring in a file, for sites without Vault: the embedded default.

The file (UTF-8 JSON, mode 0600; a file that group or others may read is refused):

    {
      "format": "dpj-keyring-1",
      "name": "local-5f0c1d2e",             the keyring's name, in every wrapped key
      "current": 1,                         the version that wraps
      "keys": {"1": "<32 bytes, base64url>"}    versions that unwrap
    }

Rotation adds a version and points ``current`` to it; old versions stay as long as a wrapped key names them. Another process
that meets a version it doesn't know reads the file again. ``LocalKeyring.create(path)`` writes a first one.

Wrapping is AES-256-GCM: ``ciphertext`` = base64url(nonce 12 | encrypted key 32 | tag 16); associated data = u16-length-prefixed
UTF-8 of ``dpj-local-wrap-1``, scheme, name, version, tenant, document id, role. Nonces are random: one version is good for
2^32 documents.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.encoding import from_text, length_prefixed, to_text
from crypto.key_files import create_key_file, read_key_file, refused
from domain.errors import KeyringUnavailable, WrongKey
from domain.keys import DATA_KEY_BYTES, DataKey, EncryptionContext, WrappedKey

SCHEME = "local-aes-256-gcm"
FORMAT = "dpj-keyring-1"
WRAP_LABEL = "dpj-local-wrap-1"
KEK_BYTES = 32
NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class _Keys:
    """The file's content. ``by_version`` holds the key-encryption keys, 32 bytes each."""

    name: str
    current: int
    by_version: dict[int, bytes] = field(repr=False)


class LocalKeyring:
    """The Keyring port over a key file, which is read when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: _Keys | None = None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Write a new keyring with one random key. Raises FileExistsError."""
        content = {
            "format": FORMAT,
            "name": f"local-{os.urandom(4).hex()}",
            "current": 1,
            "keys": {"1": to_text(os.urandom(KEK_BYTES))},
        }
        create_key_file(path, json.dumps(content, indent=2).encode() + b"\n")
        return cls(path)

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        """A random data key, and it wrapped for ``context``. Raises KeyringUnavailable if the file can't be used."""
        keys = self._loaded()
        key = DataKey(os.urandom(DATA_KEY_BYTES))
        nonce = os.urandom(NONCE_BYTES)
        bound = _associated(keys.name, keys.current, context)
        sealed = AESGCM(keys.by_version[keys.current]).encrypt(nonce, key.secret, bound)
        return key, WrappedKey(SCHEME, keys.name, keys.current, to_text(nonce + sealed))

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        """Raises WrongKey (altered, or of another context), or KeyringUnavailable if this file lacks the key that it names."""
        kek = self._key_for(wrapped)
        try:
            raw = from_text(wrapped.ciphertext)
            bound = _associated(wrapped.key_name, wrapped.key_version, context)
            secret = AESGCM(kek).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound)
            return DataKey(secret)
        except (ValueError, InvalidTag):
            raise WrongKey("The wrapped key does not open for this document.") from None

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

    def _key_for(self, wrapped: WrappedKey) -> bytes:
        if wrapped.scheme != SCHEME:
            raise KeyringUnavailable("The key was wrapped by a keyring of another kind.", outage=False)
        keys = self._loaded()
        if wrapped.key_version not in keys.by_version:
            keys = self._keys = _read(self._path)
        if wrapped.key_name != keys.name or wrapped.key_version not in keys.by_version:
            raise KeyringUnavailable("The keyring file lacks the key that is asked for.", outage=False)
        return keys.by_version[wrapped.key_version]


def _associated(name: str, version: int, context: EncryptionContext) -> bytes:
    return length_prefixed(WRAP_LABEL, SCHEME, name, str(version), *context.fields())


def _read(path: Path) -> _Keys:
    """Raises KeyringUnavailable."""
    content = read_key_file(path)
    try:
        parsed = json.loads(content)
        keys = {int(version): from_text(key) for version, key in parsed["keys"].items()}
        found = _Keys(str(parsed["name"]), int(parsed["current"]), keys)
        sound = parsed["format"] == FORMAT and found.current in keys and {len(k) for k in keys.values()} == {KEK_BYTES}
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise refused(path, "malformed")
    return found
