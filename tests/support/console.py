"""The console over memory, called without a socket."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from console.app import create_app
from console.dependencies import ConsoleDependencies
from console.latest_overview import LatestOverview
from console.shared_look import SharedLook
from domain import consumers
from domain.audit_chain import ChainEntry, StoredEntry
from domain.checkpoints import ChainState
from domain.dead_letters import GivenUpEvent, HeldEventStatus, RefusedRow
from domain.documents import Document, Role
from domain.lifecycle import Status
from domain.overview import Count, ErasuresOverview, OutboxOverview
from domain.owed_events import OwedEvent, Progress
from domain.pauses import Pause
from identity.sessions import Sessions, digest_of
from identity.tokens import Identity
from operations.audit.acts import ActsReader
from operations.overview.model import ConsumerOverview, Overview
from processors.documents.known_tenants import KnownTenants
from processors.documents.second_person import SecondPerson
from processors.operators.document_details import DocumentInspection
from processors.operators.document_waits import DocumentWaits
from processors.operators.restore_steps import LastLook
from processors.reconcile.owed_events import OwedReport
from processors.retention.erasure_request import ErasureRequests
from tests.support.builders import a_document
from tests.support.fakes_intake import IntakeBench
from tests.support.overviews import a_partition

BASE = "http://127.0.0.1:8083"
LONGEST, IDLE = 8 * 3600.0, 1800.0


def a_consumer(name: str, **changes: Any) -> ConsumerOverview:
    """One that has read everything."""
    partitions = tuple(a_partition(topic=topic) for topic in consumers.topics_of(name))
    base: dict[str, Any] = {
        "consumer": name,
        "lag": 0,
        "behind_seconds": 0.0,
        "known": True,
        "partitions": partitions,
        "held": (),
        "dead_open": (),
        "lost": 0,
        "waits_for": (),
        "waits_since": None,
        "stalled": (),
        "retention_margin_seconds": None,
        "trend": (),
        "drain_seconds": 0.0,
        "paused": None,
        "oldest": None,
    }
    return ConsumerOverview(**{**base, **changes})


def an_overview(*changed: ConsumerOverview, **changes: Any) -> Overview:
    """One in which all is well, but for what is given."""
    from tests.support.builders import NOW

    by_name = {one.consumer: one for one in changed}
    empty = Count(0)
    base: dict[str, Any] = {
        "at": NOW,
        "consumers": tuple(by_name.get(name) or a_consumer(name) for name in consumers.CONSUMERS),
        "outbox": OutboxOverview(waiting=empty, oldest=None, refused=empty, refused_since=None),
        "outbox_trend": (),
        "states": (),
        "oldest": None,
        "oldest_unknown": False,
        "checkpoints": None,
        "audit_steps_stopped": (),
        "erasures": ErasuresOverview(waiting=empty, oldest=None),
        "dependencies": (),
        "circuits": (),
        "silent": (),
        "watchdog_looked": NOW - timedelta(seconds=9),
        "reconcile": None,
        "restores": (),
    }
    return Overview(**{**base, **changes})


class NothingDelivered:
    """No event of any document waits anywhere."""

    unpublished = ()
    unknown_at = None

    def __init__(self) -> None:
        self.owed: list[OwedEvent] = []
        self.pauses: dict[str, Pause] = {}
        self.held: list[HeldEventStatus] = []
        self.traces: dict[str, list[str]] = {}
        self.refused: list[RefusedRow] = []
        self.given_up: list[GivenUpEvent] = []

    async def of_document(self, _: object) -> NothingDelivered:
        return self

    async def all_held(self, limit: int) -> Sequence[HeldEventStatus]:
        return self.held[:limit]

    async def keys_waiting_for(self, dependency: str) -> Sequence[str]:
        return [one.event.document_key for one in self.held if one.event.waiting_for == dependency]

    async def keys_of_trace(self, trace_id: str) -> Sequence[str]:
        return self.traces.get(trace_id, [])

    async def all_refused(self, limit: int) -> Sequence[RefusedRow]:
        return self.refused[:limit]

    async def held_of(self, key: str) -> Sequence[HeldEventStatus]:
        return [one for one in self.held if one.event.document_key == key]

    async def paused(self) -> Mapping[str, Pause]:
        return self.pauses

    async def given_up_of(self, _: str) -> Sequence[GivenUpEvent]:
        return self.given_up


class Log:
    """An audit log that holds ``entries_there``."""

    def __init__(self) -> None:
        self.entries_there: list[ChainEntry] = []

    async def page(self, tenants: frozenset[str] | None, after: str, limit: int) -> Sequence[ChainState]:
        names = sorted({one.tenant for one in self.entries_there if tenants is None or one.tenant in tenants})
        return [
            ChainState(
                tenant=name,
                entries=max(one.seq for one in self.entries_there if one.tenant == name),
                signed=0,
                signed_at=None,
                key_id=None,
            )
            for name in names
            if name > after
        ][:limit]

    async def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]:
        for one in self.entries_there:
            if one.tenant == tenant and after < one.seq <= up_to:
                yield StoredEntry(one, faithful=True)

    async def first(self, tenant: str, limit: int, after: int = 0) -> Sequence[ChainEntry]:
        return []


class ConsoleBench:
    """The console around an ``IntakeBench``. ``by_two``: erasing takes two persons. ``overview`` is what the next look finds; ``identity`` who the development's sign-in makes."""

    def __init__(self, *, by_two: bool = False, **changes: Any) -> None:
        self.bench = IntakeBench()
        self.overview = an_overview()
        self.delivery = NothingDelivered()
        self.log = Log()
        self.subject = "marie"
        self.lost = OwedReport()
        self.progress: Progress = {}
        self.look: LastLook | None = None
        self.bound_to: frozenset[str] | None = None
        self.sessions = Sessions(
            self.bench.database,
            self.bench.personal,
            self.bench.clock,
            revoked=self.bench.revoked,
            longest=LONGEST,
            idle=IDLE,
        )

        async def look() -> Overview:
            return self.overview

        async def progress() -> Progress:
            return self.progress

        async def lost() -> OwedReport:
            return self.lost

        async def last_look() -> LastLook | None:
            return self.look

        async def verified() -> float | None:
            return None

        given = ConsoleDependencies(
            sessions=self.sessions,
            tenants=KnownTenants(self.bench.database),
            reading=self.bench.reading,
            search=self.bench.search,
            inspection=DocumentInspection(self.bench.database, self.bench.trees, self.bench.personal, self.bench.clock),
            waits=DocumentWaits(self.delivery, self.delivery, self.delivery, progress),
            desk=self.bench.operator_desk,
            erasing=ErasureRequests(
                self.bench.database, self.bench.personal, self.bench.clock, SecondPerson(required=by_two)
            ),
            held=self.delivery.all_held,
            refused=self.delivery.all_refused,
            keys_waiting_for=self.delivery.keys_waiting_for,
            keys_of_trace=self.delivery.keys_of_trace,
            lost=SharedLook(lost, fresh=0.0, stale=0.0),
            last_look=last_look,
            overview=LatestOverview(look, lambda: self.bench.clock.at.timestamp()),
            chains=self.log,
            acts=ActsReader(self.log, self.log),
            verified_age=verified,
            document_types=self.bench.database.types,
            development=self.person,
            registry=CollectorRegistry(),
        )
        self.dependencies = replace(given, **changes)
        self.app = create_app(self.dependencies)

    def authenticated_ago(self, client: httpx.AsyncClient, ago: timedelta) -> None:
        """The person of the client's session said so long ago who he is."""
        rows, personal = self.bench.database.rows.sessions, self.bench.personal
        digest = digest_of(client.cookies["dpj-console"])
        said = json.loads(personal.unseal(rows[digest].identity_sealed))
        said["authenticated_at"] = (datetime.now(UTC) - ago).isoformat()
        rows[digest] = replace(rows[digest], identity_sealed=personal.seal(json.dumps(said)))

    def person(self, role: Role) -> Identity:
        return Identity(f"{self.subject}-{role.value}", "acme", frozenset({role}), bound_to=self.bound_to)

    def client(self, base: str = BASE, **headers: str) -> httpx.AsyncClient:
        given = {"Accept-Language": "en", **headers}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=base, headers=given)

    def document(self, **changes: Any) -> Document:
        """A document of acme's."""
        row = a_document(**{"tenant": "acme", "dossier_id": self.bench.dossier.id, "status": Status.STORED, **changes})
        self.bench.database.put(row)
        return row


def token_in(page: str) -> str:
    """What a form of the page brings along."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found, page
    return found[1]


async def sign_in(client: httpx.AsyncClient, role: str = "operator", to: str = "/") -> httpx.Response:
    page = (await client.get("/sign-in", params={"to": to})).text
    form = {"csrf": token_in(page), "role": role, "to": to}
    return await client.post("/sign-in", data=form, headers={"Origin": str(client.base_url).rstrip("/")})
