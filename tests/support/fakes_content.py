"""In-memory object store and keyring: the ports' promises without servers, with faults on demand."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from domain.documents import Document, Language
from domain.errors import KeyringUnavailable, ObjectMissing, ObjectStoreUnavailable, WrongKey
from domain.keys import DATA_KEY_BYTES, DataKey, EncryptionContext, WrappedKey
from domain.lifecycle import Status
from domain.objects import StoredObject

CONTENT_KEY = "banque/2026/obj-1"


class MemoryObjectStore:
    """Objects in a dict.

    ``away`` makes every call raise ObjectStoreUnavailable; ``fail_puts`` / ``fail_reads`` count down calls that do.
    ``objects`` holds the sealed bytes by key, open to tests that tamper; ``calls`` names the calls made, in order.
    ``piece`` is the size in bytes of the pieces that ``read`` yields.
    """

    def __init__(self, *, piece: int = 65536, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self.calls: list[tuple[str, str]] = []
        self.away = False
        self.fail_puts = 0
        self.fail_reads = 0
        self._piece = piece
        self._now = now

    async def put(self, key: str, data: AsyncIterable[bytes]) -> StoredObject:
        self._call("put", key)
        held = bytearray()
        async for piece in data:
            held += piece
        if self.fail_puts:
            self.fail_puts -= 1
            raise ObjectStoreUnavailable
        self._reachable()
        self.objects[key] = bytes(held)
        self.modified[key] = self._now()
        return self._describe(key)

    async def stat(self, key: str) -> StoredObject:
        self._call("stat", key)
        return self._describe(key)

    async def read(
        self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None
    ) -> AsyncIterator[bytes]:
        self._call("read", key)
        if self.fail_reads:
            self.fail_reads -= 1
            raise ObjectStoreUnavailable
        described = self._describe(key)
        if etag is not None and etag != described.etag:
            raise ObjectMissing
        content = self.objects[key]
        end = len(content) if length is None else min(len(content), start + length)
        for offset in range(start, end, self._piece):
            self._reachable()
            yield content[offset : min(end, offset + self._piece)]

    async def delete(self, key: str) -> None:
        self._call("delete", key)
        self.objects.pop(key, None)
        self.modified.pop(key, None)

    async def purge(self, key: str) -> None:
        self._call("purge", key)
        for found in [found for found in self.objects if found == key or found.startswith(f"{key}.")]:
            await self.delete(found)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        self._call("list", prefix)
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield self._describe(key)

    def _call(self, name: str, key: str) -> None:
        self.calls.append((name, key))
        self._reachable()

    def _reachable(self) -> None:
        if self.away:
            raise ObjectStoreUnavailable

    def _describe(self, key: str) -> StoredObject:
        if key not in self.objects:
            raise ObjectMissing
        content = self.objects[key]
        modified = self.modified.setdefault(key, self._now())
        return StoredObject(key, len(content), hashlib.sha256(content).hexdigest(), modified)


class MemoryKeyring:
    """Data keys in a dict by wrapped text, bound to tenant and document.

    ``away`` makes every call raise KeyringUnavailable; ``calls`` names the calls made, in order.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[DataKey, EncryptionContext]] = {}
        self._numbers = itertools.count()
        self.calls: list[str] = []
        self.away = False

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        self._call("new_data_key")
        key = DataKey(os.urandom(DATA_KEY_BYTES))
        name = f"memory:v1:{id(self):x}-{next(self._numbers)}"
        self._held[name] = (DataKey(bytes(key.secret)), context)  # the caller wipes what it gets
        return key, WrappedKey("memory", "memory", 1, name)

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        self._call("unwrap")
        key, owner = self._held.get(wrapped.ciphertext, (None, None))
        if key is None or owner is None or (owner.tenant, owner.document_id) != (context.tenant, context.document_id):
            raise WrongKey
        return DataKey(bytes(key.secret))

    async def check(self) -> None:
        self._call("check")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.away:
            raise KeyringUnavailable


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """An asynchronous stream of the given pieces."""
    for part in parts:
        yield part


async def cut(content: bytes, size: int) -> AsyncIterator[bytes]:
    """``content`` as a stream of pieces of ``size`` bytes."""
    for offset in range(0, len(content), size):
        yield content[offset : offset + size]


async def collect(stream: AsyncIterable[bytes]) -> bytes:
    """All bytes of a stream."""
    return b"".join([piece async for piece in stream])


def a_document(size: int | None, **changes: Any) -> Document:
    """A stored document of ``size`` clear bytes, as yet without key and etag."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    fields: dict[str, Any] = {
        "id": UUID(int=77),
        "tenant": "banque",
        "dossier_id": UUID(int=2),
        "step_id": None,
        "type_code": "ID",
        "category": None,
        "original_name": "passeport.pdf",
        "stored_name": "x.pdf",
        "object_key": CONTENT_KEY,
        "status": Status.STORED,
        "mandatory": True,
        "depositor_id": "p",
        "depositor_email_sealed": "",
        "language": Language.FRENCH,
        "size": size,
        "correlation_id": UUID(int=3),
        "created_at": now,
        "updated_at": now,
    }
    return Document(**(fields | changes))
