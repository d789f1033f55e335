"""What the console is given, and who is looking at it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, quote
from uuid import uuid4

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry
from starlette.responses import HTMLResponse

from console.languages import Texts, language_of
from console.latest_overview import LatestOverview
from console.navigation import places_for
from console.rendering import html, render
from console.security import is_from_us
from console.shared_look import SharedLook
from domain.dead_letters import HeldEventStatus, RefusedRow
from domain.documents import DocumentType, Role
from domain.refusals import Forbidden, ParameterInvalid
from identity.oidc import OidcSignIn
from identity.sessions import Session, Sessions
from identity.tokens import Identity
from operations.audit.acts import ActsReader, ChainStates
from processors.documents.callers import Caller
from processors.documents.known_tenants import KnownTenants
from processors.documents.reading import DocumentReader
from processors.documents.search import DocumentSearch
from processors.operators.desk import OperatorDesk
from processors.operators.document_details import DocumentInspection
from processors.operators.document_waits import DocumentWaits
from processors.operators.restore_steps import LastLook
from processors.ports.restores import unguarded
from processors.reconcile.owed_events import OwedReport
from processors.retention.erasure_request import ErasureRequests

MAX_USER_AGENT: Final = 256
#: A form of ours has a few fields.
MAX_FORM_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 50
#: The page of ours that shows the runbook.
RUNBOOK: Final = "/runbook"
CSRF_FIELD: Final = "csrf"
#: Roles that the console is for; others that a person has count for nothing here.
CONSOLE_ROLES: Final = frozenset({Role.OPERATOR, Role.AUDITOR})

#: Returns if a dependency can serve, raises otherwise.
Check = Callable[[], Awaitable[None]]
#: Who signs in as a role where nobody checks who it is.
DevelopmentSignIn = Callable[[Role], Identity]


class SignInNeeded(Exception):
    """Nobody is signed in, or no longer."""


class FormRefused(Exception):
    """A form did not come from a page of ours, or from one of a session that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleDependencies:
    """Use cases and surroundings. ``development``: the sign-in that asks for nothing; ``oidc``: the one at the
    identity provider; one of the two is there. ``held``, ``refused``: held
    events and refused outbox rows, so many at most; ``keys_waiting_for``: keys of documents whose events are held for a dependency;
    ``keys_of_trace``: of those that were uploaded in a trace (32 hexadecimal digits), or of which an event of it is on its way; ``lost``: events that Kafka brings no more; ``last_look``: what the newest look at a
    restore has found. ``public_url``: scheme, host and
    port that browsers reach us by, empty for this machine alone. ``verified_age``: seconds since the whole audit log was last found
    intact. ``runbook_url``: where docs/OPERATIONS.md is read; ``runbook_file``: where it is, for a page of ours. ``may_serve`` is awaited before anything of a document is shown.
    ``step_up``: how long ago whoever acts without a way back may have said who he is, in the authentication context ``step_up_acr``.
    ``stopping`` is set when the process is told to stop: streams end then."""

    sessions: Sessions
    tenants: KnownTenants
    reading: DocumentReader
    search: DocumentSearch
    inspection: DocumentInspection
    waits: DocumentWaits
    desk: OperatorDesk
    erasing: ErasureRequests
    held: Callable[[int], Awaitable[Sequence[HeldEventStatus]]]
    refused: Callable[[int], Awaitable[Sequence[RefusedRow]]]
    keys_waiting_for: Callable[[str], Awaitable[Sequence[str]]]
    keys_of_trace: Callable[[str], Awaitable[Sequence[str]]]
    lost: SharedLook[OwedReport]
    last_look: Callable[[], Awaitable[LastLook | None]]
    overview: LatestOverview
    chains: ChainStates
    acts: ActsReader
    verified_age: Callable[[], Awaitable[float | None]]
    document_types: Callable[[], Awaitable[Sequence[DocumentType]]]
    checkpoint_seconds: float = 300.0
    step_up: timedelta = timedelta(minutes=5)
    step_up_acr: str = ""
    runbook_url: str = RUNBOOK
    runbook_file: Path | None = None
    zone: tzinfo = UTC
    development: DevelopmentSignIn | None = None
    oidc: OidcSignIn | None = None
    may_serve: Callable[[], Awaitable[None]] = unguarded
    checks: Mapping[str, Check] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    public_url: str = ""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def runbook(self, section: str) -> str:
        """Where the section of docs/OPERATIONS.md with that anchor is read."""
        return f"{self.runbook_url}#{section}"

    @property
    def secure(self) -> bool:
        """Whether browsers reach us over TLS."""
        return self.public_url.startswith("https://")

    @property
    def session_cookie(self) -> str:
        """``__Host-`` binds a cookie to this very host, over TLS (RFC 6265bis, section 4.1.3.2)."""
        return "__Host-dpj-console" if self.secure else "dpj-console"

    @property
    def before_cookie(self) -> str:
        """The cookie of a browser that is about to sign in."""
        return f"{self.session_cookie}-before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who is looking. ``csrf``: what a form of this session has to bring along; ``path``: the page, for links back to it."""

    session: Session
    caller: Caller
    texts: Texts
    csrf: str = field(repr=False)
    path: str
    zone: tzinfo

    @property
    def is_operator(self) -> bool:
        return Role.OPERATOR in self.caller.roles

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A whole page for this visitor."""
        return html(self.part(template, **values), status)

    def part(self, template: str, **values: Any) -> str:
        """The text of a page or of a part of one."""
        given = {"visitor": self, "path": self.path, "places": places_for(self.caller.bound_to is not None), **values}
        return render(template, self.texts, self.zone, given)


def dependencies(request: Request) -> ConsoleDependencies:
    """The application's surroundings."""
    found = request.app.state.dependencies
    if not isinstance(found, ConsoleDependencies):
        raise TypeError("the application was made without dependencies")
    return found


async def visitor(request: Request) -> Visitor:
    """Who is signed in. Raises SignInNeeded, DatabaseUnavailable or RevocationsUnavailable."""
    return await _visitor(request, active=True)


async def watcher(request: Request) -> Visitor:
    """The same for what a page asks for by itself, which keeps nobody signed in."""
    return await _visitor(request, active=False)


async def overseer(request: Request) -> Visitor:
    """Who may see what concerns all tenants. Raises Forbidden for one who is bound to some."""
    found = await visitor(request)
    return _unbound(found)


async def watching_overseer(request: Request) -> Visitor:
    return _unbound(await watcher(request))


def _unbound(found: Visitor) -> Visitor:
    if found.caller.bound_to is not None:
        raise Forbidden("This concerns all tenants, and you are bound to some.")
    return found


async def _visitor(request: Request, *, active: bool) -> Visitor:
    deps = dependencies(request)
    value = request.cookies.get(deps.session_cookie, "")
    session = await deps.sessions.find(value, active=active) if value else None
    if session is None:
        raise SignInNeeded
    identity = session.identity
    roles = identity.roles & CONSOLE_ROLES
    if not roles:
        raise SignInNeeded
    caller = Caller(
        subject=identity.subject,
        tenant=identity.tenant,
        roles=roles,
        correlation_id=uuid4(),
        ip=request.client.host if request.client else None,
        user_agent=request.headers.get("user-agent", "")[:MAX_USER_AGENT] or None,
        marks=identity.marks,
        bound_to=identity.bound_to,
        as_tenant=False,
    )
    query = f"?{request.url.query}" if request.url.query else ""
    return Visitor(
        session=session,
        caller=caller,
        texts=Texts(language_of(request)),
        csrf=csrf_of(value),
        path=request.url.path + query,
        zone=deps.zone,
    )


def csrf_of(cookie: str) -> str:
    """What a form brings along: it follows from the cookie, which no page of another site can read, and does not lead back to it."""
    return (
        base64.urlsafe_b64encode(hashlib.sha256(b"dpj console form\0" + cookie.encode()).digest()).decode().rstrip("=")
    )


async def posted(request: Request) -> Mapping[str, str]:
    """The fields of a form that a signed-in person sent from a page of ours. Raises FormRefused or ParameterInvalid."""
    return await form_of(request, dependencies(request).session_cookie)


async def form_of(request: Request, cookie_name: str) -> Mapping[str, str]:
    """The fields of a form whose page had the cookie of that name. Raises FormRefused, or ParameterInvalid for a body that is no form of
    ours."""
    deps = dependencies(request)
    fields = await fields_of(request)
    cookie = request.cookies.get(cookie_name, "")
    token = fields.pop(CSRF_FIELD, "")
    # Of equal length and no secret of the server's: the time of a comparison tells nothing that helps.
    if not is_from_us(request.headers, deps.public_url) or not cookie or token != csrf_of(cookie):
        raise FormRefused
    return fields


async def fields_of(request: Request) -> dict[str, str]:
    """The fields of a form, each once. Raises ParameterInvalid for a body that is none, or longer than a form of ours can be."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise ParameterInvalid("The body is no form.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise ParameterInvalid("The form is too long.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise ParameterInvalid("The body is no form.") from None


def local_path(text: str) -> str:
    """A path of ours to go on to, or the first page: never another host."""
    is_path = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return quote(text, safe="/?&=%+:,;@-._~") if is_path and len(text) <= 1000 else "/"


#: What the routes ask for.
SignedIn = Annotated[Visitor, Depends(visitor)]
Overseer = Annotated[Visitor, Depends(overseer)]
WatchingOverseer = Annotated[Visitor, Depends(watching_overseer)]
Deps = Annotated[ConsoleDependencies, Depends(dependencies)]
Form = Annotated[Mapping[str, str], Depends(posted)]
