"""Where content lies, and what seals it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from domain.keys import DataKey, EncryptionContext, WrappedKey
from domain.objects import StoredObject, UnfinishedPut


class ObjectStore(Protocol):
    """Sealed objects by key. Raises ObjectStoreUnavailable (away) or ObjectMissing (the store answers: not there)."""

    async def put(self, key: str, data: AsyncIterable[bytes]) -> StoredObject:
        """Store a stream of unknown length in bounded memory; nothing is left or visible if ``data`` raises or we are cancelled."""
        ...

    async def stat(self, key: str) -> StoredObject: ...

    def read(
        self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None
    ) -> AsyncIterator[bytes]:
        """Bytes from ``start``; with ``etag``, ObjectMissing if the object is no longer that version."""
        ...

    async def delete(self, key: str) -> None:
        """Delete; an absent object is fine."""
        ...

    def list(self, prefix: str) -> AsyncIterator[StoredObject]: ...


class UnfinishedPuts(Protocol):
    """Puts that were begun and never ended. Raises ObjectStoreUnavailable."""

    def unfinished(self, key: str | None = None) -> AsyncIterator[UnfinishedPut]:
        """Those of ``key``; without it all that the store can tell of, which may be fewer than there are."""
        ...

    async def abort(self, put: UnfinishedPut) -> None:
        """Remove what was sent; its sender, if it lives, can't end it any more. One that is not there is fine."""
        ...


class EnvelopeStreams(Protocol):
    """Whole envelopes. Raises EnvelopeInvalid or WrongKey; releases no byte before its chunk's tag verifies."""

    def encrypt(
        self, key: DataKey, context: EncryptionContext, clear: AsyncIterable[bytes]
    ) -> AsyncIterator[bytes]: ...

    def decrypt(self, key: DataKey, context: EncryptionContext, sealed: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Clear bytes; the whole counts as valid only once the iterator has ended."""
        ...

    def sealed_size(self, clear_size: int) -> int: ...


class EnvelopeWindows(Protocol):
    """Parts of an envelope. Raises EnvelopeInvalid or WrongKey; releases no byte before its chunk's tag verifies."""

    @property
    def header_size(self) -> int: ...

    def window(self, clear_size: int, start: int, end: int) -> tuple[int, int]:
        """Offset and length, in the sealed object, of the chunks that hold clear bytes ``start`` (incl.) to ``end`` (excl.)."""
        ...

    def decrypt_window(
        self,
        key: DataKey,
        context: EncryptionContext,
        header: bytes,
        sealed: AsyncIterable[bytes],
        span: tuple[int, int, int],
    ) -> AsyncIterator[bytes]:
        """Clear bytes of ``span`` = (clear size, start, end) from the sealed bytes of its window."""
        ...


class Cipher(EnvelopeStreams, EnvelopeWindows, Protocol):
    """The envelope format."""


class Keyring(Protocol):
    """Wraps data keys under key-encryption keys, one per tenant. Raises KeyringUnavailable or WrongKey."""

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        """Raises TenantKeyMissing if nobody has created the key of the context's tenant."""
        ...

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey: ...

    async def check(self) -> None:
        """Raise KeyringUnavailable if the keyring can't serve now."""
        ...
