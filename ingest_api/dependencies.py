"""What the API is given, and who is calling it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, FastAPI, Request
from prometheus_client import CollectorRegistry

from domain.errors import IdentityUnavailable
from domain.refusals import Forbidden, ParameterInvalid, Unauthenticated
from identity.tokens import Identity
from ingest_api.client_addresses import client_key
from ingest_api.field_errors import shows
from ingest_api.metrics import ApiMetrics
from ingest_api.middleware import CORRELATION_STATE, QUOTA_STATE
from ingest_api.rate_limits import UNLIMITED, QuotaName, RateLimits
from ingest_api.readiness import Check, Readiness
from ingest_api.route_authorization import ACCESS, OF_DOCUMENTS, PublicRoute, rule_of
from processors.audit.receipts import Receipts
from processors.documents.callers import ALL_TENANTS, Caller, LinkVisitor
from processors.documents.dossiers import DossierFiles
from processors.documents.intake import Intake
from processors.documents.links import DocumentLinks
from processors.documents.personal_texts import PersonalTexts
from processors.documents.reading import DocumentReader
from processors.documents.revocations import TokenRevocation
from processors.documents.search import DocumentSearch
from processors.documents.validation import Validation
from processors.operators.desk import OperatorDesk
from processors.ports.restores import unguarded
from processors.retention.erasure_request import ErasureRequests
from processors.retention.legal_holds import RetentionActions

MAX_USER_AGENT: Final = 256


class TenantCheck(Protocol):
    async def check(self, tenant: str) -> None:
        """Raises TenantUnknown or DatabaseUnavailable."""
        ...


class Authenticator(Protocol):
    async def authenticate(self, token: str) -> Identity:
        """Raises Unauthenticated, IdentityUnavailable or RevocationsUnavailable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDependencies:
    """Use cases and surroundings. ``readiness`` holds a check per dependency, ``circuits`` gives the breakers' states;
    ``body_timeout`` is per read, in seconds. ``public_url``: what stands before the path in links, empty for links without an address.
    ``may_serve`` is awaited before anything of a document is given out. ``cors_origins``: origins whose pages may call the API from a browser.
    """

    intake: Intake
    reading: DocumentReader
    search: DocumentSearch
    texts: PersonalTexts
    validation: Validation
    dossiers: DossierFiles
    revocation: TokenRevocation
    links: DocumentLinks
    receipts: Receipts
    erasure_requests: ErasureRequests
    retention: RetentionActions
    operator_desk: OperatorDesk
    authenticator: Authenticator
    tenants: TenantCheck
    may_serve: Callable[[], Awaitable[None]] = unguarded
    limits: RateLimits = UNLIMITED
    readiness: Mapping[str, Check] = field(default_factory=dict)
    circuits: Callable[[], Mapping[str, str]] = dict
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    body_timeout: float = 30.0
    public_url: str = ""
    cors_origins: tuple[str, ...] = ()


#: Makes the OpenAPI document of an application.
Describe = Callable[[FastAPI], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class AppState:
    """What ``create_app`` leaves in the application's state for the routes."""

    deps: ApiDependencies
    metrics: ApiMetrics
    readiness: Readiness
    describe: Describe


def app_state(request: Request) -> AppState:
    """The application's surroundings."""
    found = request.app.state.app_state
    if not isinstance(found, AppState):
        raise TypeError("the application was made without dependencies")
    return found


async def authorised(request: Request) -> Caller:
    """The caller, if its token is good, the access table lets it, and it does not call too often.

    Raises Unauthenticated, TenantUnknown, Forbidden, RateLimited, RestoreUnderWay, or ParameterInvalid for a query parameter that the route
    does not know: a filter that is misspelt must not list everything.
    """
    deps = app_state(request).deps
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send a Bearer token.")
        identity = await deps.authenticator.authenticate(token.strip())
    except Unauthenticated:
        # Counted by address, and only what fails: who has a good token is not kept out by others behind the same gateway.
        await count_failure(request)
        raise
    except IdentityUnavailable:
        # The token may be good: no failure of its sender's. Whoever floods us meanwhile is bounded as one who has none.
        await deps.limits.count(QuotaName.CLIENT, _address(request))
        raise
    rule = rule_of(request.scope["route"].name)
    # What the route's own quota, which is the one that the client is told of, lets pass counts among all its calls as well.
    client = f"{identity.tenant}/{identity.subject}"
    quota = await deps.limits.count(rule.limit, client)
    if rule.limit is not QuotaName.CLIENT:
        among_all = await deps.limits.count(QuotaName.CLIENT, client)
        quota = quota or among_all
    request.scope["state"][QUOTA_STATE] = quota
    await deps.tenants.check(identity.tenant)
    if rule.own.isdisjoint(identity.roles):
        raise Forbidden("The token's roles do not allow this action.")
    if request.scope["route"].name in OF_DOCUMENTS:
        await deps.may_serve()
    _refuse_unknown_parameters(request)
    return Caller(
        subject=identity.subject,
        tenant=identity.tenant,
        roles=identity.roles,
        correlation_id=request.scope["state"][CORRELATION_STATE],
        ip=request.client.host if request.client else None,
        user_agent=request.headers.get("user-agent", "")[:MAX_USER_AGENT] or None,
        own_tenant_only=rule.other.isdisjoint(identity.roles),
        marks=identity.marks,
        bound_to=identity.bound_to,
        as_tenant=not (rule.own & identity.roles).issubset(ALL_TENANTS),
    )


async def admitted(request: Request) -> None:
    """Let in who has no token, as often as the access table says, by address. Raises RateLimited or RestoreUnderWay."""
    name = request.scope["route"].name
    rule = ACCESS[name]
    if isinstance(rule, PublicRoute) and rule.limit is not None:
        quota = await app_state(request).deps.limits.count(rule.limit, _address(request))
        request.scope["state"][QUOTA_STATE] = quota
    if name in OF_DOCUMENTS:
        await app_state(request).deps.may_serve()


async def count_failure(request: Request) -> None:
    """One more time that an address came with what is not good. Raises RateLimited."""
    await app_state(request).deps.limits.count(QuotaName.FAILURES, _address(request))


def visitor_of(request: Request) -> LinkVisitor:
    """Who comes without a token, as far as that is known."""
    return LinkVisitor(
        correlation_id=request.scope["state"][CORRELATION_STATE],
        ip=request.client.host if request.client else None,
        user_agent=request.headers.get("user-agent", "")[:MAX_USER_AGENT] or None,
    )


def _address(request: Request) -> str:
    """What is counted as one address; what is audited is the whole one."""
    return client_key(request.client.host) if request.client else ""


def _refuse_unknown_parameters(request: Request) -> None:
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    if not known.issuperset(request.query_params):
        names = ", ".join(sorted(known)) or "none"
        unknown = sorted(name for name in set(request.query_params) - known if shows(name))
        named = f" ({', '.join(unknown[:8])})" if unknown else ""
        raise ParameterInvalid(f"There is no such query parameter here{named}; known: {names}.")


async def _app_state(request: Request) -> AppState:
    # A coroutine, because what is none is called in a thread.
    return app_state(request)


InjectedState = Annotated[AppState, Depends(_app_state)]
Authorised = Annotated[Caller, Depends(authorised)]
Admitted = Depends(admitted)
