"""THE place where order, retry, dead letter and acknowledgement are decided.

Each event of a lane goes through six steps, numbered here as in ``Delivery._deliver``:

1. take the next event of a lane (``streams.lanes`` keeps one document's events in order);
2. decode it;
3. claim ``(consumer, event_id)`` in the inbox: one owner, a renewed lease, one event at a time per (consumer, document);
   an event already done is acknowledged at once;
4. run the processor; its external effects are idempotent, because after a crash they happen again;
5. one PostgreSQL transaction that still requires the same owner: business rows, inbox DONE, new outbox rows
   (``streams.shared_transaction``: those that only add rows share one, which requires all their owners);
6. acknowledge.

What may go wrong, by kind: *transient* holds the lane with capped exponential backoff and jitter as long as it takes;
*permanent* is one transaction of document state, inbox DEAD and a dead letter; *anything else* is a defect: bounded
retries, then as permanent. Nothing but a finished event is ever acknowledged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog

from domain.dead_letters import REDRIVEN_FOR
from domain.errors import (
    ClaimLost,
    DocumentBusy,
    DPJError,
    ErrorKind,
    GivenUpByOperator,
    RecordDamaged,
    Transient,
    UnexpectedFailure,
)
from domain.events import SCHEMA_HEADER, Event
from domain.shared import tracing
from domain.shared.correlation import continue_trace, current_traceparent, trace_id
from domain.shared.crash_points import reach
from processors.documents.transitions import SharedCommit
from processors.ports.database import Database
from processors.ports.processor import Processor
from processors.ports.work import Commit
from streams.dead_letter_headers import GiveUpReason, dead_letter_headers, dead_letter_payload, held_event, record_id
from streams.draining import Drain
from streams.held_events import NOTE_SECONDS, HeldEventEntry, HeldEventList, NoHeldEventList
from streams.lanes import Lane, Partition, Record
from streams.leases import RenewedLease, deadline, error_location
from streams.pauses import Gate, OpenGate
from streams.shared_transaction import SharedTransaction
from streams.spans import finish_processing, hold, start_processing

log = structlog.get_logger()


class ClaimOutcome(Enum):
    """What the inbox answers; compared by name, so that the adapter needs no import from here."""

    ACQUIRED = "ACQUIRED"
    DONE = "DONE"
    BUSY = "BUSY"


class ClaimAnswer(Protocol):
    @property
    def name(self) -> str: ...


class Inbox(Protocol):
    """Claims outside the work transaction. Raises DatabaseUnavailable."""

    async def claim(
        self, consumer: str, event_id: UUID, document_key: str, owner: UUID, lease_seconds: float
    ) -> ClaimAnswer: ...

    async def renew(self, consumer: str, event_id: UUID, owner: UUID, lease_seconds: float) -> bool: ...

    async def release(self, consumer: str, event_id: UUID, owner: UUID) -> None: ...


class DeliveryObserver(Protocol):
    """Labels come from consumers, outcomes and error codes only."""

    def finished(self, consumer: str, outcome: str, code: str, seconds: float) -> None: ...

    def waiting(self, consumer: str, dependency: str, delta: int) -> None: ...

    def retried(self, consumer: str, code: str) -> None: ...


#: Topic, value, and the fingerprint of the writer's schema if the record has one.
Decode = Callable[[str, bytes, str | None], Awaitable[Event]]
CommitOffsets = Callable[[Mapping[Partition, int]], Awaitable[bool]]
#: Waits so many seconds before the next try, or less if the dependency of that name comes back.
RetryPause = Callable[[str, float], Awaitable[None]]


async def _sleep(_dependency: str, seconds: float) -> None:
    await asyncio.sleep(seconds)


class Flow(Protocol):
    """Push-back on the consumer for one partition."""

    def hold(self, partition: Partition) -> None: ...

    def resume(self, partition: Partition) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Bounds of delivery; times in seconds."""

    lane_size: int = 32
    lane_concurrency: int = 4
    lease: float = 60.0
    #: For one try of an event, from its claim to its commit.
    deadline: float = 900.0
    bug_retries: int = 3
    retry_base: float = 0.2
    retry_cap: float = 30.0
    #: Another worker of the group frees a document within moments, so waiting for it is capped lower.
    busy_cap: float = 1.0
    ack_interval: float = 0.5
    #: An event held for so long is listed for operators, and their orders about it are read as often.
    note_interval: float = NOTE_SECONDS

    def pause(self, attempt: int, cap: float) -> float:
        """Full jitter over capped exponential growth: half of it certain, so that a retry never comes at once."""
        ceiling = min(cap, self.retry_base * 2.0 ** min(attempt, 16))
        return ceiling * (0.5 + random.random() / 2)  # noqa: S311 - spreads retries, keeps no secret


class Delivery:
    """Delivers the records of one consumer to its processor."""

    def __init__(
        self,
        processor: Processor,
        *,
        decode: Decode,
        inbox: Inbox,
        database: Database,
        commit_offsets: CommitOffsets,
        flow: Flow,
        metrics: DeliveryObserver,
        policy: Policy,
        pause: RetryPause = _sleep,
        held: HeldEventList | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._processor = processor
        self._consumer: Final = processor.consumer
        self._decode = decode
        self._inbox = inbox
        self._database = database
        self._shared_transaction = SharedTransaction(database, processor.consumer)
        self._commit_offsets = commit_offsets
        self._flow = flow
        self._metrics = metrics
        self._policy: Final = policy
        self._pause = pause
        self._drain = Drain()
        self._gate: Gate = gate or OpenGate()
        self._held_events: HeldEventList = held or NoHeldEventList()
        self._lanes: dict[Partition, Lane] = {}
        self._held: set[Partition] = set()

    @property
    def depth(self) -> int:
        """Records taken and not yet acknowledged."""
        return sum(len(lane) for lane in self._lanes.values())

    # --- lanes ---------------------------------------------------------------------------------------------------

    def accept(self, record: Record) -> None:
        """Put a record into its partition's lane; never blocks, a full lane pushes back on the consumer instead."""
        lane = self._lanes.get(record.partition)
        if lane is None:
            advanced = partial(self._resume, record.partition)
            lane = Lane(self._policy.lane_size, self._policy.lane_concurrency, self._work, advanced)
            self._lanes[record.partition] = lane
        lane.add(record)
        if lane.is_full and record.partition not in self._held:
            self._held.add(record.partition)
            self._flow.hold(record.partition)

    async def revoke(self, partitions: set[Partition] | None = None) -> None:
        """The partitions (all by default) are no longer ours: cancel their lanes, acknowledging nothing unfinished."""
        gone = set(self._lanes) if partitions is None else partitions & set(self._lanes)
        lanes = [self._lanes.pop(partition) for partition in gone]
        self._held -= gone
        await asyncio.gather(*(lane.cancel() for lane in lanes))

    async def drain(self, seconds: float) -> None:
        """Begin no event, let those at work end for up to ``seconds``, and acknowledge them. Held ones are not waited for."""
        await self._drain.close(seconds)
        await self.acknowledge()

    async def keep_acknowledging(self) -> None:
        """Commit finished offsets every ``ack_interval`` until cancelled."""
        while True:
            await asyncio.sleep(self._policy.ack_interval)
            await self.acknowledge()

    async def acknowledge(self) -> None:
        """Step 6 for all lanes: commit what is finished."""
        offsets = {p: offset for p, lane in self._lanes.items() if (offset := lane.take_ack()) is not None}
        if offsets:
            committed = False
            try:
                committed = await self._commit_offsets(offsets)
            except Exception as error:  # noqa: BLE001 - a failed commit only means a redelivery; it is offered again
                log.warning("offset_commit_failed", consumer=self._consumer, error=type(error).__name__)
            if not committed:
                for partition in offsets:
                    if partition in self._lanes:
                        self._lanes[partition].ack_failed()

    def _resume(self, partition: Partition) -> None:
        """Let a drained lane's partition be fetched again."""
        if partition in self._held and self._lanes[partition].has_drained:
            self._held.discard(partition)
            self._flow.resume(partition)

    # --- one event -----------------------------------------------------------------------------------------------

    async def _work(self, record: Record) -> None:
        if not self._gate.is_open(self._consumer):
            await self._gate.opened(self._consumer)
        await self._drain.work(self._deliver, record)

    async def _deliver(self, record: Record) -> None:
        """Steps 2 to 5 until the record is finished. Raises nothing but cancellation."""
        trace = continue_trace(record.headers.get("traceparent"))
        current_traceparent.set(trace)
        if self._has_nothing_for_us(record):
            return
        span = start_processing(self._consumer, record) if tracing.is_on() else None
        if span is None:
            await self._until_finished(record, trace)
            return
        current_traceparent.set(span.traceparent)
        try:
            end = await self._until_finished(record, span.traceparent)
        except BaseException as error:
            span.end(tracing.code_of(error))
            raise
        finish_processing(span, *end)

    async def _until_finished(self, record: Record, trace: str) -> tuple[Event | None, str, str]:
        """The event, if the record has one, the outcome and the code."""
        started = asyncio.get_running_loop().time()
        event: Event | None = None
        give_up_reason = self._damage(record, trace)
        note = HeldEventEntry(self._held_events, every=self._policy.note_interval)
        holds = defects = 0
        owner = uuid4()  # of all tries: a claim whose answer was lost is still ours at the next one
        while True:
            try:
                if give_up_reason is None:
                    event = await self._decoded(record)  # (2)
                    outcome = await self._process_once(event, owner)  # (3) (4) (5)
                else:
                    outcome = await self._write_dead_letter(record, give_up_reason, owner)
                await note.forget()
                code = give_up_reason.code if give_up_reason else "none"
                self._metrics.finished(self._consumer, outcome, code, asyncio.get_running_loop().time() - started)
                return event, outcome, code
            except Transient as error:
                await self._wait_before_retry(error, holds)
                holds += 1
                held = held_event(self._consumer, record, event, error, holds)
                if give_up_reason is None and await note.ordered(held):
                    give_up_reason = GiveUpReason(
                        GivenUpByOperator.code, type(error).__name__, holds + defects, given_up=False
                    )
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not leave the lane unacknowledged
                defects += 1
                if not _is_permanent(error) and defects <= self._policy.bug_retries:
                    self._log_defect(record, error, trace, defects)
                    await self._wait_before_retry(error, defects)
                    continue
                give_up_reason = GiveUpReason.of(error, attempts=holds + defects, after=give_up_reason)
                self._log_defect(record, error, trace, defects)
                if give_up_reason.given_up:
                    await self._wait_before_retry(error, defects)
                else:
                    defects = 0  # the dead letter has tries of its own

    async def _decoded(self, record: Record) -> Event:
        return await self._decode(record.partition.topic, record.value or b"", record.headers.get(SCHEMA_HEADER))

    async def _process_once(self, event: Event, owner: UUID) -> str:
        """Claim, process, write. Returns ``duplicate`` for an event already done, else ``done``."""

        async def work_on() -> None:
            reach("delivery.claimed")
            commit = await self._processor.process(event)  # (4)
            reach("delivery.processed")
            if isinstance(commit, SharedCommit):
                await self._shared_transaction.write(commit, event.event_id, owner)  # (5)
            else:
                async with self._database.transaction() as work:  # (5)
                    await commit(work)
                    await work.inbox.finish(self._consumer, event.event_id, owner, "DONE")
            reach("delivery.committed")

        return "done" if await self._under_claim(event.event_id, event.key, owner, work_on) else "duplicate"

    async def _write_dead_letter(self, record: Record, give_up_reason: GiveUpReason, owner: UUID) -> str:
        """One transaction: document state (as the processor says), inbox DEAD, dead letter in the outbox."""
        event: Event | None = None
        try:
            # What a broken record says is not acted on, nor taken for the event's name: another record may have the same event.
            if record.damage is None:
                event = await self._decoded(record)
        except Transient:
            # Whoever orders an event to be given up does not want to wait for what would read it.
            if give_up_reason.code != GivenUpByOperator.code:
                raise
        except Exception as error:  # noqa: BLE001 - a decoder's defect must not hold the lane for ever either
            log.debug("dead_letter_undecoded", consumer=self._consumer, error=type(error).__name__)
        event_id = event.event_id if event else record_id(record)
        key = event.key if event else f"{record.partition.topic}/{record.partition.number}"

        async def give_up() -> None:
            reach("delivery.burying")
            state: Commit | None = None
            if event is not None and not give_up_reason.given_up:
                state = await self._processor.give_up(event, give_up_reason.code)
            async with self._database.transaction() as work:
                if state is not None:
                    await state(work)
                await work.outbox.add_dead_letter(
                    self._consumer,
                    *dead_letter_payload(record),
                    dead_letter_headers(record, self._consumer, event_id, give_up_reason),
                    event.tenant if event else None,
                )
                await work.inbox.finish(self._consumer, event_id, owner, "DEAD")
            reach("delivery.buried")

        return "dead_letter" if await self._under_claim(event_id, key, owner, give_up) else "duplicate"

    async def _under_claim(
        self, event_id: UUID, key: str, owner: UUID, body: Callable[[], Coroutine[None, None, None]]
    ) -> bool:
        """Run ``body`` under the inbox claim with a renewed lease; False if the event is done already.

        Raises DocumentBusy, WorkStuck, or ClaimLost when the lease could not be kept: the body is stopped before its next effect.
        """
        renewed = self._renewal(event_id, owner)
        try:
            answer = await self._inbox.claim(self._consumer, event_id, key, owner, self._policy.lease)
        except asyncio.CancelledError:
            await self._release(event_id, owner)  # it may have been given all the same
            raise
        if answer.name == ClaimOutcome.DONE.name:
            return False
        if answer.name == ClaimOutcome.BUSY.name:
            raise DocumentBusy
        try:
            bound = deadline(self._policy.deadline, self._consumer)
            async with RenewedLease(renewed, every=self._policy.lease / 3), bound:
                await body()
        except BaseException:
            await self._release(event_id, owner)
            raise
        return True

    def _renewal(self, event_id: UUID, owner: UUID) -> Callable[[], Awaitable[bool]]:
        """Renews the lease, from now on; False once it is another's, or must be taken to be."""
        now = asyncio.get_running_loop().time
        ends = now() + self._policy.lease

        async def renewed() -> bool:
            nonlocal ends
            asked = now()
            try:
                ours = await self._inbox.renew(self._consumer, event_id, owner, self._policy.lease)
            except Transient:
                return now() < ends  # the lease may survive this; if it does not, step 5 refuses to write
            ends = asked + self._policy.lease
            return ours

        return renewed

    async def _release(self, event_id: UUID, owner: UUID) -> None:
        """Free the claim so that the next try need not wait for the lease; best effort, also while being cancelled."""

        async def release() -> None:
            with suppress(Exception):
                async with asyncio.timeout(2):
                    await self._inbox.release(self._consumer, event_id, owner)

        await asyncio.shield(asyncio.ensure_future(release()))

    async def _wait_before_retry(self, error: Exception, attempt: int) -> None:
        """Wait before the next try, saying for what."""
        if isinstance(error, Transient):
            dependency, code = error.waiting_for, error.code
        else:
            dependency, code = "retry", UnexpectedFailure.code
        cap = self._policy.busy_cap if isinstance(error, DocumentBusy | ClaimLost) else self._policy.retry_cap
        self._metrics.retried(self._consumer, code)
        self._metrics.waiting(self._consumer, dependency, 1)
        try:
            with hold(dependency, code):
                await self._drain.pause(self._before_retry(dependency, self._policy.pause(attempt, cap)))
        finally:
            self._metrics.waiting(self._consumer, dependency, -1)

    async def _before_retry(self, dependency: str, seconds: float) -> None:
        await self._pause(dependency, seconds)
        if not self._gate.is_open(self._consumer):
            await self._gate.opened(self._consumer)

    def _has_nothing_for_us(self, record: Record) -> bool:
        """No record stands there, or it was redriven for another consumer; what a broken record's headers say does not count."""
        if record.gap:
            return True
        if record.damage is not None or record.headers.get(REDRIVEN_FOR, self._consumer) == self._consumer:
            return False
        self._metrics.finished(self._consumer, "passed", "none", 0.0)
        return True

    def _damage(self, record: Record, trace: str) -> GiveUpReason | None:
        """Why a record is given up before anything is tried, or None."""
        if record.damage is None:
            return None
        log.error("record_damaged", error=record.damage, code=RecordDamaged.code, **self._about(record, trace))
        return GiveUpReason(RecordDamaged.code, record.damage, attempts=1, given_up=True)

    def _log_defect(self, record: Record, error: Exception, trace: str, attempt: int) -> None:
        log.error(
            "event_failed",
            error=type(error).__name__,
            code=getattr(error, "code", UnexpectedFailure.code),
            attempt=attempt,
            where=error_location(error),
            **self._about(record, trace),
        )

    def _about(self, record: Record, trace: str) -> dict[str, str | int]:
        """Which record a line in the log is about."""
        place = record.partition
        return {
            "consumer": self._consumer,
            "topic": place.topic,
            "partition": place.number,
            "offset": record.offset,
            "trace_id": trace_id(trace),
        }


def _is_permanent(error: Exception) -> bool:
    """Whether trying again is useless by the error's own word."""
    return (
        isinstance(error, DPJError) and error.kind is ErrorKind.PERMANENT and not isinstance(error, UnexpectedFailure)
    )
