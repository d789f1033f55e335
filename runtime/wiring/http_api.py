"""What the HTTP API is made of. Loads its framework: only the API's process imports this module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto.link_tokens import LinkSigner
from crypto.signatures import verifies
from domain.consumers import readers
from domain.errors import PersonalKeyMissing, RevocationsUnavailable
from ingest_api.dependencies import ApiDependencies
from ingest_api.sniffing import MagicSniffer
from processors.audit.receipts import Receipts
from processors.documents.dossiers import DossierFiles
from processors.documents.intake import Intake
from processors.documents.links import DocumentLinks
from processors.documents.reading import DocumentReader
from processors.documents.upload_attempts import UploadAttempts
from processors.documents.validation import Validation
from processors.resilience.restore_guard import ServingGate
from processors.resilience.write_probe import WriteProbe
from processors.retention.legal_holds import RetentionActions
from runtime.wiring.access import rate_limits, token_authenticator
from runtime.wiring.operators import erasure_requests, operator_desk
from storage.postgres.audit.tree import PostgresInclusionProofs
from storage.postgres.delivery.stopped_steps import PostgresStoppedSteps
from storage.postgres.queries import PostgresQueries

if TYPE_CHECKING:
    from runtime.wiring.site import Site


def api_dependencies(site: Site) -> ApiDependencies:
    """The use cases of the API, each with the adapters of ``site``."""
    settings = site.settings
    attempts = UploadAttempts(site.database, site.content, site.clock, lease_seconds=settings.upload_lease)
    scanned_only = settings.antivirus != "off"
    # Schemas of the repository are there or the process is not.
    registry = {"schema_registry": site.codec.check} if settings.schema_registry == "server" else {}
    return ApiDependencies(
        intake=Intake(
            site.database,
            site.content,
            attempts,
            MagicSniffer(),
            site.personal,
            site.texts,
            site.clock,
            match_extension=settings.upload_match_extension,
        ),
        reading=DocumentReader(
            site.database,
            PostgresQueries(site.postgres),
            PostgresStoppedSteps(site.postgres, readers()),
            site.content,
            site.personal,
            site.clock,
            scanned_only=scanned_only,
        ),
        search=site.search(),
        texts=site.texts,
        validation=Validation(
            site.database, site.personal, site.texts, site.clock, duties_separated=settings.duties_separated
        ),
        dossiers=DossierFiles(site.database, site.personal, site.clock),
        revocation=site.revocation(),
        links=DocumentLinks(
            site.database,
            site.content,
            LinkSigner.from_file(settings.link_key_file) if settings.link_key_file else None,
            site.personal,
            site.clock,
            site.revoked_tokens,
            longest=settings.link_longest_seconds,
            scanned_only=scanned_only,
        ),
        erasure_requests=erasure_requests(site),
        retention=RetentionActions(site.database, site.personal, site.clock),
        receipts=Receipts(
            site.database,
            PostgresInclusionProofs(site.postgres),
            site.signing.signer,
            verifies,
            site.personal,
            site.clock,
            seconds=settings.checkpoint_seconds,
        ),
        operator_desk=operator_desk(site),
        tenants=site.tenants,
        may_serve=ServingGate(site.restores, site.restore_guard).check,
        authenticator=token_authenticator(settings, site.signing_keys, site.revoked_tokens),
        limits=rate_limits(settings, site.closed_with_us),
        readiness={
            "postgresql": site.postgres.check,
            "object_store": WriteProbe(site.object_store, site.objects.check).check,
            "keyring": site.keyring.check,
            PersonalKeyMissing.waiting_for: site.texts.check,
            **registry,
            "signing_keys": site.signing_keys.check,
            RevocationsUnavailable.waiting_for: site.revoked_tokens.refresh,
        },
        circuits=lambda: site.dependencies.circuits,
        registry=site.metrics,
        body_timeout=settings.body_timeout,
        public_url=settings.api_public_url,
        cors_origins=tuple(one.strip() for one in settings.api_cors_origins.split(",") if one.strip()),
    )
