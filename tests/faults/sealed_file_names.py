"""Opens file names of rows, from docs/ARCHITECTURE.md alone: no part of the product takes part in it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def fields(*texts: str) -> bytes:
    return b"".join(struct.pack(">H", len(text.encode())) + text.encode() for text in texts)


def column_keys(path: Path) -> dict[str, bytes]:
    """The keys of a file, by their ids."""
    keys = [base64.urlsafe_b64decode(line + "=" * (-len(line) % 4)) for line in path.read_text("ascii").split()]
    return {hmac.new(key, b"dpj-column-key-id", hashlib.sha256).hexdigest()[:8]: key for key in keys}


def file_name(keys: dict[str, bytes], row: Sequence[str | None]) -> str:
    """``row``: id, tenant, nom_original, cle_personnelle. Raises KeyError or InvalidTag: a finding in itself."""
    document, tenant, held, key = (text or "" for text in row)
    if not key:
        return held
    version, name, body = held.split(".")
    opening = hmac.new(keys[key], fields("dpj-column-2", tenant, document), hashlib.sha256).digest()
    raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    bound = fields(version, name, tenant, document, "file_name")
    return AESGCM(opening).decrypt(raw[:12], raw[12:], bound).decode()
