"""What delivery notes of events that it holds for long, what an operator's order does, and records meant for another consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from domain.dead_letters import CUT_BYTES, REDRIVEN_FOR, REPLAYS, HeldEvent
from domain.errors import ArchiveRefused, DatabaseUnavailable, GedUnavailable, RegistryUnavailable
from streams.held_events import HeldEventEntry, NoHeldEventList
from streams.lanes import Record
from tests.support.fakes_streams import FAST, PARTITION, DeliveryBench, an_event


class List:
    """The list of held events; ``orders`` are given at the notes to come, ``failures`` raised before."""

    def __init__(self) -> None:
        self.noted: list[HeldEvent] = []
        self.forgotten: list[tuple[str, UUID]] = []
        self.orders: list[bool] = []
        self.failures: list[Exception] = []
        self.forget_fails = False

    async def note(self, held: HeldEvent) -> bool:
        if self.failures:
            raise self.failures.pop(0)
        self.noted.append(held)
        return self.orders.pop(0) if self.orders else False

    async def forget(self, consumer: str, event_id: UUID) -> None:
        self.forgotten.append((consumer, event_id))
        if self.forget_fails:
            raise DatabaseUnavailable


@pytest.fixture
def held() -> List:
    return List()


@pytest.fixture
async def bench(held: List) -> AsyncIterator[DeliveryBench]:
    bench = DeliveryBench(replace(FAST, note_interval=0.0))
    bench.delivery._held_events = held
    yield bench
    await bench.delivery.revoke()


async def until_finished(bench: DeliveryBench, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while len(bench.metrics.outcomes) < count:
            await asyncio.sleep(0.001)


async def test_a_held_event_is_noted_and_forgotten_once_it_is_done(bench: DeliveryBench, held: List) -> None:
    bench.processor.steps = [GedUnavailable(), GedUnavailable()]
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert [(one.event_id, one.document_key, one.tenant) for one in held.noted] == [
        (event.event_id, event.key, "t"),
        (event.event_id, event.key, "t"),
    ]
    last = held.noted[-1]
    assert (last.consumer, last.code, last.waiting_for, last.attempts) == ("scripted", "ged_unavailable", "ged", 2)
    assert (last.topic, last.partition, last.offset) == (PARTITION.topic, PARTITION.number, 0)
    assert held.forgotten == [("scripted", event.event_id)]
    assert bench.metrics.outcomes == [("done", "none")]


async def test_an_event_that_is_never_held_costs_the_list_nothing(bench: DeliveryBench, held: List) -> None:
    bench.send(an_event())
    await until_finished(bench)
    assert (held.noted, held.forgotten) == ([], [])


async def test_an_ordered_event_is_given_up_with_state_and_dead_letter(bench: DeliveryBench, held: List) -> None:
    bench.processor.steps = [GedUnavailable() for _ in range(10_000)]
    held.orders = [False, False, True]
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert len(bench.processor.seen) == 3
    assert bench.processor.given_up == ["given_up_by_operator"]
    assert bench.database.written == ["given_up_by_operator"]
    assert bench.inbox.rows["scripted", event.event_id][0] == "DEAD"
    assert bench.metrics.outcomes == [("dead_letter", "given_up_by_operator")]
    headers = bench.database.dead_letters[0][3]
    assert (headers["dpj-code"], headers["dpj-error-class"], headers["dpj-attempts"]) == (
        "given_up_by_operator", "GedUnavailable", "3",
    )  # fmt: skip
    assert held.forgotten == [("scripted", event.event_id)]


async def test_an_outage_while_it_is_given_up_is_survived(bench: DeliveryBench, held: List) -> None:
    bench.processor.steps = [GedUnavailable()]
    held.orders = [True]
    bench.database.failures = [DatabaseUnavailable(), DatabaseUnavailable()]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.metrics.outcomes == [("dead_letter", "given_up_by_operator")]
    assert len(held.noted) == 1


async def test_a_list_that_is_away_changes_nothing(bench: DeliveryBench, held: List) -> None:
    bench.processor.steps = [GedUnavailable(), GedUnavailable()]
    held.failures = [DatabaseUnavailable()]
    held.forget_fails = True
    bench.send(an_event())
    await until_finished(bench)
    assert bench.metrics.outcomes == [("done", "none")]
    assert len(held.noted) == 1


async def test_a_record_that_cannot_be_read_now_is_noted_by_its_place_and_can_be_given_up(
    bench: DeliveryBench, held: List
) -> None:
    bench.decode_failures = [RegistryUnavailable() for _ in range(10_000)]
    held.orders = [False, True]
    bench.send()
    await until_finished(bench)
    first, second = held.noted
    assert (first.document_key, first.tenant, first.code) == ("?", None, "registry_unavailable")
    assert first.event_id == second.event_id
    assert bench.metrics.outcomes == [("dead_letter", "given_up_by_operator")]
    assert bench.database.dead_letters[0][3]["dpj-event-id"] == str(first.event_id)


async def test_notes_are_not_more_frequent_than_asked(held: List) -> None:
    bench = DeliveryBench(replace(FAST, note_interval=0.05))
    bench.delivery._held_events = held
    bench.processor.steps = [GedUnavailable() for _ in range(40)]
    bench.send(an_event())
    await until_finished(bench)
    assert 1 <= len(held.noted) < 20
    await bench.delivery.revoke()


async def test_an_event_held_when_its_partition_goes_stays_on_the_list(bench: DeliveryBench, held: List) -> None:
    bench.processor.steps = [GedUnavailable() for _ in range(10_000)]
    bench.send(an_event())
    async with asyncio.timeout(5):
        while not held.noted:
            await asyncio.sleep(0.001)
    await bench.delivery.revoke()
    assert held.forgotten == []


async def test_a_redriven_record_is_for_the_consumer_that_it_names(bench: DeliveryBench) -> None:
    bench.send(an_event(), headers={REDRIVEN_FOR: "another"})
    await until_finished(bench)
    assert bench.metrics.outcomes == [("passed", "none")]
    assert bench.processor.seen == []
    event = an_event()
    bench.send(event, headers={REDRIVEN_FOR: "scripted"})
    await until_finished(bench, 2)
    assert bench.processor.seen == [event.event_id]
    await asyncio.sleep(0)
    await bench.delivery.acknowledge()
    assert bench.committed[-1][PARTITION] == 2


async def test_letters_carry_the_count_of_replays_and_a_trace_of_their_own(bench: DeliveryBench) -> None:
    bench.processor.steps = [ArchiveRefused()]
    bench.send(an_event(), headers={REPLAYS: "2", REDRIVEN_FOR: "scripted"})
    await until_finished(bench)
    headers = bench.database.dead_letters[0][3]
    assert headers[REPLAYS] == "2"
    assert REDRIVEN_FOR not in headers
    assert headers["traceparent"].startswith("00-")
    assert CUT_BYTES not in headers


async def test_a_letter_that_was_cut_says_so(bench: DeliveryBench) -> None:
    bench.delivery.accept(Record(PARTITION, 0, b"k", b"x" * 1_000_000, {}))
    await until_finished(bench)
    _, key, value, headers = bench.database.dead_letters[0]
    assert (key, value, headers[CUT_BYTES]) == (None, None, "1000001")


async def test_without_a_list_nothing_is_ordered() -> None:
    note = HeldEventEntry(NoHeldEventList(), every=0.0)
    event = HeldEvent(
        consumer="c", event_id=UUID(int=1), document_key="d", tenant=None, topic="t", partition=0, offset=0,
        code="x", waiting_for="y", attempts=1,
    )  # fmt: skip
    assert not await note.ordered(event)
    await note.forget()


async def test_a_defect_of_the_list_holds_nothing_up(bench: DeliveryBench, held: List) -> None:
    held.failures = [ValueError("a defect"), DatabaseUnavailable("away")]
    bench.processor.steps = [GedUnavailable("away")] * 3
    bench.send(an_event())
    await until_finished(bench)
    assert bench.metrics.outcomes == [("done", "none")]
    assert len(held.noted) == 1
