"""docs/ENVELOPE.md, "Common forms"."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12
TAG = 16


class Refused(Exception):
    """The bytes are not what the page says that they are."""


def fields(*texts: str | int) -> bytes:
    raws = [str(text).encode() for text in texts]
    return b"".join(len(raw).to_bytes(2, "big") + raw for raw in raws)


def of_base64url(text: str) -> bytes:
    """Raises Refused for padding, foreign letters, or unused bits that are not zero."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raise Refused("not base64url") from None
    if base64url(raw) != text:
        raise Refused("not base64url")
    return raw


def of_padded(text: str) -> bytes:
    """As it may stand in a key file."""
    return of_base64url(text.rstrip("="))


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def canonical(value: Any) -> bytes:
    """Spelt out, so that the page's words are tested and not Python's ``json``. Raises Refused for what has no canonical form."""
    return _canonical(value).encode()


def _canonical(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return '"' + "".join(_ESCAPES.get(one) or _letter(one) for one in value) + '"'
        case list():
            return "[" + ",".join(map(_canonical, value)) + "]"
        case dict():
            return "{" + ",".join(f"{_canonical(name)}:{_canonical(value[name])}" for name in sorted(value)) + "}"
    raise Refused("it has no canonical form")


def _letter(one: str) -> str:
    return f"\\u{ord(one):04x}" if one < " " else one


def of_canonical(raw: bytes) -> dict[str, Any]:
    """The object that ``raw`` is. Raises Refused for any other spelling of it."""
    try:
        value = json.loads(raw)
    except ValueError:
        raise Refused("not JSON") from None
    if not isinstance(value, dict) or canonical(value) != raw:
        raise Refused("not a canonical object")
    return value


def aead_open(key: bytes, raw: bytes, associated: bytes) -> bytes:
    """``raw``: nonce, ciphertext, tag. Raises Refused."""
    if len(raw) < NONCE + TAG:
        raise Refused("too short")
    try:
        return AESGCM(key).decrypt(raw[:NONCE], raw[NONCE:], associated)
    except InvalidTag:
        raise Refused("a tag fails") from None
