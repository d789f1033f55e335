"""A paused consumer: which events begin, what is held, who is told; and the operator's act."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from domain.errors import DatabaseUnavailable, GedUnavailable
from domain.events import AuditRecorded
from domain.pauses import Pause
from domain.refusals import ConsumerUnknown, OperatorBound, ParameterInvalid, PauseRefused
from processors.operators.batches import Operator
from processors.operators.pauses import ConsumerPauses
from runtime.observability.telemetry import PauseMetrics
from streams.pauses import LOOK_SECONDS, PauseGate
from tests.support.builders import NOW, FixedClock
from tests.support.fakes_streams import FAST, DeliveryBench, an_event
from tests.support.memory import MemoryDatabase

ALICE = Operator(actor="p:alice")


class Rows:
    """The table, as a worker reads it."""

    def __init__(self) -> None:
        self.paused: dict[str, tuple[Pause, float]] = {}
        self.away = False

    async def __call__(self) -> Mapping[str, tuple[Pause, float]]:
        if self.away:
            raise DatabaseUnavailable
        return self.paused

    def pause(self, seconds: float, consumer: str = "scripted") -> None:
        until = NOW + timedelta(seconds=seconds)
        self.paused = {
            consumer: (Pause(consumer=consumer, by="p:alice", reason="INC-1", since=NOW, until=until), seconds)
        }


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def gate(rows: Rows) -> PauseGate:
    return PauseGate(rows, clock=lambda: asyncio.get_running_loop().time())


async def finished(bench: DeliveryBench, count: int) -> bool:
    """Whether so many events finish within a minute."""
    try:
        async with asyncio.timeout(60):
            while len(bench.metrics.outcomes) < count:
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False
    return True


async def test_no_event_is_begun_or_claimed_while_paused_and_all_are_afterwards(rows: Rows, gate: PauseGate) -> None:
    bench = DeliveryBench(gate=gate)
    rows.pause(3600)
    await gate.refresh()
    for _ in range(3):
        bench.send(an_event())
    assert not await finished(bench, 1)
    assert (bench.processor.seen, bench.inbox.rows) == ([], {})
    rows.paused = {}
    await gate.refresh()
    assert await finished(bench, 3)
    await bench.delivery.revoke()


async def test_nothing_begins_before_the_rows_were_read_once(rows: Rows, gate: PauseGate) -> None:
    bench = DeliveryBench(gate=gate)
    bench.send(an_event())
    assert not await finished(bench, 1)
    await gate.refresh()
    assert await finished(bench, 1)
    await bench.delivery.revoke()


async def test_a_pause_ends_by_itself_also_while_the_database_is_away(rows: Rows, gate: PauseGate) -> None:
    bench = DeliveryBench(gate=gate)
    rows.pause(30)
    await gate.refresh()
    rows.away = True
    with pytest.raises(DatabaseUnavailable):
        await gate.refresh()
    bench.send(an_event())
    began = asyncio.get_running_loop().time()
    assert await finished(bench, 1)
    assert 29 < asyncio.get_running_loop().time() - began < 31
    await bench.delivery.revoke()


async def test_an_event_that_is_held_is_not_tried_again_while_paused(rows: Rows, gate: PauseGate) -> None:
    bench = DeliveryBench(FAST, gate)
    await gate.refresh()
    bench.processor.steps = [GedUnavailable() for _ in range(10_000)]
    bench.send(an_event())
    await asyncio.sleep(0.5)
    rows.pause(3600)
    await gate.refresh()
    await asyncio.sleep(1)
    tries = len(bench.processor.seen)
    await asyncio.sleep(60)
    assert len(bench.processor.seen) == tries > 0
    assert not any(state == "CLAIMED" for state, _ in bench.inbox.rows.values())
    await bench.delivery.revoke()


async def test_a_paused_consumer_drains_and_is_revoked_at_once(rows: Rows, gate: PauseGate) -> None:
    bench = DeliveryBench(gate=gate)
    rows.pause(3600)
    await gate.refresh()
    bench.send(an_event())
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    await bench.delivery.drain(30)
    await bench.delivery.revoke()
    assert asyncio.get_running_loop().time() - began < 1
    assert bench.committed == []


async def test_another_consumers_pause_is_none_of_ours(rows: Rows, gate: PauseGate) -> None:
    bench = DeliveryBench(gate=gate)
    rows.pause(3600, "other")
    await gate.refresh()
    bench.send(an_event())
    assert await finished(bench, 1)
    await bench.delivery.revoke()


async def test_metrics_say_who_is_paused(rows: Rows, gate: PauseGate) -> None:
    registry = CollectorRegistry()
    PauseMetrics(registry, ["scripted", "other"], gate.paused)
    rows.pause(LOOK_SECONDS)
    await gate.refresh()

    def shown(consumer: str) -> float | None:
        return registry.get_sample_value("dpj_consumer_paused", {"consumer": consumer})

    assert (shown("scripted"), shown("other")) == (1, 0)
    await asyncio.sleep(LOOK_SECONDS)
    assert shown("scripted") == 0


# --- the act -----------------------------------------------------------------------------------------------------------


class Paused:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def paused(self) -> Mapping[str, Pause]:
        return self._database.rows.pauses


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase(FixedClock())


@pytest.fixture
def pauses(database: MemoryDatabase) -> ConsumerPauses:
    return ConsumerPauses(database, Paused(database), database.clock)


async def test_a_pause_has_reason_owner_end_and_audit_line(database: MemoryDatabase, pauses: ConsumerPauses) -> None:
    until = NOW + timedelta(hours=1)
    pause = await pauses.pause(ALICE, "archiving", until, "INC-1")
    assert (pause.by, pause.reason, pause.until) == ("p:alice", "INC-1", until)
    assert await pauses.pause(ALICE, "archiving", until, "INC-1") == pause  # repeated
    with pytest.raises(PauseRefused):
        await pauses.pause(Operator(actor="p:bob"), "archiving", until, "INC-2")
    await pauses.resume(Operator(actor="p:bob"), "archiving", "MENDED")
    with pytest.raises(PauseRefused):
        await pauses.resume(ALICE, "archiving", "MENDED")
    lines = [row for row in database.rows.outbox if isinstance(row, AuditRecorded)]
    assert [(line.action, line.actor, line.entity_id) for line in lines] == [
        ("consumer.paused", "p:alice", "archiving"),
        ("consumer.resumed", "p:bob", "archiving"),
    ]


@pytest.mark.parametrize("hours", [-1, 0, 24.01])
async def test_a_pause_ends_within_a_day(pauses: ConsumerPauses, hours: float) -> None:
    with pytest.raises(ParameterInvalid):
        await pauses.pause(ALICE, "archiving", NOW + timedelta(hours=hours), "INC-1")


async def test_who_may_not_pause_what(database: MemoryDatabase, pauses: ConsumerPauses) -> None:
    until = NOW + timedelta(hours=1)
    with pytest.raises(ConsumerUnknown):
        await pauses.pause(ALICE, "scripted", until, "INC-1")
    with pytest.raises(OperatorBound):
        await pauses.pause(Operator(actor="p:b", tenants=("acme",)), "archiving", until, "INC-1")
    assert (database.rows.pauses, database.rows.outbox) == ({}, [])
