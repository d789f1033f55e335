"""What the console is made of. Loads its framework: only the console's process imports this module."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from console.dependencies import RUNBOOK, ConsoleDependencies
from console.latest_overview import LatestOverview
from console.pages_sign_in import SIGN_IN, SIGNED_IN
from console.shared_look import SharedLook
from domain.consumers import readers
from domain.documents import Document, Rendition, Role
from domain.refusals import ContentNotAvailable
from identity.oidc import OidcClient, OidcSignIn
from identity.sessions import Sessions
from identity.tokens import Identity
from operations.audit.acts import ActsReader
from operations.audit.verify import AUDIT_VERIFIED
from operations.overview.look import AskProcesses
from processors.documents.reading import DocumentReader
from processors.operators.document_details import DocumentInspection
from processors.operators.restore_steps import last_look
from processors.resilience.restore_guard import ServingGate
from runtime.config.transport import https_tls
from runtime.errors import CommandFailed
from runtime.wiring.access import token_authenticator
from runtime.wiring.operators import erasure_requests, operator_desk
from storage.postgres.audit.chain import PostgresUnflushedEntries
from storage.postgres.audit.chain_states import PostgresChainStates
from storage.postgres.audit.tree import PostgresInclusionProofs
from storage.postgres.batches import PostgresBatchQueries
from storage.postgres.delivery.stopped_steps import PostgresStoppedSteps
from storage.postgres.periodic_jobs import PostgresPeriodicJobs
from storage.postgres.queries import PostgresQueries

if TYPE_CHECKING:
    from runtime.wiring.site import Site
    from storage.postgres.delivery.dead_letters import PostgresOperatorQueries
    from storage.postgres.delivery.owed_events import PostgresOwedEvents

CHECKOUT: Final = Path(__file__).resolve().parent.parent.parent
#: A page must not wait for long for a broker that is away.
KAFKA_SECONDS: Final = 2.0
#: Held events whose documents a search shows at most.
MOST_HELD: Final = 1_000
#: The tenant in whose chain the acts of a development's operator are.
DEVELOPMENT_TENANT: Final = "demo"
#: A look for lost events reads every row that waits for its consumers, which can be many: it is shown for so long.
LOST_FRESH_SECONDS: Final = 10.0
LOST_STALE_SECONDS: Final = 60.0


class NoContent:
    """Opens nothing: the console has neither keys nor an object store, and shows nobody's content."""

    def read(self, document: Document) -> AsyncIterator[bytes]:
        raise ContentNotAvailable(f"The console does not open document {document.id}.")

    def read_range(self, document: Document, start: int, end: int) -> AsyncIterator[bytes]:
        raise ContentNotAvailable(f"The console does not open {start} to {end} of document {document.id}.")

    def read_rendition(self, document: Document, rendition: Rendition) -> AsyncIterator[bytes]:
        raise ContentNotAvailable(f"The console does not open {rendition.role} of document {document.id}.")


def console_dependencies(site: Site, stopping: asyncio.Event, ask_processes: AskProcesses) -> ConsoleDependencies:
    """The use cases of the console, each with the adapters of ``site``. ``ask_processes``: what the site's processes say of
    themselves. Raises CommandFailed if nobody could sign in."""
    settings = site.settings
    development = settings.console_sign_in == "development"
    if not development and not settings.console_client_id:
        raise CommandFailed(
            "DPJ_CONSOLE_CLIENT_ID is not set: the identity provider does not know the console.",
            "Register the console there; docs/OPERATIONS.md says how.",
        )
    queries = PostgresQueries(site.postgres)
    return ConsoleDependencies(
        sessions=Sessions(
            site.database,
            site.personal,
            site.clock,
            revoked=site.revoked_tokens,
            longest=settings.console_session_hours * 3600,
            idle=settings.console_idle_minutes * 60,
        ),
        tenants=site.tenants,
        reading=DocumentReader(
            site.database,
            queries,
            PostgresStoppedSteps(site.postgres, readers()),
            NoContent(),
            site.personal,
            site.clock,
        ),
        search=site.search(),
        inspection=DocumentInspection(site.database, PostgresInclusionProofs(site.postgres), site.personal, site.clock),
        desk=operator_desk(site),
        erasing=erasure_requests(site),
        held=site.operations().held,
        keys_waiting_for=partial(_keys_waiting_for, site.operations()),
        keys_of_trace=partial(_keys_of_trace, queries, site.owed_rows()),
        lost=SharedLook(
            partial(site.owed_events().look, after_seconds=settings.events_lost_after),
            fresh=LOST_FRESH_SECONDS,
            stale=LOST_STALE_SECONDS,
        ),
        last_look=partial(last_look, PostgresBatchQueries(site.postgres)),
        refused=site.refusals().refused,
        waits=site.document_waits(kafka_seconds=KAFKA_SECONDS),
        overview=LatestOverview(site.overview(ask_processes).look),
        chains=PostgresChainStates(site.postgres),
        acts=ActsReader(site.audit_log, PostgresUnflushedEntries(site.postgres)),
        verified_age=partial(PostgresPeriodicJobs(site.postgres).age, AUDIT_VERIFIED),
        step_up=timedelta(minutes=settings.console_step_up_minutes),
        step_up_acr=settings.console_step_up_acr,
        runbook_url=settings.console_runbook_url or RUNBOOK,
        runbook_file=CHECKOUT / "docs" / "OPERATIONS.md",
        checkpoint_seconds=settings.checkpoint_seconds,
        document_types=queries.types,
        zone=ZoneInfo(settings.mail_time_zone),
        development=_development if development else None,
        oidc=None if development else _oidc(site),
        may_serve=ServingGate(site.restores, site.restore_guard).check,
        checks={"postgresql": site.postgres.check},
        registry=site.metrics,
        public_url=settings.console_public_url,
        stopping=stopping,
    )


async def _keys_waiting_for(held: PostgresOperatorQueries, dependency: str) -> Sequence[str]:
    return [one.event.document_key for one in await held.held(MOST_HELD, waiting_for=dependency)]


async def _keys_of_trace(queries: PostgresQueries, owed: PostgresOwedEvents, trace_id: str) -> Sequence[str]:
    """Of documents that were uploaded in it, and of those that something else in it is about, while its events are on their way."""
    return [*map(str, await queries.uploaded_in(trace_id)), *await owed.keys_of_trace(trace_id)]


def _oidc(site: Site) -> OidcSignIn:
    settings = site.settings
    client = OidcClient(
        issuer=settings.jwt_issuer,
        client_id=settings.console_client_id,
        secret=settings.console_client_secret.get_secret_value(),
        redirect_uri=f"{settings.console_url}{SIGNED_IN}",
        signed_out_uri=f"{settings.console_url}{SIGN_IN}",
        scope=settings.console_scope,
        step_up_acr=settings.console_step_up_acr,
    )
    tls = https_tls(settings, settings.jwt_issuer, ca_file=settings.jwks_ca_file)
    return OidcSignIn(
        client,
        site.signing_keys,
        token_authenticator(settings, site.signing_keys, site.revoked_tokens),
        tls=tls,
    )


def _development(role: Role) -> Identity:
    """Whoever says that he is that."""
    return Identity(f"development-{role.value}", DEVELOPMENT_TENANT, frozenset({role}))
