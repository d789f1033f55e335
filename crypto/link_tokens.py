"""What is handed out for a link: its ids and its end, under a MAC that only this site can make.

Form: ``l1.<key id>.<base64url(link id 16 | document id 16 | end u64 | MAC 32)>``, the end in Unix seconds; MAC = HMAC-SHA256(key,
"dpj-link-v1" | key id | the 40 bytes before it). Key file: text, mode 0600, one key per line, each base64url of 32 bytes; the first signs,
all verify, so that a new key is put before the old one, which goes once its last link has expired. Key id = the first 8 hex
digits of HMAC-SHA256(key, "dpj-link-key-id").
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self
from uuid import UUID

from crypto.encoding import from_text, key_id, to_text
from crypto.key_files import read_keys
from domain.links import DocumentLink, SignedLink
from domain.refusals import LinkNotFound

VERSION: Final = "l1"
KIND: Final = "dpj-link"
MAX_TOKEN: Final = 128
_PAYLOAD: Final = struct.Struct(">16s16sQ")
_MAC_BYTES: Final = 32


class LinkSigner:
    """The LinkTokens port. ``keys`` of 32 bytes, the current one first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {key_id(KIND, key): key for key in keys}
        self._current = key_id(KIND, keys[0])

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Raises KeyringUnavailable if the file can't be read, is open to others, or holds no such keys."""
        return cls(read_keys(path))

    def sign(self, link: DocumentLink) -> str:
        end = int(link.expires_at.timestamp())
        payload = _PAYLOAD.pack(link.id.bytes, link.document_id.bytes, end)
        return f"{VERSION}.{self._current}.{to_text(payload + self._mac(self._current, payload))}"

    def verify(self, token: str) -> SignedLink:
        """What the token says. Raises LinkNotFound: not signed with one of the keys."""
        version, _, rest = token.partition(".")
        name, _, body = rest.partition(".")
        if len(token) > MAX_TOKEN or version != VERSION or name not in self._keys:
            raise LinkNotFound
        try:
            raw = from_text(body)
        except ValueError:
            raise LinkNotFound from None
        if to_text(raw) != body:  # padded: a link has one spelling
            raise LinkNotFound
        payload, mac = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
        if len(raw) != _PAYLOAD.size + _MAC_BYTES or not hmac.compare_digest(mac, self._mac(name, payload)):
            raise LinkNotFound
        link_id, document_id, end = _PAYLOAD.unpack(payload)
        return SignedLink(UUID(bytes=link_id), UUID(bytes=document_id), datetime.fromtimestamp(end, UTC))

    def _mac(self, name: str, payload: bytes) -> bytes:
        return hmac.digest(self._keys[name], b"dpj-link-v1" + name.encode() + payload, "sha256")
