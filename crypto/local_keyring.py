"""Keyring in a file (``crypto.local_key_file``), for sites without Vault: the embedded default.

Each tenant has a key-encryption key of its own, which ``dpj keys create`` makes: a name that was mistyped makes none. A rotation
adds a version, which wraps from then on; old versions unwrap as long as a wrapped key names them. The file is read again
whenever it was changed, by whomever.

Wrapping is AES-256-GCM: ``ciphertext`` = base64url(nonce 12 | encrypted key 32 | tag 16); associated data = u16-length-prefixed
UTF-8 of ``dpj-local-wrap-1``, scheme, name, version, tenant, document id, role. Nonces are random: one version is good for
2^32 documents.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto import local_key_file
from crypto.encoding import from_text, length_prefixed, to_text
from crypto.local_key_file import KeyFile
from domain.errors import KeyringUnavailable, TenantKeyMissing, WrongKey
from domain.keys import DATA_KEY_BYTES, DataKey, EncryptionContext, WrappedKey

SCHEME = "local-aes-256-gcm"
WRAP_LABEL = "dpj-local-wrap-1"
NONCE_BYTES = 12
TAG_BYTES = 16

log = structlog.get_logger()


class LocalKeyring:
    """The Keyring port over a key file, which is read when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: KeyFile | None = None
        self._read_as: tuple[int, int, int] | None = None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Write a new keyring that has no keys yet. Raises FileExistsError."""
        local_key_file.create(path)
        return cls(path)

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        """A random data key, and it wrapped for ``context``. Raises TenantKeyMissing, or KeyringUnavailable if the file can't be
        used."""
        key = DataKey(os.urandom(DATA_KEY_BYTES))
        return key, wrap(self._loaded(), key, context)

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        """Raises WrongKey (altered, or of another context), or KeyringUnavailable if this file lacks the key that it names."""
        return unwrap(self._loaded(), wrapped, context)

    async def check(self) -> None:
        """Read the file anew. Raises KeyringUnavailable."""
        self._read_as = None
        self._loaded()

    async def aclose(self) -> None:
        """Forget the keys."""
        if self._keys is not None:
            self._keys.wipe()
        self._keys = None

    def _loaded(self) -> KeyFile:
        marks = self._read_as  # without an answer, what was read is good until somebody asks for a check
        with suppress(OSError):
            found = self._path.stat()
            marks = (found.st_mtime_ns, found.st_ino, found.st_size)
        if self._keys is None or marks != self._read_as or marks is None:
            keys = local_key_file.read(self._path)
            if self._keys is not None:
                self._keys.wipe()
            self._keys, self._read_as = keys, marks
        return self._keys


def wrap(keys: KeyFile, key: DataKey, context: EncryptionContext) -> WrappedKey:
    """``key`` under the current version of the context's tenant's key. Raises TenantKeyMissing."""
    kek = keys.tenants.get(context.tenant)
    if kek is None:
        log.error("tenant_key_missing", tenant=context.tenant)
        raise TenantKeyMissing("Nobody has created a key for this tenant.")
    name, nonce = keys.name_of(context.tenant), os.urandom(NONCE_BYTES)
    bound = _associated(name, kek.current, context)
    sealed = AESGCM(kek.by_version[kek.current]).encrypt(nonce, key.secret, bound)
    return WrappedKey(SCHEME, name, kek.current, to_text(nonce + sealed))


def unwrap(keys: KeyFile, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
    """Raises WrongKey or KeyringUnavailable."""
    if wrapped.scheme != SCHEME:
        raise KeyringUnavailable("The key was wrapped by a keyring of another kind.", outage=False)
    kek = keys.named(wrapped.key_name)
    if kek is None or wrapped.key_version not in kek.by_version or wrapped.key_version < kek.floor:
        raise KeyringUnavailable("The keyring file lacks the key that is asked for.", outage=False)
    bound = _associated(wrapped.key_name, wrapped.key_version, context)
    secret = bytearray(DATA_KEY_BYTES)
    try:
        raw = from_text(wrapped.ciphertext)
        if len(raw) != NONCE_BYTES + DATA_KEY_BYTES + TAG_BYTES:
            raise ValueError("not a wrapped data key")
        AESGCM(kek.by_version[wrapped.key_version]).decrypt_into(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound, secret)
    except (ValueError, InvalidTag):
        raise WrongKey("The wrapped key does not open for this document.") from None
    return DataKey(secret)


def _associated(name: str, version: int, context: EncryptionContext) -> bytes:
    return length_prefixed(WRAP_LABEL, SCHEME, name, str(version), *context.fields())
