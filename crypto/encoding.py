"""Texts to bytes, so that two lists of texts never give the same bytes; and the text forms of secrets and seals."""

from __future__ import annotations

import base64
import binascii
import hmac
import struct


def length_prefixed(*texts: str) -> bytes:
    """Each text as its length in UTF-8 bytes (u16, big-endian) and those bytes."""
    return b"".join(struct.pack(">H", len(raw)) + raw for raw in (text.encode() for text in texts))


def to_text(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def from_text(text: str) -> bytes:
    """base64url, padded or not. Raises ValueError for anything else."""
    try:
        raw = text.rstrip("=").encode("ascii")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ValueError("not base64url") from None


def key_id(kind: str, key: bytes) -> str:
    """What names a key of that kind ("dpj-personal", say) without giving it: 8 hex digits."""
    return hmac.digest(key, f"{kind}-key-id".encode(), "sha256").hex()[:8]
