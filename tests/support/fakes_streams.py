"""Fakes for delivery: an inbox and database in memory that can misbehave on purpose, and a processor that is told what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from domain.errors import ClaimLost, DatabaseUnavailable, EventUndecodable
from domain.events import DocumentErased, Event
from processors.ports.work import Commit
from streams.delivery import ClaimOutcome, Delivery, Policy
from streams.lanes import Partition, Record
from streams.pauses import Gate

PARTITION = Partition("dpj.document.erased", 0)
FAST = Policy(
    lane_size=4, lane_concurrency=2, lease=0.3, bug_retries=2, retry_base=0.001, retry_cap=0.01, ack_interval=0.005
)


def an_event(document_id: UUID | None = None) -> DocumentErased:
    return DocumentErased(
        event_id=uuid4(),
        sequence=1,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        correlation_id=uuid4(),
        tenant="t",
        actor="a",
        document_id=document_id or uuid4(),
        legal_basis_code="NONE",
    )


class FakeInbox:
    """Claims by (consumer, event); ``answers`` are given first, ``keep`` says whether renewals succeed."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, UUID], tuple[str, UUID]] = {}
        self.answers: list[ClaimOutcome | Exception] = []
        self.renewals: list[bool | Exception] = []
        self.renewed = 0
        self.released = 0

    async def claim(
        self, consumer: str, event_id: UUID, document_key: str, owner: UUID, lease_seconds: float
    ) -> ClaimOutcome:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        state = self.rows.get((consumer, event_id))
        if state and state[0] in {"DONE", "DEAD"}:
            return ClaimOutcome.DONE
        self.rows[consumer, event_id] = ("CLAIMED", owner)
        return ClaimOutcome.ACQUIRED

    async def renew(self, consumer: str, event_id: UUID, owner: UUID, lease_seconds: float) -> bool:
        self.renewed += 1
        answer = self.renewals.pop(0) if self.renewals else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def release(self, consumer: str, event_id: UUID, owner: UUID) -> None:
        self.released += 1
        if self.rows.get((consumer, event_id)) == ("CLAIMED", owner):
            del self.rows[consumer, event_id]


class FakeDatabase:
    """Transactions over the inbox's rows and a list of dead letters; ``failures`` are raised by the next transactions."""

    def __init__(self, inbox: FakeInbox) -> None:
        self.inbox = inbox
        self.failures: list[Exception] = []
        self.written: list[Any] = []
        self.dead_letters: list[tuple[str, bytes | None, bytes | None, Mapping[str, str]]] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        if self.failures:
            raise self.failures.pop(0)
        rows, written, dead = dict(self.inbox.rows), list(self.written), list(self.dead_letters)

        async def finish(consumer: str, event_id: UUID, owner: UUID, outcome: str) -> None:
            if self.inbox.rows.get((consumer, event_id)) != ("CLAIMED", owner):
                raise ClaimLost
            self.inbox.rows[consumer, event_id] = (outcome, owner)

        async def add_dead_letter(
            consumer: str,
            key: bytes | None,
            value: bytes | None,
            headers: Mapping[str, str],
            tenant: str | None = None,
        ) -> None:
            self.dead_letters.append((consumer, key, value, headers))

        work = SimpleNamespace(
            inbox=SimpleNamespace(finish=finish),
            outbox=SimpleNamespace(add_dead_letter=add_dead_letter),
            written=self.written,
        )
        try:
            yield work
        except BaseException:
            self.inbox.rows, self.written[:], self.dead_letters[:] = rows, written, dead
            raise


class ScriptedProcessor:
    """Runs ``steps`` one per call, then succeeds; a commit writes the event's id."""

    consumer = "scripted"
    handles: tuple[type[Event], ...] = (DocumentErased,)

    def __init__(self) -> None:
        self.steps: list[Exception | Callable[[], Awaitable[None]]] = []
        self.give_up_failures: list[Exception] = []
        self.seen: list[UUID] = []
        self.given_up: list[str] = []

    async def process(self, event: Event) -> Commit:
        self.seen.append(event.event_id)
        if self.steps:
            step = self.steps.pop(0)
            if isinstance(step, Exception):
                raise step
            await step()

        async def commit(work: Any) -> None:
            work.written.append(event.event_id)

        return commit

    async def give_up(self, event: Event, code: str) -> Commit:
        if self.give_up_failures:
            raise self.give_up_failures.pop(0)
        self.given_up.append(code)

        async def commit(work: Any) -> None:
            work.written.append(code)

        return commit


class RecordingFlow:
    def __init__(self) -> None:
        self.calls: list[tuple[str, Partition]] = []

    def hold(self, partition: Partition) -> None:
        self.calls.append(("hold", partition))

    def resume(self, partition: Partition) -> None:
        self.calls.append(("resume", partition))


class RecordingMetrics:
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str]] = []
        self.waits: dict[str, int] = {}
        self.waited_for: set[str] = set()

    def finished(self, consumer: str, outcome: str, code: str, seconds: float) -> None:
        self.outcomes.append((outcome, code))

    def waiting(self, consumer: str, dependency: str, delta: int) -> None:
        self.waits[dependency] = self.waits.get(dependency, 0) + delta
        self.waited_for.add(dependency)

    def retried(self, consumer: str, code: str) -> None: ...


class DeliveryBench:
    """One delivery with all its fakes; records carry the event's id as their value."""

    def __init__(self, policy: Policy = FAST, gate: Gate | None = None) -> None:
        self.inbox = FakeInbox()
        self.database = FakeDatabase(self.inbox)
        self.processor = ScriptedProcessor()
        self.flow = RecordingFlow()
        self.metrics = RecordingMetrics()
        self.events: dict[bytes, Event] = {}
        self.committed: list[Mapping[Partition, int]] = []
        self.commit_answers: list[bool | Exception] = []
        self.decode_failures: list[Exception] = []
        self.offset = 0
        self.delivery = Delivery(
            self.processor,
            decode=self.decode,
            inbox=self.inbox,
            database=self.database,
            commit_offsets=self.commit_offsets,
            flow=self.flow,
            metrics=self.metrics,
            policy=policy,
            gate=gate,
        )

    async def decode(self, topic: str, value: bytes, schema: str | None = None) -> Event:
        if self.decode_failures:
            raise self.decode_failures.pop(0)
        if value not in self.events:
            raise EventUndecodable
        return self.events[value]

    async def commit_offsets(self, offsets: Mapping[Partition, int]) -> bool:
        answer = self.commit_answers.pop(0) if self.commit_answers else True
        if isinstance(answer, Exception):
            raise answer
        if answer:
            self.committed.append(offsets)
        return answer

    def send(self, event: Event | None = None, *, headers: Mapping[str, str] | None = None) -> Event | None:
        """Accept a record of ``event``; None sends one that can't be decoded."""
        value = str(event.event_id).encode() if event else b"garbage"
        if event:
            self.events[value] = event
        key = event.key.encode() if event else b"?"
        self.delivery.accept(Record(PARTITION, self.offset, key, value, headers or {}, 12.5))
        self.offset += 1
        return event


def unavailable() -> DatabaseUnavailable:
    return DatabaseUnavailable()
