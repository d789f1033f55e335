"""The composition root: which adapter serves which port. Making a part opens no connection; that happens at its first use."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from prometheus_client import CollectorRegistry

from crypto.envelope import Envelope
from crypto.local_keyring import LocalKeyring
from crypto.personal_data import PersonalDataKeys
from crypto.receipt_signer import LocalReceiptSigner, NoReceiptSigner
from crypto.vault_session import VaultSession
from crypto.vault_transit import VaultTransitKeyring
from domain.errors import (
    AuditStoreUnavailable,
    DatabaseUnavailable,
    GedUnavailable,
    KeyringUnavailable,
    MailUnavailable,
    ObjectStoreUnavailable,
    RegistryUnavailable,
    Transient,
)
from ged.cmis import CmisRepository
from notifications.email_smtp import SmtpMailSender, Tls
from notifications.rendering import MailTemplates
from processors.archive_copies import ArchiveCopies, CopyRemover
from processors.archiving import ArchivingProcessor
from processors.attempts import AbandonedSweep, Attempts
from processors.audit import AuditChainer, AuditFlusher, AuditProcessor
from processors.breakers import CircuitBreaker, State
from processors.content import EncryptedContent
from processors.dead_letters import SYSTEM_TENANT, OperatorDesk
from processors.dossiers import DossierFiles
from processors.erasing import Erasing
from processors.erasure_ports import ReceiptSigner
from processors.guarded import (
    GuardedAuditStore,
    GuardedExtendedMetadata,
    GuardedGed,
    GuardedKeyring,
    GuardedMailSender,
    GuardedObjectStore,
)
from processors.intake import Intake
from processors.integrity import IntegrityProcessor
from processors.keeping import Keeping
from processors.leftovers import Leftovers
from processors.notification import NotificationProcessor
from processors.ports import Processor
from processors.reading import Reading
from processors.reconcile import Part, Reconcile
from processors.reconcile_erased import ErasedDocuments
from processors.reconcile_ged import ArchivedCopies
from processors.reconcile_store import stored_objects
from processors.reconcile_uploads import expired_uploads, unfinished_puts
from processors.renditions import RenditionProcessor
from processors.validation import Validation
from processors.vouching import VouchedKeyring
from rendering.pool import RenderPool
from runtime.dependencies import Dependencies
from runtime.settings import Settings
from runtime.telemetry import CircuitMetrics, DeliveryMetrics, RelayMetrics
from schemas.registry import RegistryCodec, SchemaRegistry
from storage.audit_chain_postgres import PostgresAuditPending, PostgresAuditWaiting
from storage.audit_mongo import MongoAuditStore
from storage.dead_letters_postgres import PostgresHeld, PostgresOperations
from storage.housekeeping_postgres import PostgresHousekeeping
from storage.inbox_postgres import PostgresInbox
from storage.inventory_postgres import PostgresInventory
from storage.keyring_canaries_postgres import PostgresCanaries
from storage.metadata_mongo import MongoExtendedMetadata
from storage.objects_filesystem import FilesystemObjectStore
from storage.objects_minio import MinioObjectStore
from storage.outbox_postgres import PostgresOutboxSource
from storage.outbox_refused_postgres import PostgresRefusals
from storage.postgres import Postgres, PostgresDatabase
from storage.queries_postgres import PostgresQueries
from streams.apps import ConsumerOffsets, ConsumerSettings
from streams.consumer import ConsumerRunner
from streams.delivery import Delivery, Flow, Policy
from streams.outbox_relay import OutboxRelay, create_producer

if TYPE_CHECKING:
    from ingest_api.dependencies import ApiDependencies

MEGABYTE: Final = 1024 * 1024
#: Consumers that hold no content and call no server but the database.
LIGHT: Final = frozenset({"audit"})
LIGHT_LANE: Final = 256
LIGHT_CONCURRENCY: Final = 128


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def create_object_store(settings: Settings) -> FilesystemObjectStore | MinioObjectStore:
    """The object store that the settings name. Raises ValueError if they don't say where it is."""
    if settings.object_store == "minio":
        return MinioObjectStore(
            settings.minio_endpoint,
            settings.minio_access_key.get_secret_value(),
            settings.minio_secret_key.get_secret_value(),
            settings.minio_bucket,
            secure=settings.minio_secure,
        )
    if settings.objects_dir is None:
        raise ValueError("DPJ_OBJECTS_DIR is not set")
    return FilesystemObjectStore(settings.objects_dir)


def create_keyring(settings: Settings) -> LocalKeyring | VaultTransitKeyring:
    """The keyring that the settings name. Raises ValueError if they don't say where it is."""
    if settings.keyring == "vault":
        session = VaultSession.connect(
            settings.vault_addr,
            settings.vault_role_id.get_secret_value(),
            settings.vault_secret_id.get_secret_value(),
        )
        return VaultTransitKeyring(session, settings.vault_transit_key)
    if settings.keyring_file is None:
        raise ValueError("DPJ_KEYRING_FILE is not set")
    return LocalKeyring(settings.keyring_file)


class Site:
    """The parts of one process, each made when it is first asked for and closed by ``aclose``, last made first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = CollectorRegistry()
        self.clock = SystemClock()
        #: What this process needs, watched once its work runs them; whatever is behind a breaker registers itself here.
        self.dependencies = Dependencies()
        self._closing = AsyncExitStack()

    async def aclose(self) -> None:
        await self._closing.aclose()

    def _closed_with_us(self, close: Callable[[], Awaitable[None]]) -> None:
        self._closing.push_async_callback(close)

    def _breaker(self, unavailable: type[Transient], check: Callable[[], Awaitable[None]]) -> CircuitBreaker:
        metrics = self.circuit_metrics

        def on_change(breaker: CircuitBreaker, previous: State) -> None:
            metrics.changed(breaker.dependency, breaker.state, previous)
            self.dependencies.breaker_changed(breaker, previous)

        breaker = CircuitBreaker(unavailable, check, clock=time.monotonic, on_change=on_change)
        metrics.known(breaker.dependency)
        self.dependencies.guard(breaker)
        return breaker

    # --- adapters ------------------------------------------------------------------------------------------------

    @cached_property
    def postgres(self) -> Postgres:
        postgres = Postgres(self.settings.postgres_dsn.get_secret_value(), connections=self.settings.postgres_pool_size)
        self._closed_with_us(postgres.aclose)
        self.dependencies.need(DatabaseUnavailable.waiting_for, postgres.check)
        return postgres

    @cached_property
    def codec(self) -> RegistryCodec:
        registry = SchemaRegistry(self.settings.registry_url)
        self._closed_with_us(registry.close)
        codec = RegistryCodec(registry)
        self.dependencies.need(RegistryUnavailable.waiting_for, codec.check)
        return codec

    @cached_property
    def database(self) -> PostgresDatabase:
        return PostgresDatabase(self.postgres, self.codec.encode)

    @cached_property
    def circuit_metrics(self) -> CircuitMetrics:
        return CircuitMetrics(self.metrics)

    @cached_property
    def object_store(self) -> FilesystemObjectStore | MinioObjectStore:
        """The store itself, for an operator's tools; whoever works for documents uses ``objects``."""
        objects = create_object_store(self.settings)
        self._closed_with_us(objects.aclose)
        return objects

    @cached_property
    def objects(self) -> GuardedObjectStore:
        store = self.object_store
        return GuardedObjectStore(store, self._breaker(ObjectStoreUnavailable, store.check))

    @cached_property
    def keyring(self) -> VouchedKeyring:
        keyring = create_keyring(self.settings)
        self._closed_with_us(keyring.aclose)
        guarded = GuardedKeyring(keyring, self._breaker(KeyringUnavailable, keyring.check))
        return VouchedKeyring(guarded, PostgresCanaries(self.postgres))

    @cached_property
    def content(self) -> EncryptedContent:
        return EncryptedContent(self.objects, Envelope(), self.keyring)

    @cached_property
    def personal(self) -> PersonalDataKeys:
        return PersonalDataKeys.from_files(self.settings.personal_key_file, self.settings.pseudonym_key_file)

    @cached_property
    def _mongo(self) -> MongoAuditStore:
        store = MongoAuditStore(self.settings.mongo_url.get_secret_value(), self.settings.mongo_database)
        self._closed_with_us(store.aclose)
        return store

    @cached_property
    def _mongo_breaker(self) -> CircuitBreaker:
        """One for the audit log and the extended metadata: it is the same server."""
        return self._breaker(AuditStoreUnavailable, self._mongo.check)

    @cached_property
    def audit_store(self) -> GuardedAuditStore:
        return GuardedAuditStore(self._mongo, self._mongo_breaker)

    @cached_property
    def delivery_metrics(self) -> DeliveryMetrics:
        return DeliveryMetrics(self.metrics)

    # --- processors ----------------------------------------------------------------------------------------------

    def processor(self, consumer: str) -> Processor:
        """The processor of a consumer group. Raises KeyError for a name that is none."""
        return _PROCESSORS[consumer](self)

    def integrity(self) -> Processor:
        return IntegrityProcessor(self.database, self.content, self.clock)

    def renditions(self) -> Processor:
        pool = RenderPool(children=self.settings.render_children, timeout=self.settings.render_timeout)
        self._closed_with_us(pool.aclose)
        guarded = GuardedExtendedMetadata(self.extended_metadata, self._mongo_breaker)
        return RenditionProcessor(self.database, self.content, pool, guarded, self.clock)

    @cached_property
    def extended_metadata(self) -> MongoExtendedMetadata:
        """The metadata themselves, for erasing; whoever works for documents uses them guarded."""
        extended = MongoExtendedMetadata(self.settings.mongo_url.get_secret_value(), self.settings.mongo_database)
        self._closed_with_us(extended.aclose)
        return extended

    @cached_property
    def receipt_signer(self) -> ReceiptSigner:
        path = self.settings.receipt_key_file
        return NoReceiptSigner() if path is None else LocalReceiptSigner(path)

    @cached_property
    def ged_repository(self) -> CmisRepository:
        """The GED itself, for reconciling; whoever works for documents uses it guarded."""
        settings = self.settings
        ged = CmisRepository(
            settings.ged_url, settings.ged_repository, settings.ged_user, settings.ged_password.get_secret_value()
        )
        self._closed_with_us(ged.aclose)
        return ged

    def archiving(self) -> Processor:
        ged = GuardedGed(self.ged_repository, self._breaker(GedUnavailable, self.ged_repository.check))
        copies = ArchiveCopies(self.database, self.content, ged, settle_seconds=self.settings.ged_settle)
        return ArchivingProcessor(self.database, copies, self.clock)

    def notification(self) -> Processor:
        settings = self.settings
        sender = SmtpMailSender(
            settings.smtp_host,
            settings.smtp_port,
            sender=settings.mail_from,
            sender_name=settings.mail_from_name,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
            tls=Tls(settings.smtp_tls),
        )
        return NotificationProcessor(
            self.database,
            self.personal,
            MailTemplates(zone=ZoneInfo(settings.mail_time_zone), bank=settings.mail_from_name),
            GuardedMailSender(sender, self._breaker(MailUnavailable, sender.check)),
            self.clock,
            mail_domain=settings.mail_from.rpartition("@")[2],
        )

    def audit(self) -> Processor:
        return AuditProcessor()

    def audit_chainer(self) -> AuditChainer:
        """Gives audit lines their places; runs beside the audit consumer."""
        return AuditChainer(PostgresAuditWaiting(self.postgres))

    def audit_flusher(self) -> AuditFlusher:
        """Moves chained audit entries to MongoDB; runs beside the audit consumer."""
        return AuditFlusher(PostgresAuditPending(self.postgres), self.audit_store, self.database)

    def desk(self, operator: str) -> OperatorDesk:
        """Acts of the operator of that login name. Await ``codec.check`` before: acts are audited, and audit lines encoded."""
        actor = self.personal.pseudonym("actor", f"{SYSTEM_TENANT}/{operator}")
        return OperatorDesk(self.database, self.codec, self.clock, actor)

    def operations(self) -> PostgresOperations:
        """What is held, and which dead letters were handled."""
        return PostgresOperations(self.postgres)

    def refusals(self) -> PostgresRefusals:
        """Outbox rows that Kafka refuses."""
        return PostgresRefusals(self.postgres)

    def housekeeping(self) -> PostgresHousekeeping:
        settings = self.settings
        # Reconciling finds what abandoned uploads left by their rows: it must have had its time twice before they go.
        reconciled = 2 * (settings.reconcile_grace + settings.reconcile_interval) / 3600
        return PostgresHousekeeping(
            self.postgres,
            keep_days=settings.inbox_keep_days,
            idempotency_hours=settings.idempotency_keep_hours,
            abandoned_hours=max(settings.abandoned_keep_hours, reconciled),
        )

    def sweep(self) -> AbandonedSweep:
        return AbandonedSweep(self.database, Leftovers(self.object_store))

    def reconcile(self, *, grace: float | None = None, ged_hours: float | None = None) -> Reconcile:
        """``grace`` in seconds and ``ged_hours``, if not as the settings say. Await ``codec.check`` before: repairs are
        audited. Raises ValueError if the grace is not longer than an upload's lease."""
        settings = self.settings
        grace = settings.reconcile_grace if grace is None else grace
        hours = settings.reconcile_ged_hours if ged_hours is None else ged_hours
        if grace <= settings.upload_lease:
            raise ValueError("the grace must be longer than DPJ_UPLOAD_LEASE")
        parts: dict[str, Part] = {
            "uploads": expired_uploads,
            "unfinished puts": unfinished_puts,
            "objects": stored_objects,
        }
        if hours > 0:
            parts["GED"] = ArchivedCopies(self.ged_repository, hours=hours)
            remover = CopyRemover(self.database, self.ged_repository)
            parts["erased"] = ErasedDocuments(self.ged_repository, remover, self.extended_metadata, hours=hours)
        inventory = PostgresInventory(self.postgres)
        return Reconcile(self.database, inventory, self.object_store, self.clock, parts, grace_seconds=grace)

    # --- drivers -------------------------------------------------------------------------------------------------

    def policy(self, name: str) -> Policy:
        """The bounds of the consumer ``name``. One that works in PostgreSQL alone has more of its events under way at once."""
        settings = self.settings
        light = name in LIGHT
        return Policy(
            lane_size=max(settings.lane_size, LIGHT_LANE if light else 0),
            lane_concurrency=max(settings.lane_concurrency, LIGHT_CONCURRENCY if light else 0),
            lease=settings.event_lease,
            bug_retries=settings.bug_retries,
            retry_base=settings.retry_base,
            retry_cap=settings.retry_cap,
        )

    def consumer(self, name: str, scratch: str) -> ConsumerRunner:
        """A member of the consumer group of ``name``."""
        settings = self.settings
        processor = self.processor(name)
        policy = self.policy(name)

        def create_delivery(flow: Flow, offsets: ConsumerOffsets) -> Delivery:
            return Delivery(
                processor,
                decode=self.codec.decode,
                inbox=PostgresInbox(self.postgres),
                database=self.database,
                commit_offsets=offsets.commit,
                flow=flow,
                metrics=self.delivery_metrics,
                policy=policy,
                held=PostgresHeld(self.postgres),
                pause=self.dependencies.pause,
            )

        topics = tuple(event_type.TOPIC for event_type in processor.handles)
        consumer_settings = ConsumerSettings(
            bootstrap=settings.kafka_bootstrap,
            scratch=scratch,
            session_seconds=settings.group_session,
            drain=settings.drain_seconds,
        )
        return ConsumerRunner(name, topics, consumer_settings, create_delivery)

    def relay(self) -> OutboxRelay:
        settings = self.settings
        return OutboxRelay(
            PostgresOutboxSource(settings.postgres_dsn.get_secret_value()),
            lambda: create_producer(settings.kafka_bootstrap),
            RelayMetrics(self.metrics),
            batch=settings.relay_batch,
            keep_hours=settings.outbox_keep_hours,
        )

    def api(self) -> ApiDependencies:
        """What the HTTP API is made of. Its framework is loaded here: no other process pays for it at its start."""
        from ingest_api.dependencies import ApiDependencies
        from ingest_api.jwks import Jwks, jwks_source
        from ingest_api.sniffing import MagicSniffer
        from ingest_api.tokens import TokenAuthenticator

        settings = self.settings
        attempts = Attempts(self.database, self.content, self.clock, lease_seconds=settings.upload_lease)
        jwks = Jwks(jwks_source(settings.jwks))
        return ApiDependencies(
            intake=Intake(self.database, self.content, attempts, MagicSniffer(), self.personal, self.clock),
            reading=Reading(self.database, PostgresQueries(self.postgres), self.content, self.personal, self.clock),
            validation=Validation(self.database, self.personal, self.clock),
            dossiers=DossierFiles(self.database, self.personal, self.clock),
            erasing=Erasing(self.database, self.personal, self.clock),
            keeping=Keeping(self.database, self.personal, self.clock),
            authenticator=TokenAuthenticator(jwks, issuer=settings.jwt_issuer, audience=settings.jwt_audience),
            readiness={
                "postgresql": self.postgres.check,
                "object_store": self.objects.check,
                "keyring": self.keyring.check,
                "schema_registry": self.codec.check,
                "signing_keys": jwks.check,
            },
            circuits=lambda: self.dependencies.circuits,
            registry=self.metrics,
            body_timeout=settings.body_timeout,
        )


_PROCESSORS: Final[dict[str, Callable[[Site], Processor]]] = {
    "integrity": Site.integrity,
    "renditions": Site.renditions,
    "archiving": Site.archiving,
    "notification": Site.notification,
    "audit": Site.audit,
}
