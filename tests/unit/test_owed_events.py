"""What is owed and not on its way is lost, is told, and is sent again; what is late, held or finished is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from domain.consumers import HANDLES, readers
from domain.errors import BrokerUnavailable
from domain.owed_events import MOST_RE_EMISSIONS, LostEvent, OwedEvent, PartitionProgress, Progress
from processors.reconcile import owed_events
from processors.reconcile.owed_events import ACTOR, OwedEvents

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPIC = "dpj.document.uploaded"


def owed(row_id: int = 1, *, seconds_ago: float = 600, **changes: Any) -> OwedEvent:
    event = OwedEvent(
        row_id=row_id,
        event_id=uuid4(),
        topic=TOPIC,
        key=str(uuid4()),
        consumers=("integrity",),
        published_at=NOW - timedelta(seconds=seconds_ago),
        partition=2,
        offset=100,
        re_emissions=0,
    )
    return replace(event, **changes)


def progress(start: int, end: int, committed: int | None, partition: int = 2) -> dict[tuple[str, str, int], Any]:
    return {("integrity", TOPIC, partition): PartitionProgress(start, end, committed)}


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (progress(0, 500, 100), False),  # next, or held
        (progress(0, 500, 3), False),  # late
        (progress(0, 500, None), False),  # a group that has committed nothing begins at the first record
        (progress(0, 500, 101), True),  # passed: somebody moved the offsets
        (progress(0, 500, 500), True),
        (progress(101, 500, 101), True),  # retention deleted it
        (progress(0, 100, 50), True),  # a broker that lost its data and has had fewer records since
        (progress(0, 0, None), True),
        (progress(0, 500, 900), False),  # an offset that the log does not have: the group begins anew
        (progress(0, 500, 3, partition=1), True),  # a topic with fewer partitions than before
        ({}, True),  # no such topic
    ],
)
def test_what_the_offsets_prove(found: Progress, lost: bool) -> None:
    assert bool(owed().lost_to(found)) is lost


def test_a_row_of_an_earlier_release_is_on_its_way_as_long_as_anything_of_its_topic_is() -> None:
    event = owed(partition=None, offset=None)
    assert not event.lost_to(progress(0, 500, 499) | progress(0, 5, 5, partition=3))
    assert event.lost_to(progress(0, 500, 500) | progress(0, 5, 5, partition=3)) == ("integrity",)


def test_it_may_be_lost_to_one_consumer_and_be_on_its_way_to_another() -> None:
    event = owed(consumers=("archiving", "integrity"))
    found = progress(0, 500, 101) | {("archiving", TOPIC, 2): PartitionProgress(0, 500, 90)}
    assert event.lost_to(found) == ("integrity",)


def test_who_must_finish_an_event_is_who_handles_it() -> None:
    assert readers()["dpj.document.uploaded"] == ("integrity", "archiving", "notification")
    assert set(readers()) == {kind.TOPIC for kinds in HANDLES.values() for kind in kinds}


@dataclass
class Slice:
    last: int | None
    published: bool
    finished: tuple[int, ...]
    owed: tuple[OwedEvent, ...]


class Rows:
    """An outbox: ids in order; ``owed`` by id, ``finished`` ids, all others wait to be published."""

    def __init__(self, ids: range, owed: Sequence[OwedEvent] = (), finished: Sequence[int] = ()) -> None:
        self.ids, self.owed = ids, {event.row_id: event for event in owed}
        self.finished = set(finished)
        self.reads = 0
        self.removed: list[int] = []
        self.noted: list[list[int]] = []

    async def slice(self, after: int, limit: int) -> Slice:
        self.reads += 1
        ids = [number for number in self.ids if number > after][:limit]
        mine = tuple(self.owed[number] for number in ids if number in self.owed)
        over = tuple(number for number in ids if number in self.finished)
        return Slice(ids[-1] if ids else None, bool(mine or over), over, mine)

    async def remove(self, row_ids: Sequence[int]) -> None:
        self.removed += row_ids

    async def note_lost(self, lost: Sequence[LostEvent]) -> None:
        self.noted.append([one.event.row_id for one in lost])


class Bench:
    """``re_emitted``: ids sent again, batch by batch; ``lines``: what the audit log was told."""

    def __init__(self, rows: Rows, found: Progress | None = None) -> None:
        self.rows, self.found = rows, found
        self.asked = 0
        self.re_emitted: list[list[int]] = []
        self.lines: list[Any] = []
        self.meanwhile: list[int] = []
        clock: Any = SimpleNamespace(now=lambda: NOW)
        database: Any = SimpleNamespace(transaction=self.transaction)
        self.owed = OwedEvents(rows, self.read, database, clock)

    async def read(self) -> Progress:
        self.asked += 1
        for number in self.meanwhile:
            del self.rows.owed[number]
        if self.found is None:
            raise BrokerUnavailable
        return self.found

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async def re_emit(ids: Sequence[int]) -> int:
            self.re_emitted.append(list(ids))
            return len(ids)

        async def add(line: Any) -> None:
            self.lines.append(line)

        yield SimpleNamespace(re_emissions=SimpleNamespace(re_emit=re_emit), outbox=SimpleNamespace(add=add))


PASSED = progress(0, 500, 101)


async def test_what_is_lost_is_counted_by_consumer_with_its_age() -> None:
    other = progress(0, 500, 500) | {("archiving", TOPIC, 2): PartitionProgress(0, 500, 500)}
    events = [owed(1), owed(2, seconds_ago=900, consumers=("archiving", "integrity")), owed(3, offset=499)]
    report = await Bench(Rows(range(1, 4), events), other).owed.look(after_seconds=60)
    assert report.count == {"integrity": 3, "archiving": 1}
    assert report.oldest == {"integrity": events[1].published_at, "archiving": events[1].published_at}


async def test_what_was_published_a_moment_ago_is_not_looked_at_and_kafka_is_not_asked() -> None:
    bench = Bench(Rows(range(1, 3), [owed(1, seconds_ago=59), owed(2, seconds_ago=1)]), PASSED)
    report = await bench.owed.look(after_seconds=60)
    assert not report.count
    assert bench.asked == 0


async def test_what_is_finished_while_the_offsets_are_read_is_not_lost() -> None:
    bench = Bench(Rows(range(1, 3), [owed(1), owed(2)]), PASSED)
    bench.meanwhile = [1]
    report = await bench.owed.look(after_seconds=60)
    assert [one.event.row_id for one in report.lost] == [2]


async def test_without_kafka_nothing_is_known_and_what_is_finished_goes_all_the_same() -> None:
    bench = Bench(Rows(range(1, 9), [owed(1)], finished=[2, 3]))
    report = await bench.owed.look(after_seconds=60, prune=True)
    assert not report.known
    assert not report.count
    assert bench.rows.removed == [2, 3]
    assert bench.asked == 1


@pytest.mark.parametrize(("by_itself", "noted"), [(True, [2]), (False, [1, 2])])
async def test_what_waits_for_an_operator_is_noted(by_itself: bool, noted: list[int]) -> None:
    bench = Bench(Rows(range(1, 4), [owed(1), owed(2, re_emissions=MOST_RE_EMISSIONS), owed(3, offset=499)]), PASSED)
    await bench.owed.note_lost(await bench.owed.look(after_seconds=60), by_itself=by_itself)
    assert bench.rows.noted == [noted]


async def test_without_kafka_what_was_noted_stays() -> None:
    bench = Bench(Rows(range(1, 9), [owed(1)]))
    await bench.owed.note_lost(await bench.owed.look(after_seconds=60), by_itself=True)
    assert bench.rows.noted == []


async def test_a_look_that_is_only_to_tell_removes_nothing() -> None:
    bench = Bench(Rows(range(1, 9), finished=[2, 3]), PASSED)
    await bench.owed.look(after_seconds=60)
    assert bench.rows.removed == []


async def test_a_look_goes_slice_by_slice_and_ends_where_nothing_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owed_events, "SLICE_ROWS", 10)
    bench = Bench(Rows(range(1, 100_000), [owed(25)], finished=range(1, 25)), PASSED)
    report = await bench.owed.look(after_seconds=60, prune=True)
    assert bench.rows.removed == list(range(1, 25))
    assert report.removed == 24
    assert [one.event.row_id for one in report.lost] == [25]
    assert bench.rows.reads == 5  # three with rows that were published, one of them twice, and one that has none


async def test_lost_events_are_sent_again_in_batches_each_with_its_line() -> None:
    bench = Bench(Rows(range(0)))
    lost = [LostEvent(owed(number), ("integrity",)) for number in range(1, 451)]
    assert await bench.owed.re_emit(lost, ACTOR, reason="lost") == 450
    assert [len(batch) for batch in bench.re_emitted] == [200, 200, 50]
    assert [line.action for line in bench.lines] == ["outbox.re_emitted"] * 3
    assert '"consumers":{"integrity":50},"events":50' in bench.lines[-1].details
    assert "INC" not in bench.lines[-1].details


async def test_a_dry_run_sends_nothing() -> None:
    bench = Bench(Rows(range(0)))
    assert await bench.owed.re_emit([LostEvent(owed(), ("integrity",))], "x", reason="operator", apply=False) == 1
    assert bench.re_emitted == []


async def test_the_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(owed_events.asyncio, "sleep", sleep)
    bench = Bench(Rows(range(0)))
    await bench.owed.re_emit([LostEvent(owed(n), ("integrity",)) for n in range(25)], ACTOR, reason="lost", rate=10)
    assert [len(batch) for batch in bench.re_emitted] == [10, 10, 5]
    assert waited == [1.0, 1.0]


@pytest.mark.parametrize(("times", "by_itself"), [(0, True), (MOST_RE_EMISSIONS - 1, True), (MOST_RE_EMISSIONS, False)])
def test_what_gets_lost_each_time_waits_for_a_person(times: int, by_itself: bool) -> None:
    assert LostEvent(owed(re_emissions=times), ("integrity",)).goes_by_itself is by_itself
