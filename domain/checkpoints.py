"""Signed checkpoints of a tenant's audit chain: what the log was, said at a time when nobody knew what would be worth hiding.

A checkpoint's *body* is canonical JSON (sorted keys, no spaces, UTF-8) and its hash the SHA-256 of those bytes:

    {"previous":"<hash of the checkpoint before>","root":"<RFC 6962 root of the first size entries>","size":4711,
     "tenant":"acme","time":"2026-05-04T03:02:01.000000+00:00","type":"dpj-audit-checkpoint","v":1}

Hashes are lower-case hex. The first one's ``previous`` is the SHA-256 of ``dpj-audit-checkpoints|1|`` and the tenant's name. Its
*file* is canonical JSON too, and a line end: ``checkpoint`` (the body as text), ``key`` (the id of the Ed25519 key, its RFC 7638
thumbprint), ``signature`` (of the body's bytes, RFC 8032, base64url without padding). What is signed begins with ``{``, which no JWS
signing input does: a receipt's signature can't pass for a checkpoint's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from domain.merkle import RightEdge
from domain.shared.encoding import canonical, of_base64url, to_base64url

FORMAT: Final = 1
TYPE: Final = "dpj-audit-checkpoint"
SIGNATURE_BYTES: Final = 64
PUBLIC_KEY_BYTES: Final = 32
#: A checkpoint's file has some 500 bytes.
MAX_FILE_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key. ``id`` is its RFC 7638 thumbprint; ``raw`` its 32 bytes."""

    id: str
    raw: bytes

    @property
    def jwk(self) -> dict[str, str]:
        """As RFC 8037 writes it."""
        return {
            "alg": "EdDSA",
            "crv": "Ed25519",
            "kid": self.id,
            "kty": "OKP",
            "use": "sig",
            "x": to_base64url(self.raw),
        }


def public_key(raw: bytes) -> PublicKey:
    """Raises ValueError unless ``raw`` has 32 bytes."""
    if len(raw) != PUBLIC_KEY_BYTES:
        raise ValueError("an Ed25519 public key has 32 bytes")
    named = canonical({"crv": "Ed25519", "kty": "OKP", "x": to_base64url(raw)})
    return PublicKey(to_base64url(hashlib.sha256(named).digest()), raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """How far a tenant's chain is: its ``entries``, and how many of them the newest signed checkpoint covers, taken at ``signed_at``."""

    tenant: str
    entries: int
    signed: int
    signed_at: datetime | None
    key_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The first ``size`` entries of ``tenant`` have the Merkle root ``root``; ``previous`` is the hash of the one before."""

    tenant: str
    size: int
    root: str
    time: datetime
    previous: str

    @property
    def body(self) -> bytes:
        """What is signed."""
        return canonical(
            {
                "v": FORMAT,
                "type": TYPE,
                "tenant": self.tenant,
                "size": self.size,
                "root": self.root,
                "time": self.time.astimezone(UTC).isoformat(timespec="microseconds"),
                "previous": self.previous,
            }
        )

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint, the key's id and its signature of the body."""

    checkpoint: Checkpoint
    key_id: str
    signature: bytes = field(repr=False)

    @property
    def document(self) -> dict[str, str]:
        """What its file says."""
        return {
            "checkpoint": self.checkpoint.body.decode(),
            "key": self.key_id,
            "signature": to_base64url(self.signature),
        }

    @property
    def content(self) -> bytes:
        """Its file."""
        return canonical(self.document) + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTree:
    """A tenant's Merkle tree as the database has it, at the size of its latest checkpoint; size 0 and None before the first.

    ``edge`` and ``last_hash`` (of the last entry) belong to that size. ``signed`` is None while the latest is not known to be in the
    checkpoint store. ``missing_to``: entries above ``size`` up to this number have no leaf here yet; below ``size``, none lack it.
    ``head`` is the number of the chain's last entry. ``before`` is the size of the checkpoint before the latest, 0 if there is none.
    """

    tenant: str
    edge: RightEdge
    last_hash: str
    latest: Checkpoint | None
    signed: SignedCheckpoint | None
    missing_to: int
    head: int
    before: int = 0

    @property
    def size(self) -> int:
        return self.edge.size


def next_checkpoint(tree: AuditTree, edge: RightEdge, at: datetime) -> Checkpoint:
    """The one that follows ``tree``'s latest, of the tree that has grown to ``edge``."""
    previous = first_previous(tree.tenant) if tree.latest is None else tree.latest.hash
    return Checkpoint(tenant=tree.tenant, size=edge.size, root=edge.root.hex(), time=at, previous=previous)


def first_previous(tenant: str) -> str:
    """What the first checkpoint names as the one before; it differs per tenant, so that none can pass for another's."""
    return hashlib.sha256(f"dpj-audit-checkpoints|{FORMAT}|{tenant}".encode()).hexdigest()


def checkpoint_of(body: bytes) -> Checkpoint:
    """Raises ValueError unless ``body`` is exactly a checkpoint's canonical bytes."""
    try:
        fields = json.loads(body)
        found = Checkpoint(
            tenant=fields["tenant"],
            size=fields["size"],
            root=fields["root"],
            time=datetime.fromisoformat(fields["time"]),
            previous=fields["previous"],
        )
        if type(found.size) is int and found.size > 0 and found.body == body:
            return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError("not a checkpoint")


def signed_checkpoint_of(content: bytes) -> SignedCheckpoint:
    """Raises ValueError unless ``content`` is exactly a checkpoint's file. The signature is not verified here."""
    try:
        fields = json.loads(content)
        found = SignedCheckpoint(
            checkpoint=checkpoint_of(fields["checkpoint"].encode()),
            key_id=fields["key"],
            signature=of_base64url(fields["signature"]),
        )
        if len(found.signature) == SIGNATURE_BYTES and found.content == content:
            return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError("not a checkpoint's file")
