"""Signing erasure receipts with an Ed25519 key in a file, for sites without Vault.

The file (mode 0600; a file that group or others may read is refused) holds the private key as PEM, PKCS #8; it is made when it is
first needed. Beside it, under the same name with ``.jwks.json`` added, stands the public half as a JSON Web Key Set (RFC 8037): what
those who check receipts are given. The key's id is its thumbprint (RFC 7638).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from crypto.encoding import to_text
from crypto.key_files import create_key_file, read_key_file, refused
from domain.erasure import Signature
from domain.errors import KeyringUnavailable


class LocalReceiptSigner:
    """The ReceiptSigner port over a key file, which is read, or made, when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: Ed25519PrivateKey | None = None

    async def sign(self, payload: bytes) -> Signature:
        """Raises KeyringUnavailable if the file can't be made, read or used."""
        if self._key is None:
            self._key = await asyncio.to_thread(_loaded, self._path)
        return Signature(key_id(self._key.public_key()), self._key.sign(payload))


class NoReceiptSigner:
    """Where no key was set: erasures wait until one is."""

    async def sign(self, _payload: bytes) -> Signature:
        """Raises KeyringUnavailable."""
        raise KeyringUnavailable("No key to sign receipts with is set.", outage=False)


def key_id(public: Ed25519PublicKey) -> str:
    """The thumbprint of a public key."""
    text = json.dumps(_thumbprinted(public), separators=(",", ":"), sort_keys=True)
    return to_text(hashlib.sha256(text.encode("ascii")).digest())


def key_set(public: Ed25519PublicKey) -> dict[str, Any]:
    """A public key as a JSON Web Key Set."""
    return {"keys": [{**_thumbprinted(public), "kid": key_id(public), "alg": "EdDSA", "use": "sig"}]}


def _thumbprinted(public: Ed25519PublicKey) -> dict[str, str]:
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": to_text(raw)}


def _loaded(path: Path) -> Ed25519PrivateKey:
    """The key of the file, which is made if there is none. Of several processes that make it, one is first."""
    if not path.exists():
        _create(path)
    content = read_key_file(path)
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError):
        raise refused(path, "malformed") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise refused(path, "not_ed25519")
    _publish(path.with_name(f"{path.name}.jwks.json"), key.public_key())
    return key


def _create(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # Whole under its name, or not at all: another process may look at any moment.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        create_key_file(beside, pem)
        with suppress(FileExistsError):
            os.link(beside, path)
        beside.unlink()
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise refused(path, type(error).__name__) from None


def _publish(path: Path, public: Ed25519PublicKey) -> None:
    """Write the public half, if it is not there: the process that made the key may have died before."""
    if path.exists():
        return
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        beside.write_text(json.dumps(key_set(public), indent=2) + "\n", "utf-8")
        beside.replace(path)
    except OSError as error:
        raise refused(path, type(error).__name__) from None
