"""A document's content between the object store and its clear bytes: every use case reads and writes through here.

PostgreSQL is the authority: the store's object must have the length that follows from the document's size there, and be
the version whose ETag was recorded; then the envelope's tags speak for every byte. A data key lives for one operation,
whose end wipes it, and is never kept between two.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable, AsyncIterator, Collection
from typing import NamedTuple

from domain.documents import Document, Rendition
from domain.errors import IntegrityMismatch
from domain.keys import DataKey, EncryptionContext, WrappedKey
from domain.objects import StoredObject
from domain.refusals import ContentNotAvailable
from processors.ports.content import Cipher, Keyring, ObjectStore
from processors.resilience.closing_streams import closing_stream


class _Sealed(NamedTuple):
    """What PostgreSQL knows of one sealed object: where it is, what it holds (clear bytes) and how it is opened."""

    object_key: str
    etag: str | None
    clear_size: int
    wrapped_key: WrappedKey
    context: EncryptionContext


class EncryptedContent:
    """Stores and reads documents and their renditions, sealed. Every method may raise ObjectStoreUnavailable or
    KeyringUnavailable, where it needs the one or the other."""

    def __init__(self, objects: ObjectStore, cipher: Cipher, keyring: Keyring) -> None:
        self._objects = objects
        self._cipher = cipher
        self._keyring = keyring

    async def new_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        """A data key of one document's own, for the caller to wipe, and its wrapped form for PostgreSQL."""
        return await self._keyring.new_data_key(context)

    async def store(
        self, key: DataKey, context: EncryptionContext, object_key: str, clear: AsyncIterable[bytes]
    ) -> StoredObject:
        """Encrypt a stream of any length into the store, in bounded memory. If ``clear`` raises, nothing is stored."""
        async with closing_stream(self._cipher.encrypt(key, context, clear)) as sealed:
            return await self._objects.put(object_key, sealed)

    async def verify_stored(self, stored: StoredObject, clear_size: int) -> None:
        """Compare what the store holds with what was sent: it is asked anew, unless its answer to the put proves it.

        Raises ObjectMissing, or IntegrityMismatch if length or version differ.
        """
        found = stored if stored.proved else await self._objects.stat(stored.key)
        if found.size != self._cipher.sealed_size(clear_size) or found.etag != stored.etag:
            raise IntegrityMismatch

    async def read(self, document: Document) -> AsyncIterator[bytes]:
        """The document's clear bytes; valid as a whole only once the iterator has ended.

        Raises ContentNotAvailable, ObjectMissing, EnvelopeInvalid, WrongKey or IntegrityMismatch.
        """
        async with closing_stream(self._read(_content_of(document))) as clear:
            async for piece in clear:
                yield piece

    async def read_range(self, document: Document, start: int, end: int) -> AsyncIterator[bytes]:
        """Clear bytes ``start`` to ``end`` (exclusive), from the chunks that hold them and no others.

        Raises RangeNotSatisfiable before anything is read, else as ``read``.
        """
        sealed = _content_of(document)
        offset, length = self._cipher.window(sealed.clear_size, start, end)
        etag = await self._pin(sealed)
        header = bytearray()
        lead = self._objects.read(sealed.object_key, length=self._cipher.header_size, etag=etag)
        async with closing_stream(lead) as pieces:
            async for piece in pieces:
                header += piece
        span = (sealed.clear_size, start, end)
        with await self._keyring.unwrap(sealed.wrapped_key, sealed.context) as key:
            async with (
                closing_stream(self._objects.read(sealed.object_key, start=offset, length=length, etag=etag)) as window,
                closing_stream(self._cipher.decrypt_window(key, sealed.context, bytes(header), window, span)) as clear,
            ):
                async for piece in clear:
                    yield piece

    async def store_rendition(self, document: Document, role: str, clear: bytes) -> StoredObject:
        """Store one rendition under the document's data key, in a role of its own.

        Each time under a key of its own, so that who lost its claim on the work can't overwrite what another has stored and
        recorded; what nobody records is removed by reconciling. Raises ContentNotAvailable or WrongKey.
        """
        content = _content_of(document)
        # Always under the context the key was wrapped with; the envelope binds the role.
        with await self._keyring.unwrap(content.wrapped_key, content.context) as key:
            object_key = f"{renditions_prefix(document.object_key)}{role}.{secrets.token_hex(8)}"
            return await self.store(key, _context(document, role), object_key, _once(clear))

    async def read_rendition(self, document: Document, rendition: Rendition) -> AsyncIterator[bytes]:
        """The rendition's clear bytes. Raises as ``read``."""
        sealed = _content_of(document)._replace(
            object_key=rendition.object_key,
            etag=rendition.object_etag,
            clear_size=rendition.size,
        )
        async with closing_stream(self._read(sealed, _context(document, rendition.role))) as clear:
            async for piece in clear:
                yield piece

    async def delete(self, object_key: str) -> None:
        """Remove one object; one that is not there is fine."""
        await self._objects.delete(object_key)

    async def delete_renditions(self, document: Document, *, but: Collection[str] = ()) -> None:
        """Remove every rendition that was ever stored of the document, recorded or not, except those object keys."""
        async with closing_stream(self._objects.list(renditions_prefix(document.object_key))) as listing:
            found = [stored.key async for stored in listing if stored.key not in but]
        for object_key in found:
            await self._objects.delete(object_key)

    async def _read(self, sealed: _Sealed, context: EncryptionContext | None = None) -> AsyncIterator[bytes]:
        """The whole object; ``context`` is what it was sealed for, if not what its key was wrapped for."""
        etag = await self._pin(sealed)
        count = 0
        with await self._keyring.unwrap(sealed.wrapped_key, sealed.context) as key:
            async with (
                closing_stream(self._objects.read(sealed.object_key, etag=etag)) as stored,
                closing_stream(self._cipher.decrypt(key, context or sealed.context, stored)) as clear,
            ):
                async for piece in clear:
                    count += len(piece)
                    yield piece
        if count != sealed.clear_size:
            raise IntegrityMismatch

    async def _pin(self, sealed: _Sealed) -> str:
        """The ETag to read by. Raises ObjectMissing, or IntegrityMismatch if the store's object is another one."""
        found = await self._objects.stat(sealed.object_key)
        if found.size != self._cipher.sealed_size(sealed.clear_size):
            raise IntegrityMismatch
        if sealed.etag is not None and found.etag != sealed.etag:
            raise IntegrityMismatch
        return found.etag


def renditions_prefix(object_key: str) -> str:
    """How the object keys of a document's renditions begin: the document's own, a dot. The role and a token follow."""
    return f"{object_key}."


def _context(document: Document, role: str = "content") -> EncryptionContext:
    return EncryptionContext(document.tenant, document.id, role)


def _content_of(document: Document) -> _Sealed:
    """Raises ContentNotAvailable where nothing is stored (yet, or any more)."""
    if document.wrapped_key is None or document.size is None:
        raise ContentNotAvailable
    return _Sealed(document.object_key, document.object_etag, document.size, document.wrapped_key, _context(document))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
