"""Key types. A secret key and a wrapped one are different types, so that neither can stand where the other belongs."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

DATA_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class EncryptionContext:
    """What an encryption is bound to: the same bytes can't be opened under another tenant, document or role.

    ``role`` is ``content`` for the document itself and ``thumbnail-256`` and the like for each rendition.
    """

    tenant: str
    document_id: UUID
    role: str = "content"

    def fields(self) -> tuple[str, str, str]:
        """The context as the ordered text fields that key derivation takes."""
        return (self.tenant, str(self.document_id), self.role)


@dataclass(frozen=True, slots=True)
class DataKey:
    """A document's secret key: 32 random bytes, never stored, printed or sent."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != DATA_KEY_BYTES:
            raise ValueError("a data key has 32 bytes")


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key under a key-encryption key; lives in PostgreSQL beside its document.

    ``scheme`` names the keyring that wrapped it (``vault-transit``, ``local-aes-256-gcm``), ``key_name`` and
    ``key_version`` the key-encryption key, ``ciphertext`` the wrapped bytes in the keyring's own text form.
    """

    scheme: str
    key_name: str
    key_version: int
    ciphertext: str
