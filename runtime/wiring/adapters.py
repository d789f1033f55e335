"""What a process has of the world outside: adapters, each behind its circuit breaker where it has one. Making one opens no connection;
that happens at its first use. An adapter's module, and with it the vendor's client, is loaded when the adapter is made: a process
pays for what it uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from domain.errors import (
    AuditStoreUnavailable,
    DatabaseUnavailable,
    KeyringLoginRefused,
    KeyringUnavailable,
    ObjectStoreUnavailable,
    RegistryUnavailable,
    Transient,
)
from domain.shared.waiting import unless_stopped, until_stopped
from processors.resilience.circuit_breakers import CircuitBreaker, CircuitState
from runtime.config.settings import Settings
from runtime.config.transport import client_tls, https_tls
from runtime.observability.dependencies import Dependencies
from runtime.observability.telemetry import CircuitMetrics, DeliveryMetrics
from runtime.wiring.signing_and_checkpoints import SigningParts

if TYPE_CHECKING:
    from crypto.local_keyring import LocalKeyring
    from crypto.personal_data import PersonalDataKeys
    from crypto.vault_session import VaultSession
    from crypto.vault_transit import VaultTransitKeyring
    from ged.cmis import CmisRepository
    from identity.jwks import Jwks
    from processors.documents.content import EncryptedContent
    from processors.documents.known_tenants import KnownTenants
    from processors.documents.personal_texts import PersonalTexts
    from processors.documents.revocations import Revocations, RevokedTokens
    from processors.ports.audit import AuditStore
    from processors.ports.metadata import ExtendedMetadata
    from processors.resilience.canary_keyring import CanaryCheckedKeyring
    from processors.resilience.guarded_ports import GuardedObjectStore
    from rendering.pool import RenderPool
    from schemas.registry import Registry, RegistryCodec
    from storage.mongodb.audit import MongoAuditStore
    from storage.mongodb.metadata import MongoExtendedMetadata
    from storage.objects.filesystem import FilesystemObjectStore
    from storage.objects.s3 import MinioObjectStore
    from storage.postgres.audit.entries import PostgresAuditStore
    from storage.postgres.database import Postgres, PostgresDatabase
    from storage.postgres.extended_metadata import PostgresExtendedMetadata

#: Between two tries to be let in to the keyring at a process's start.
LOGIN_SECONDS: Final = 1.0


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def create_object_store(settings: Settings) -> FilesystemObjectStore | MinioObjectStore:
    """The object store that the settings name. Raises ValueError if they don't say where it is."""
    if settings.object_store == "minio":
        from storage.objects.s3 import MinioObjectStore

        return MinioObjectStore(
            settings.minio_endpoint,
            settings.minio_access_key.get_secret_value(),
            settings.minio_secret_key.get_secret_value(),
            settings.minio_bucket,
            secure=settings.minio_secure,
            tls=client_tls(settings) if settings.minio_secure else None,
        )
    if settings.objects_dir is None:
        raise ValueError("DPJ_OBJECTS_DIR is not set")
    from storage.objects.filesystem import FilesystemObjectStore

    return FilesystemObjectStore(settings.objects_dir)


def create_registry(settings: Settings) -> Registry:
    """The registry that the settings name."""
    if settings.schema_registry == "repository":
        from schemas.repository import RepositoryRegistry

        return RepositoryRegistry.of_this_release()
    from schemas.registry import SchemaRegistry

    return SchemaRegistry(settings.registry_url, tls=https_tls(settings, settings.registry_url))


class Adapters:
    """The adapters of one process, each made when it is first asked for and closed by ``aclose``, last made first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = CollectorRegistry()
        self.clock = SystemClock()
        #: What this process needs, watched once its work runs them; whatever is behind a breaker registers itself here.
        self.dependencies = Dependencies()
        #: Further facts for /readyz, by name.
        self.readiness_facts: dict[str, Callable[[], object]] = {}
        self._closing = AsyncExitStack()

    async def aclose(self) -> None:
        await self._closing.aclose()

    def closed_with_us(self, close: Callable[[], Awaitable[None]]) -> None:
        self._closing.push_async_callback(close)

    def _breaker(self, unavailable: type[Transient], check: Callable[[], Awaitable[None]]) -> CircuitBreaker:
        metrics = self.circuit_metrics

        def on_change(breaker: CircuitBreaker, previous: CircuitState) -> None:
            metrics.changed(breaker.dependency, breaker.state, previous)
            self.dependencies.breaker_changed(breaker, previous)

        breaker = CircuitBreaker(unavailable, check, clock=time.monotonic, on_change=on_change)
        metrics.known(breaker.dependency)
        self.dependencies.add_breaker(breaker)
        return breaker

    @cached_property
    def postgres(self) -> Postgres:
        from storage.postgres.database import Postgres

        postgres = Postgres(self.settings.postgres_dsn.get_secret_value(), connections=self.settings.postgres_pool_size)
        self.closed_with_us(postgres.aclose)
        self.dependencies.add(DatabaseUnavailable.waiting_for, postgres.check)
        return postgres

    @cached_property
    def registry(self) -> Registry:
        """Where schemas have their ids."""
        registry = create_registry(self.settings)
        self.closed_with_us(registry.close)
        return registry

    @cached_property
    def codec(self) -> RegistryCodec:
        from schemas.registry import RegistryCodec
        from schemas.repository import RepositoryRegistry

        registry = self.registry
        if isinstance(registry, RepositoryRegistry):
            return RegistryCodec(registry, registry.codec())  # nothing to wait for
        codec = RegistryCodec(registry)
        self.dependencies.add(RegistryUnavailable.waiting_for, codec.check)
        return codec

    @cached_property
    def database(self) -> PostgresDatabase:
        from storage.postgres.database import PostgresDatabase

        return PostgresDatabase(self.postgres, self.codec.encode)

    @cached_property
    def circuit_metrics(self) -> CircuitMetrics:
        return CircuitMetrics(self.metrics)

    @cached_property
    def object_store(self) -> FilesystemObjectStore | MinioObjectStore:
        """The store itself, for an operator's tools; whoever works for documents uses ``objects``."""
        objects = create_object_store(self.settings)
        self.closed_with_us(objects.aclose)
        return objects

    @cached_property
    def objects(self) -> GuardedObjectStore:
        from processors.resilience.guarded_ports import GuardedObjectStore

        store = self.object_store
        return GuardedObjectStore(store, self._breaker(ObjectStoreUnavailable, store.check))

    @cached_property
    def _vault(self) -> VaultSession:
        """This process's one login: a wrapped secret id is good for one use."""
        from runtime.wiring.keyrings import vault_session

        return vault_session(self.settings)

    @cached_property
    def signing(self) -> SigningParts:
        """Signing key and checkpoint store."""
        proofs = SigningParts(self.settings, lambda: self._vault)
        self.closed_with_us(proofs.aclose)
        return proofs

    @cached_property
    def _keyring(self) -> LocalKeyring | VaultTransitKeyring:
        from runtime.wiring.keyrings import create_keyring

        keyring = create_keyring(self.settings, lambda: self._vault)
        self.closed_with_us(keyring.aclose)
        return keyring

    async def log_in(self, stopping: asyncio.Event) -> None:
        """At a process's start: be let in to keyring and Vault, however long they are away, if the process has need of them.

        Ends with the process; raises KeyringLoginRefused where waiting would not help.
        """
        if not {"_keyring", "_vault"} & self.__dict__.keys():
            await stopping.wait()
        await until_stopped(stopping, partial(self._logged_in, stopping))

    async def _logged_in(self, stopping: asyncio.Event) -> float:
        try:
            await unless_stopped(stopping, self._check_logins())
            await stopping.wait()
        except KeyringLoginRefused:
            raise
        except KeyringUnavailable:
            return LOGIN_SECONDS
        return 0.0

    async def _check_logins(self) -> None:
        """Raises KeyringUnavailable."""
        if "_vault" in self.__dict__:
            await asyncio.to_thread(self._vault.check)
        if "_keyring" in self.__dict__:
            await self._keyring.check()

    @cached_property
    def keyring(self) -> CanaryCheckedKeyring:
        from processors.resilience.canary_keyring import CanaryCheckedKeyring
        from processors.resilience.guarded_ports import GuardedKeyring
        from storage.postgres.keys.canaries import PostgresCanaries

        keyring = self._keyring
        guarded = GuardedKeyring(keyring, self._breaker(KeyringUnavailable, keyring.check))
        return CanaryCheckedKeyring(guarded, PostgresCanaries(self.postgres))

    @cached_property
    def content(self) -> EncryptedContent:
        from crypto.envelope import Envelope
        from processors.documents.content import EncryptedContent

        return EncryptedContent(self.objects, Envelope(), self.keyring)

    @cached_property
    def personal(self) -> PersonalDataKeys:
        from crypto.personal_data import PersonalDataKeys

        return PersonalDataKeys.from_files(self.settings.personal_key_file, self.settings.pseudonym_key_file)

    def operator(self, login: str) -> str:
        """The pseudonym of whoever is at a terminal of ours under that login name."""
        from domain.audit_chain import SYSTEM_TENANT
        from processors.documents.callers import actor_of

        return actor_of(self.personal, SYSTEM_TENANT, login)

    @cached_property
    def tenants(self) -> KnownTenants:
        from processors.documents.known_tenants import KnownTenants
        from storage.postgres.tenants import PostgresTenantQueries

        return KnownTenants(PostgresTenantQueries(self.postgres))

    @cached_property
    def texts(self) -> PersonalTexts:
        from crypto.sealed_columns import SealedColumns
        from processors.documents.personal_texts import PersonalTexts

        settings = self.settings
        columns = SealedColumns.from_files(settings.column_key_file, settings.lookup_key_file)
        return PersonalTexts(columns, self.personal, sealed_only=settings.columns_sealed_only)

    @cached_property
    def _mongo(self) -> MongoAuditStore:
        from storage.mongodb.audit import MongoAuditStore

        store = MongoAuditStore(self.settings.mongo_url.get_secret_value(), self.settings.mongo_database)
        self.closed_with_us(store.aclose)
        return store

    @cached_property
    def _mongo_breaker(self) -> CircuitBreaker:
        """One for the audit log and the extended metadata: it is the same server."""
        return self._breaker(AuditStoreUnavailable, self._mongo.check)

    @cached_property
    def audit_log(self) -> MongoAuditStore | PostgresAuditStore:
        """The log itself, for those who read it; who adds to it uses ``audit_store``."""
        if self.settings.audit_store == "mongodb":
            return self._mongo
        from storage.postgres.audit.entries import PostgresAuditStore

        return PostgresAuditStore(self.postgres)

    @cached_property
    def audit_store(self) -> AuditStore:
        if self.settings.audit_store == "mongodb":
            from processors.resilience.guarded_ports import GuardedAuditStore

            return GuardedAuditStore(self._mongo, self._mongo_breaker)
        return self.audit_log  # the database has its own watch, and no breaker

    @cached_property
    def extended_metadata(self) -> MongoExtendedMetadata | PostgresExtendedMetadata:
        """The metadata themselves, for erasing; whoever works for documents uses ``guarded_metadata``."""
        if self.settings.audit_store == "postgresql":
            from storage.postgres.extended_metadata import PostgresExtendedMetadata

            return PostgresExtendedMetadata(self.postgres)
        from storage.mongodb.metadata import MongoExtendedMetadata

        extended = MongoExtendedMetadata(self.settings.mongo_url.get_secret_value(), self.settings.mongo_database)
        self.closed_with_us(extended.aclose)
        return extended

    @cached_property
    def guarded_metadata(self) -> ExtendedMetadata:
        if self.settings.audit_store == "postgresql":
            return self.extended_metadata
        from processors.resilience.guarded_ports import GuardedExtendedMetadata

        return GuardedExtendedMetadata(self.extended_metadata, self._mongo_breaker)

    @cached_property
    def delivery_metrics(self) -> DeliveryMetrics:
        return DeliveryMetrics(self.metrics)

    @cached_property
    def revocations(self) -> Revocations:
        from runtime.wiring.access import revocation_store

        return revocation_store(self.settings, self.closed_with_us)

    @cached_property
    def revoked_tokens(self) -> RevokedTokens:
        from processors.documents.revocations import RevokedTokens

        return RevokedTokens(self.revocations, time.monotonic)

    @cached_property
    def signing_keys(self) -> Jwks:
        from runtime.wiring.access import key_set

        return key_set(self.settings)

    @cached_property
    def render_pool(self) -> RenderPool:
        from runtime.wiring.untrusted_files import confinement_of, create_render_pool

        pool = create_render_pool(self.settings, self.metrics)
        self.closed_with_us(pool.aclose)
        self.readiness_facts["parsers_confined_by"] = lambda: confinement_of(pool)
        return pool

    @cached_property
    def ged_repository(self) -> CmisRepository:
        """The GED itself, for reconciling; whoever works for documents uses it guarded."""
        from ged.cmis import CmisRepository

        settings = self.settings
        ged = CmisRepository(
            settings.ged_url,
            settings.ged_repository,
            settings.ged_user,
            settings.ged_password.get_secret_value(),
            tls=https_tls(settings, settings.ged_url),
        )
        self.closed_with_us(ged.aclose)
        return ged
