"""Key types. A secret key and a wrapped one are different types, so that neither can stand where the other belongs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from domain.audit_chain import SYSTEM_TENANT
from domain.refusals import TenantInvalid

DATA_KEY_BYTES = 32
#: Tenants that one operator can be bound to: each of his lists of documents asks for every one's.
MAX_BOUND_TENANTS: Final = 100

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


def is_tenant(name: str) -> bool:
    """Whether a tenant may be called so: such a name is safe in the name of a key and in a path."""
    return _TENANT.fullmatch(name) is not None


def check_tenant_name(name: str) -> None:
    """Raises TenantInvalid."""
    if not is_tenant(name):
        raise TenantInvalid("A tenant has 1 to 63 letters, digits, '.', '_' and '-', the first a letter or digit.")


def is_reserved(name: str) -> bool:
    """Whether the name is the site's own, however its letters are written: its audit chain has what concerns no tenant."""
    return name.casefold() == SYSTEM_TENANT


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


class DataKey:
    """A document's secret key: 32 random bytes, never stored, printed or sent.

    It lives for one operation, whose end wipes it (``with key:``). What the bytes were copied into on the way (base64 texts,
    HMAC results, a library's own state) Python can't wipe: that goes with its last reference.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes | bytearray) -> None:
        """A bytearray is taken over, not copied. Raises ValueError for any other length."""
        if len(secret) != DATA_KEY_BYTES:
            raise ValueError("a data key has 32 bytes")
        self._secret: bytearray | None = secret if isinstance(secret, bytearray) else bytearray(secret)

    @property
    def secret(self) -> bytearray:
        """The key itself. Raises RuntimeError once it is wiped: zeros would encrypt too."""
        if self._secret is None:
            raise RuntimeError("the data key is wiped")
        return self._secret

    def wipe(self) -> None:
        """Overwrite the bytes. Safe to repeat."""
        if self._secret is not None:
            wipe(self._secret)
            self._secret = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataKey) and self._secret == other._secret

    def __hash__(self) -> int:
        raise TypeError("what may be wiped is no key of a dictionary")

    def __repr__(self) -> str:
        return "DataKey()"


def wipe(buffer: bytearray) -> None:
    """Overwrite a secret's bytes where they lie."""
    buffer[:] = bytes(len(buffer))


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
