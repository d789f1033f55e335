"""Ports behind circuit breakers: what ``runtime.wiring.site`` puts in the place of a remote adapter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from domain.antivirus import ScanVerdict
from domain.archive import GedDocument, GedObject
from domain.audit_chain import ChainEntry
from domain.keys import DataKey, EncryptionContext, WrappedKey
from domain.mail import OutgoingMail
from domain.objects import StoredObject
from processors.ports.antivirus import AntivirusEngine
from processors.ports.audit import AuditStore
from processors.ports.content import Keyring, ObjectStore
from processors.ports.ged import GedRepository
from processors.ports.mail import MailSender
from processors.ports.metadata import ExtendedMetadata
from processors.resilience.circuit_breakers import CircuitBreaker


class GuardedObjectStore:
    """See ``processors.ports.content.ObjectStore``."""

    def __init__(self, objects: ObjectStore, breaker: CircuitBreaker) -> None:
        self._objects = objects
        self._breaker = breaker

    async def put(self, key: str, data: AsyncIterable[bytes]) -> StoredObject:
        return await self._breaker.transfer(self._objects.put, key, data)

    async def stat(self, key: str) -> StoredObject:
        return await self._breaker.call(self._objects.stat, key)

    def read(
        self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        return self._breaker.stream(self._objects.read, key, start=start, length=length, etag=etag)

    async def delete(self, key: str) -> None:
        await self._breaker.call(self._objects.delete, key)

    def list(self, prefix: str) -> AsyncGenerator[StoredObject, None]:
        return self._breaker.stream(self._objects.list, prefix)

    async def check(self) -> None:
        """Raise ObjectStoreUnavailable if the store can't serve now."""
        await self._breaker.check()


class GuardedKeyring:
    """See ``processors.ports.content.Keyring``."""

    def __init__(self, keyring: Keyring, breaker: CircuitBreaker) -> None:
        self._keyring = keyring
        self._breaker = breaker

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        return await self._breaker.call(self._keyring.new_data_key, context)

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        return await self._breaker.call(self._keyring.unwrap, wrapped, context)

    async def check(self) -> None:
        await self._breaker.check()


class GuardedGed:
    """See ``processors.ports.ged.GedRepository``."""

    def __init__(self, ged: GedRepository, breaker: CircuitBreaker) -> None:
        self._ged = ged
        self._breaker = breaker

    async def find(self, path: Sequence[str]) -> GedObject | None:
        return await self._breaker.call(self._ged.find, path)

    def children(self, folder: Sequence[str]) -> AsyncGenerator[tuple[str, GedObject], None]:
        return self._breaker.stream(self._ged.children, folder)

    async def create_folder(self, path: Sequence[str]) -> None:
        await self._breaker.call(self._ged.create_folder, path)

    async def create(
        self, folder: Sequence[str], document: GedDocument, content: AsyncIterable[bytes]
    ) -> GedObject | None:
        return await self._breaker.transfer(self._ged.create, folder, document, content)

    def read(self, object_id: str) -> AsyncGenerator[bytes, None]:
        return self._breaker.stream(self._ged.read, object_id)

    async def description_of(self, object_id: str) -> str | None:
        return await self._breaker.call(self._ged.description_of, object_id)

    async def delete(self, object_id: str) -> None:
        await self._breaker.call(self._ged.delete, object_id)


class GuardedMailSender:
    """See ``processors.ports.mail.MailSender``."""

    def __init__(self, sender: MailSender, breaker: CircuitBreaker) -> None:
        self._sender = sender
        self._breaker = breaker

    async def send(self, mail: OutgoingMail) -> None:
        await self._breaker.call(self._sender.send, mail)


class GuardedAuditStore:
    """See ``processors.ports.audit.AuditStore``."""

    def __init__(self, store: AuditStore, breaker: CircuitBreaker) -> None:
        self._store = store
        self._breaker = breaker

    async def add(self, entries: Sequence[ChainEntry]) -> None:
        await self._breaker.call(self._store.add, entries)


class GuardedAntivirusEngine:
    """See ``processors.ports.antivirus.AntivirusEngine``."""

    def __init__(self, engine: AntivirusEngine, breaker: CircuitBreaker) -> None:
        self._engine = engine
        self._breaker = breaker

    async def scan(self, content: AsyncIterable[bytes]) -> ScanVerdict:
        return await self._breaker.transfer(self._engine.scan, content)


class GuardedExtendedMetadata:
    """See ``processors.ports.metadata.ExtendedMetadata``."""

    def __init__(self, extended: ExtendedMetadata, breaker: CircuitBreaker) -> None:
        self._extended = extended
        self._breaker = breaker

    async def put(self, document_id: UUID, tenant: str, metadata: Mapping[str, Any]) -> None:
        await self._breaker.call(self._extended.put, document_id, tenant, metadata)

    async def delete(self, document_id: UUID, tenant: str) -> None:
        await self._breaker.call(self._extended.delete, document_id, tenant)
