"""What an identity provider publishes about a signing key, made without the product's own code."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm


def public_jwks(private_key_pem_path: Path) -> dict[str, Any]:
    """The JWK Set (RFC 7517) of one key; its id is the key's thumbprint (RFC 7638)."""
    key = load_pem_private_key(private_key_pem_path.read_bytes(), password=None)
    if isinstance(key, RSAPrivateKey):
        algorithm, public = "RS256", RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, EllipticCurvePrivateKey):
        algorithm, public = "ES256", ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        assert isinstance(key, Ed25519PrivateKey)
        algorithm, public = "EdDSA", OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    required = {name: public[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in public}
    digest = hashlib.sha256(json.dumps(required, sort_keys=True, separators=(",", ":")).encode()).digest()
    return {
        "keys": [{**required, "kid": urlsafe_b64encode(digest).decode().rstrip("="), "alg": algorithm, "use": "sig"}]
    }
