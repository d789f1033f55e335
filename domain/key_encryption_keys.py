"""What there is to know of key-encryption keys: their versions, what is wrapped under each, and the canaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.keys import EncryptionContext, WrappedKey

#: No document has this id: it is in the context of canaries.
NO_DOCUMENT = UUID(int=0)


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key-encryption key as its keyring tells of it. ``tenant`` is None for the single key of sites that had no others.

    ``versions``: those that it can still unwrap with, and when each was made (None: not known).
    """

    tenant: str | None
    scheme: str
    name: str
    versions: Mapping[int, datetime | None]
    latest: int
    min_decryption: int


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How many documents' keys of a tenant are wrapped under one version of a key."""

    scheme: str
    name: str
    version: int
    tenant: str
    documents: int


@dataclass(frozen=True, slots=True)
class StoredWrappedKey:
    """A document's wrapped key as it is kept."""

    document_id: UUID
    tenant: str
    wrapped: WrappedKey

    @property
    def context(self) -> EncryptionContext:
        """What the key is bound to."""
        return EncryptionContext(self.tenant, self.document_id)


@dataclass(frozen=True, slots=True)
class Canary:
    """A wrapped key of no document. ``tenant`` is None for the canaries of the single key."""

    tenant: str | None
    wrapped: WrappedKey

    @property
    def context(self) -> EncryptionContext:
        """What the canary is bound to."""
        return canary_context(self.tenant)


def canary_context(tenant: str | None) -> EncryptionContext:
    """Of the canaries of a tenant's key, or of the single key."""
    return EncryptionContext("keyring-canary" if tenant is None else tenant, NO_DOCUMENT, "canary")
