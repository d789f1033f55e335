"""The form of our receipts: compact JSON Web Signatures (RFC 7515) with Ed25519 (RFC 8037).

Header: ``{"alg":"EdDSA","kid":"<key id>","typ":"<type>"}``; header and payload are canonical JSON. What is signed begins with ``e``
(the header in base64url), which no checkpoint does: a receipt's signature can't pass for a checkpoint's, nor one type for another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from domain.shared.encoding import canonical, of_base64url, to_base64url

MEDIA_TYPE: Final = "application/jose"


def signing_input(typ: str, payload: Mapping[str, Any], key_id: str) -> bytes:
    """The bytes that the signature is over."""
    header = canonical({"alg": "EdDSA", "kid": key_id, "typ": typ})
    return f"{to_base64url(header)}.{to_base64url(canonical(payload))}".encode()


def compact(signed_input: bytes, signature: bytes) -> str:
    """The whole."""
    return f"{signed_input.decode()}.{to_base64url(signature)}"


def payload_of(text: str) -> dict[str, Any]:
    """What one of ours says; the signature is not verified here. Raises ValueError."""
    _, payload, _ = text.split(".")
    fields = json.loads(of_base64url(payload))
    if not isinstance(fields, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the text is wrong, not a caller's type
    return fields
