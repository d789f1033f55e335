"""The composition root: which adapter serves which port. Making a part opens no connection; that happens at its first use.

Each part's modules are loaded when it is made: no process loads the framework, the Kafka client or the parser that only another one uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from domain.errors import GedUnavailable, MailUnavailable, PersonalKeyMissing
from runtime.config.transport import client_tls, kafka_security, kafka_tls
from runtime.wiring.adapters import Adapters

if TYPE_CHECKING:
    from domain.owed_events import Progress
    from operations.kafka.lag import PartitionLag
    from operations.overview.look import AskProcesses, KafkaNumbers, OverviewLook
    from processors.audit.chaining import AuditStep
    from processors.audit.resumption import AuditResumption
    from processors.documents.revocations import TokenRevocation
    from processors.documents.search import DocumentSearch
    from processors.documents.second_person import SecondPerson
    from processors.documents.upload_attempts import AbandonedSweep
    from processors.events.renditions import RenditionProcessor
    from processors.operators.dead_letters import OperatorActions
    from processors.operators.document_waits import DocumentWaits
    from processors.operators.keys import KeyAdministration
    from processors.ports.processor import Processor
    from processors.reconcile.owed_events import OwedEvents
    from processors.reconcile.run import Comparison, Reconciliation
    from processors.resilience.restore_guard import RestoreGuard
    from schemas.current_ids import CurrentSchemaIds
    from storage.postgres.delivery.dead_letter_index import PostgresDeadLetterIndex
    from storage.postgres.delivery.dead_letters import PostgresOperatorQueries
    from storage.postgres.delivery.owed_events import PostgresOwedEvents
    from storage.postgres.delivery.refused_rows import PostgresRefusedRowQueries
    from storage.postgres.frozen_sessions import PostgresFrozenSessions
    from storage.postgres.housekeeping import PostgresHousekeeping
    from storage.postgres.overview import PostgresOverview
    from storage.postgres.restores import PostgresRestores
    from streams.apps import ConsumerOffsets
    from streams.consumer import ConsumerRunner
    from streams.delivery import Delivery, Flow, Policy
    from streams.outbox_relay import OutboxRelay
    from streams.pauses import PauseGate

#: How long an answer of Kafka's is waited for.
KAFKA_SECONDS: Final = 10.0
#: Consumers that hold no content and call no server but the database.
LIGHT: Final = frozenset({"audit"})
LIGHT_LANE: Final = 256
LIGHT_CONCURRENCY: Final = 128
#: What a look waits for a broker that may be away; the rest of the look must not wait longer.
OVERVIEW_KAFKA_SECONDS: Final = 4.0


class Site(Adapters):
    """The parts of one process: its adapters, and what is made of them."""

    # --- processors ----------------------------------------------------------------------------------------------

    def processor(self, consumer: str) -> Processor:
        """The processor of a consumer group. Raises KeyError for a name that is none."""
        return _PROCESSORS[consumer](self)

    def integrity(self) -> Processor:
        from processors.events.integrity import IntegrityProcessor
        from runtime.wiring.untrusted_files import create_scanner

        scanner = create_scanner(self.settings, self.metrics, lambda kind, clamd: self._breaker(kind, clamd.check))
        self.readiness_facts["antivirus"] = lambda: self.settings.antivirus
        return IntegrityProcessor(self.database, self.content, self.clock, scanner)

    def renditions(self) -> RenditionProcessor:
        from processors.events.renditions import RenditionProcessor

        return RenditionProcessor(self.database, self.content, self.render_pool, self.guarded_metadata, self.clock)

    def archiving(self) -> Processor:
        from processors.events.archive_copies import ArchiveCopies
        from processors.events.archiving import ArchivingProcessor
        from processors.resilience.guarded_ports import GuardedGed

        ged = GuardedGed(self.ged_repository, self._breaker(GedUnavailable, self.ged_repository.check))
        copies = ArchiveCopies(self.database, self.content, ged, settle_seconds=self.settings.ged_settle)
        return ArchivingProcessor(self.database, copies, self.clock)

    def notification(self) -> Processor:
        from zoneinfo import ZoneInfo

        from notifications.email_smtp import SmtpMailSender, Tls
        from notifications.rendering import MailTemplates
        from processors.events.notification import NotificationProcessor
        from processors.events.operator_mails import OperatorMails
        from processors.resilience.guarded_ports import GuardedMailSender
        from runtime.wiring.untrusted_files import operators_of

        settings = self.settings
        sender = SmtpMailSender(
            settings.smtp_host,
            settings.smtp_port,
            sender=settings.mail_from,
            sender_name=settings.mail_from_name,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
            tls=Tls(settings.smtp_tls),
            context=client_tls(settings) if settings.smtp_tls != "none" else None,
        )
        templates = MailTemplates(zone=ZoneInfo(settings.mail_time_zone), bank=settings.mail_from_name)
        guarded = GuardedMailSender(sender, self._breaker(MailUnavailable, sender.check))
        self.dependencies.add(PersonalKeyMissing.waiting_for, self.texts.check)
        parts = (templates, guarded, self.clock)
        domain = settings.mail_from.rpartition("@")[2]
        operators, mails = operators_of(settings), None
        if operators.addresses:
            mails = OperatorMails(self.database, self.personal, *parts, operators, mail_domain=domain)
        return NotificationProcessor(self.database, self.texts, *parts, mail_domain=domain, operators=mails)

    def audit(self) -> Processor:
        from processors.audit.chaining import AuditProcessor

        return AuditProcessor()

    def audit_steps(self) -> Mapping[str, AuditStep]:
        """What runs beside the audit consumer, by its name: gives lines their places, moves entries to the audit log, signs chains."""
        from crypto.signatures import verifies
        from processors.audit.chaining import AuditChainer, AuditFlusher
        from processors.audit.checkpoints import AuditCheckpointer
        from storage.postgres.audit.chain import PostgresUnchainedLines, PostgresUnflushedEntries
        from storage.postgres.audit.tree import PostgresAuditTrees

        pending = PostgresUnflushedEntries(self.postgres)
        return {
            "chain": AuditChainer(PostgresUnchainedLines(self.postgres)),
            "flush": AuditFlusher(pending, self.audit_store, self.database),
            "checkpoint": AuditCheckpointer(
                PostgresAuditTrees(self.postgres),
                self.signing.signer,
                verifies,
                self.signing.checkpoints,
                self.audit_log,
                pending,
                self.database,
                self.clock,
                entries=self.settings.checkpoint_entries,
                seconds=self.settings.checkpoint_seconds,
            ),
        }

    def operator_actions(self, operator: str) -> OperatorActions:
        """Acts of the operator of that login name. Await ``codec.check`` before: acts are audited, and audit lines encoded."""
        from processors.operators.dead_letters import OperatorActions

        actor = self.operator(operator)
        return OperatorActions(self.database, self.codec, self.clock, actor)

    def second_person_for_keys(self) -> SecondPerson:
        """Whether retiring a key takes two persons, and for how long an order waits."""
        from processors.documents.second_person import SecondPerson

        return SecondPerson(required=self.settings.key_retirement_second_person, hours=self.settings.order_hours)

    def key_administration(self, operator: str, *, actor: str | None = None) -> KeyAdministration:
        """Acts on keys of the operator of that login name, or of the pseudonym ``actor``. Await ``codec.check`` before: acts are audited."""
        from processors.operators.keys import KeyAdministration
        from runtime.wiring.keyrings import create_tenant_keys
        from storage.postgres.keys.canaries import PostgresCanaries
        from storage.postgres.keys.wrapped_keys import PostgresWrappedKeys

        keys = create_tenant_keys(self.settings)
        self.closed_with_us(keys.aclose)
        actor = actor or self.operator(operator)
        wrapped, canaries = PostgresWrappedKeys(self.postgres), PostgresCanaries(self.postgres)
        parts = (keys, wrapped, canaries, self.database, self.clock, actor)
        return KeyAdministration(*parts, self.second_person_for_keys(), self.restore_guard.check)

    def search(self) -> DocumentSearch:
        """Await ``codec.check`` before: searches are audited, and audit lines encoded."""
        from processors.documents.search import DocumentSearch
        from storage.postgres.queries import PostgresQueries

        queries = PostgresQueries(self.postgres)
        return DocumentSearch(self.database, queries, self.texts, self.personal, self.clock)

    def operations(self) -> PostgresOperatorQueries:
        """What is held, and which dead letters were handled."""
        from storage.postgres.delivery.dead_letters import PostgresOperatorQueries

        return PostgresOperatorQueries(self.postgres)

    def letter_index(self) -> PostgresDeadLetterIndex:
        """What PostgreSQL knows of dead letters."""
        from storage.postgres.delivery.dead_letter_index import PostgresDeadLetterIndex

        return PostgresDeadLetterIndex(self.postgres)

    async def fill_letter_index(self, *, anew: bool = False) -> int:
        """See ``operations.kafka.dead_letter_index.fill_index``."""
        from functools import partial

        from operations.kafka.dead_letter_index import fill_index
        from operations.kafka.dead_letters import read_dead_letters_from
        from processors.operators.letter_reader import LetterReader

        settings = self.settings
        read = partial(read_dead_letters_from, settings.kafka_bootstrap, security=kafka_security(settings))
        return await fill_index(self.letter_index(), LetterReader(self.codec), read, anew=anew)

    def document_waits(self, *, kafka_seconds: float = KAFKA_SECONDS) -> DocumentWaits:
        """What one document waits for. ``kafka_seconds``: how long Kafka is waited for before it counts as away."""
        from processors.operators.document_waits import DocumentWaits
        from storage.postgres.pauses import PostgresPauseQueries

        pauses = PostgresPauseQueries(self.postgres)
        read_progress = partial(self.read_progress, deadline=kafka_seconds)
        return DocumentWaits(self.owed_rows(), self.operations(), pauses, read_progress)

    def refusals(self) -> PostgresRefusedRowQueries:
        """Outbox rows that Kafka refuses."""
        from storage.postgres.delivery.refused_rows import PostgresRefusedRowQueries

        return PostgresRefusedRowQueries(self.postgres)

    def audit_resumption(self, actor: str) -> AuditResumption:
        """``actor``: the operator's pseudonym. Await ``codec.check`` before: what it does is audited."""
        from crypto.signatures import verifies
        from processors.audit.resumption import AuditResumption

        signing = self.signing
        parts = (self.database, self.audit_log, signing.checkpoints, signing.signer, verifies, self.clock)
        return AuditResumption(*parts, actor)

    def owed_rows(self) -> PostgresOwedEvents:
        """Published outbox rows against the inbox."""
        from domain.consumers import readers
        from storage.postgres.delivery.owed_events import PostgresOwedEvents

        return PostgresOwedEvents(self.postgres, readers(), keep_hours=self.settings.outbox_keep_hours)

    def owed_events(self) -> OwedEvents:
        """Await ``codec.check`` before events are sent again: that is audited."""
        from processors.reconcile.owed_events import OwedEvents

        return OwedEvents(self.owed_rows(), self.read_progress, self.database, self.clock)

    async def measure_lag(self, *, deadline: float = KAFKA_SECONDS) -> Sequence[PartitionLag]:
        """The lag of every group, without ages; ``deadline`` in seconds. Raises BrokerUnavailable."""
        from domain.consumers import groups
        from operations.kafka.lag import measure

        settings = self.settings
        return await asyncio.to_thread(
            measure,
            settings.kafka_bootstrap,
            groups(),
            ages=False,
            deadline=deadline,
            security=kafka_security(settings),
        )

    def overview(self, ask_processes: AskProcesses) -> OverviewLook:
        """How late the whole pipeline is. ``ask_processes``: see ``runtime.processes.process_answers``."""
        from operations.overview.look import OverviewLook

        return OverviewLook(self.overview_rows(), self.kafka_numbers, ask_processes, self.clock)

    def overview_rows(self) -> PostgresOverview:
        """What waits in PostgreSQL, and the history of it."""
        from domain.consumers import readers
        from storage.postgres.overview import PostgresOverview

        return PostgresOverview(self.postgres, readers())

    async def kafka_numbers(self) -> KafkaNumbers:
        """The lag of every group with ages, and how long topics keep records. Raises BrokerUnavailable."""
        from domain.consumers import groups
        from operations.kafka.lag import measure
        from operations.kafka.topics import retentions
        from operations.overview.look import KafkaNumbers

        kafka, security = self.settings.kafka_bootstrap, kafka_security(self.settings)
        topics = {topic for names in groups().values() for topic in names}

        def read() -> KafkaNumbers:
            kept = retentions(kafka, topics, deadline=OVERVIEW_KAFKA_SECONDS, security=security)
            return KafkaNumbers(measure(kafka, groups(), deadline=OVERVIEW_KAFKA_SECONDS, security=security), kept)

        return await asyncio.to_thread(read)

    async def read_progress(self, *, deadline: float = KAFKA_SECONDS) -> Progress:
        """How far every group is; ``deadline`` in seconds. Raises BrokerUnavailable."""
        from operations.kafka.lag import progress_of

        return progress_of(await self.measure_lag(deadline=deadline))

    def revocation(self) -> TokenRevocation:
        """Await ``codec.check`` before: acts are audited, and audit lines encoded."""
        from processors.documents.revocations import TokenRevocation

        return TokenRevocation(
            self.revocations,
            self.database,
            self.personal,
            self.clock,
            longest_token=self.settings.jwt_longest_hours * 3600,
            longest_session=self.settings.jwt_session_hours * 3600,
            longest_link=self.settings.link_longest_seconds,
        )

    def frozen_sessions(self) -> PostgresFrozenSessions:
        from storage.postgres.frozen_sessions import PostgresFrozenSessions

        return PostgresFrozenSessions(self.postgres)

    def housekeeping(self) -> PostgresHousekeeping:
        from operations.kafka.topics import SEGMENT_DAYS
        from storage.postgres.housekeeping import PostgresHousekeeping

        settings = self.settings
        # Reconciling finds what abandoned uploads left by their rows: it must have had its time twice before they go.
        reconciled = 2 * (settings.reconcile_grace + settings.reconcile_interval) / 3600
        return PostgresHousekeeping(
            self.postgres,
            keep_days=settings.inbox_keep_days,
            idempotency_hours=settings.idempotency_keep_hours,
            abandoned_hours=max(settings.abandoned_keep_hours, reconciled),
            letters_days=settings.topic_retention_days + SEGMENT_DAYS,
        )

    @cached_property
    def restores(self) -> PostgresRestores:
        """Restores on record."""
        from storage.postgres.restores import PostgresRestores

        return PostgresRestores(self.postgres)

    @cached_property
    def restore_guard(self) -> RestoreGuard:
        """What every deletion that no person asked for waits for."""
        from processors.resilience.restore_guard import RestoreGuard
        from storage.postgres.audit.chain import PostgresUnflushedEntries
        from storage.postgres.restores import PostgresTakenCheckpoints

        chains, taken = PostgresUnflushedEntries(self.postgres), PostgresTakenCheckpoints(self.postgres)
        log = (lambda: self.audit_log) if self.settings.audit_store == "mongodb" else None
        return RestoreGuard(self.restores, chains, taken, log, lambda: self.signing.checkpoints, self._is_signed)

    async def _is_signed(self, tenant: str, size: int) -> bool:
        """Whether the checkpoint store has a checkpoint of ours there. Raises CheckpointStoreUnavailable or KeyringUnavailable."""
        from crypto.signatures import verifies
        from domain.errors import CheckpointConflict
        from processors.audit.stored_checkpoints import load_stored

        signing = self.signing
        try:
            return await load_stored(signing.checkpoints, signing.signer, verifies, tenant, size) is not None
        except CheckpointConflict:
            return False

    def sweep(self) -> AbandonedSweep:
        from processors.documents.abandoned_objects import AbandonedObjects
        from processors.documents.upload_attempts import AbandonedSweep

        return AbandonedSweep(self.database, AbandonedObjects(self.object_store))

    def reconcile(self, *, grace: float | None = None, ged_hours: float | None = None) -> Reconciliation:
        """``grace`` in seconds and ``ged_hours``, if not as the settings say. Await ``codec.check`` before: repairs are
        audited. Raises ValueError if the grace is not longer than an upload's lease."""
        from processors.events.archive_copies import CopyRemover
        from processors.reconcile.erased import ErasedDocumentsCheck
        from processors.reconcile.ged import GedCopiesCheck
        from processors.reconcile.lost_events import LostEventsCheck
        from processors.reconcile.metadata import MetadataCheck
        from processors.reconcile.object_store import check_stored_objects
        from processors.reconcile.run import Reconciliation
        from processors.reconcile.uploads import check_expired_uploads, check_unfinished_puts
        from storage.postgres.inventory import PostgresInventory
        from storage.postgres.restores import PostgresRenderedDocuments

        settings = self.settings
        grace = settings.reconcile_grace if grace is None else grace
        hours = settings.reconcile_ged_hours if ged_hours is None else ged_hours
        guard = self.restore_guard
        if grace <= settings.upload_lease:
            raise ValueError("the grace must be longer than DPJ_UPLOAD_LEASE")
        parts: dict[str, Comparison] = {
            "uploads": check_expired_uploads,
            "unfinished puts": check_unfinished_puts,
            "objects": check_stored_objects,
            "events": LostEventsCheck(self.owed_events(), after_seconds=settings.events_lost_after).check,
        }
        if hours > 0:
            parts["GED"] = GedCopiesCheck(self.ged_repository, hours=hours)
            remover = CopyRemover(self.database, self.ged_repository)
            parts["erased"] = ErasedDocumentsCheck(self.ged_repository, remover, self.extended_metadata, hours=hours)
        parts["metadata"] = MetadataCheck(PostgresRenderedDocuments(self.postgres), self.extended_metadata)
        return Reconciliation(
            self.database,
            PostgresInventory(self.postgres),
            self.object_store,
            self.clock,
            parts,
            grace_seconds=grace,
            may_delete=guard.check,
            recheck=guard.recheck,
        )

    # --- drivers -------------------------------------------------------------------------------------------------

    def policy(self, name: str) -> Policy:
        """The bounds of the consumer ``name``. One that works in PostgreSQL alone has more of its events under way at once."""
        from streams.delivery import Policy

        settings = self.settings
        light = name in LIGHT
        return Policy(
            lane_size=max(settings.lane_size, LIGHT_LANE if light else 0),
            lane_concurrency=max(settings.lane_concurrency, LIGHT_CONCURRENCY if light else 0),
            lease=settings.event_lease,
            deadline=settings.event_deadline,
            bug_retries=settings.bug_retries,
            retry_base=settings.retry_base,
            retry_cap=settings.retry_cap,
        )

    def consumer(self, name: str, scratch: str) -> ConsumerRunner:
        """A member of the consumer group of ``name``."""
        from storage.postgres.delivery.dead_letters import PostgresHeldEventList
        from storage.postgres.delivery.inbox import PostgresInbox
        from streams.agents import AGENTS
        from streams.apps import ConsumerSettings
        from streams.consumer import ConsumerRunner
        from streams.delivery import Delivery

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
                held=PostgresHeldEventList(self.postgres),
                pause=self.dependencies.pause,
                gate=self.pause_gate,
            )

        consumer_settings = ConsumerSettings(
            bootstrap=settings.kafka_bootstrap,
            scratch=scratch,
            session_seconds=settings.group_session,
            drain=settings.drain_seconds,
            security=kafka_security(settings),
            tls=kafka_tls(settings),
        )
        return ConsumerRunner(
            name, AGENTS[name].topics, consumer_settings, create_delivery, observer=self.delivery_metrics
        )

    @cached_property
    def pause_gate(self) -> PauseGate:
        """What this process knows of paused consumers; somebody has to refresh it."""
        from storage.postgres.pauses import PostgresPauseQueries
        from streams.pauses import PauseGate

        return PauseGate(PostgresPauseQueries(self.postgres).remaining)

    def relay(self) -> OutboxRelay:
        from runtime.observability.telemetry import RelayMetrics
        from storage.postgres.delivery.outbox import PostgresOutboxSource
        from streams.librdkafka import create_producer
        from streams.outbox_relay import OutboxRelay

        settings = self.settings
        return OutboxRelay(
            PostgresOutboxSource(settings.postgres_dsn.get_secret_value()),
            lambda: create_producer(settings.kafka_bootstrap, kafka_security(settings)),
            RelayMetrics(self.metrics),
            batch=settings.relay_batch,
            rewrite=self.schema_ids.with_current_id,
        )

    @cached_property
    def schema_ids(self) -> CurrentSchemaIds:
        """The ids that the registry has now."""
        from schemas.current_ids import CurrentSchemaIds

        return CurrentSchemaIds(self.registry)


_PROCESSORS: Final[dict[str, Callable[[Site], Processor]]] = {
    "integrity": Site.integrity,
    "renditions": Site.renditions,
    "archiving": Site.archiving,
    "notification": Site.notification,
    "audit": Site.audit,
}
