"""Checking an erasure receipt with nothing but the receipt and the public keys: for whoever was given one."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class ReceiptInvalid(Exception):
    """The text says why the receipt proves nothing."""


def verify(answer: Mapping[str, Any], key_set: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the signed receipt says. ``answer`` is the API's, ``key_set`` a JSON Web Key Set (RFC 8037). Raises ReceiptInvalid."""
    try:
        payload, signature = _bytes(answer["payload"]), _bytes(answer["signature"])
        keys = {str(key["kid"]): key for key in key_set["keys"]}
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        raise ReceiptInvalid("the receipt or the key set is not one") from None
    key = keys.get(str(answer.get("key_id")))
    if key is None:
        raise ReceiptInvalid("the key that signed it is not among the trusted ones")
    try:
        Ed25519PublicKey.from_public_bytes(_bytes(key["x"])).verify(signature, payload)
        said: Mapping[str, Any] = json.loads(payload)
    except InvalidSignature:
        raise ReceiptInvalid("the signature is not of this receipt") from None
    except (KeyError, ValueError, binascii.Error):
        raise ReceiptInvalid("the receipt or the key set is not one") from None
    if answer.get("receipt") not in (None, said):
        raise ReceiptInvalid("the readable part is not what was signed")
    return said


def _bytes(text: str) -> bytes:
    """Raises ValueError unless it is base64url."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
