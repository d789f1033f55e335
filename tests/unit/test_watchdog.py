"""The stall watchdog: what is a stall, when the alarm begins and ends, and who is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from domain.errors import BrokerUnavailable
from operations.kafka.lag import PartitionLag
from operations.kafka.watchdog import PartitionKey, Stall, StallDetector, Watchdog
from tests.support.builders import ManualSeconds


def row(committed: int | None, lag: int, *, consumer: str = "audit", partition: int = 0) -> PartitionLag:
    return PartitionLag(
        group=f"dpj.{consumer}",
        topic="topic",
        partition=partition,
        start=0,
        end=(committed or 0) + lag,
        committed=committed,
        lag=lag,
        behind=None,
    )


def seen(detector: StallDetector, clock: ManualSeconds, *rows: PartitionLag, after: float = 0) -> list[Stall]:
    clock.now += after
    return detector.observe(rows)


def test_a_lag_without_progress_is_a_stall_once_the_time_is_over(clock: ManualSeconds) -> None:
    detector = StallDetector(60, clock)
    assert seen(detector, clock, row(5, 3)) == []
    assert seen(detector, clock, row(5, 9), after=59) == []
    assert seen(detector, clock, row(5, 10), after=1) == [Stall("audit", "topic", 0, 10, 60)]
    assert seen(detector, clock, row(6, 9), after=1) == []
    assert seen(detector, clock, row(6, 9), after=60) == [Stall("audit", "topic", 0, 9, 60)]


def test_a_group_that_never_committed_can_stall_too(clock: ManualSeconds) -> None:
    detector = StallDetector(60, clock)
    seen(detector, clock, row(None, 3))
    assert seen(detector, clock, row(None, 3), after=60)
    assert seen(detector, clock, row(1, 2), after=60) == []


def test_no_lag_is_no_stall_and_the_time_begins_with_the_first_record(clock: ManualSeconds) -> None:
    detector = StallDetector(60, clock)
    seen(detector, clock, row(5, 3))
    assert seen(detector, clock, row(5, 0), after=300) == []
    assert seen(detector, clock, row(5, 1), after=300) == []
    assert seen(detector, clock, row(5, 1), after=59) == []
    assert seen(detector, clock, row(5, 1), after=1)


def test_partitions_and_consumers_are_apart(clock: ManualSeconds) -> None:
    detector = StallDetector(60, clock)
    seen(detector, clock, row(5, 3), row(5, 3, partition=1), row(5, 3, consumer="integrity"))
    found = seen(detector, clock, row(5, 3), row(6, 2, partition=1), row(5, 3, consumer="integrity"), after=60)
    assert [stall.place for stall in found] == [("audit", "topic", 0), ("integrity", "topic", 0)]
    detector.forget()
    assert seen(detector, clock, row(5, 3), row(5, 3, consumer="integrity")) == []


class Surroundings:
    """Broker, workers and metrics as told."""

    def __init__(self) -> None:
        self.clock = ManualSeconds()
        self.rows: Sequence[PartitionLag] | None = [row(5, 3)]
        self.said: Mapping[str, object] | None = {}
        self.crash_records: dict[str, Sequence[str]] = {}
        self.asked: list[str] = []
        self.restarts: list[str] = []
        self.alarms: dict[PartitionKey, bool] = {}
        self.counted: list[str] = []

    async def measure(self) -> Sequence[PartitionLag]:
        if self.rows is None:
            raise BrokerUnavailable
        return self.rows

    async def ask(self, consumer: str) -> Mapping[str, object] | None:
        self.asked.append(consumer)
        return self.said

    async def crashes_at(self, consumer: str) -> Sequence[str]:
        return self.crash_records.get(consumer, ())

    async def restart(self, consumer: str) -> None:
        self.restarts.append(consumer)

    def stalled(self, place: PartitionKey, *, stalled: bool) -> None:
        self.alarms[place] = stalled

    def restarted(self, consumer: str) -> None:
        self.counted.append(consumer)

    def watchdog(self, *, restarts: bool) -> Watchdog:
        return Watchdog(
            self.measure,
            StallDetector(60, self.clock),
            self,
            interval=0.01,
            clock=self.clock,
            ask=self.ask,
            crashes_at=self.crashes_at,
            restart=self.restart if restarts else None,
        )

    async def look(self, watchdog: Watchdog, after: float = 0) -> None:
        self.clock.now += after
        await watchdog.check()


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


PLACE = ("audit", "topic", 0)


async def test_the_alarm_begins_and_ends_with_one_line_each(around: Surroundings) -> None:
    watchdog = around.watchdog(restarts=False)
    with capture_logs() as logs:
        for after in (0, 60, 10, 10):
            await around.look(watchdog, after)
        assert around.alarms == {PLACE: True}
        assert [stall.seconds for stall in watchdog.stalls] == [80]
        around.rows = [row(6, 2)]
        await around.look(watchdog, 10)
    assert (around.alarms, watchdog.stalls) == ({PLACE: False}, [])
    assert [line["event"] for line in logs] == ["partition_stalled", "stall_ended"]
    assert (around.asked, around.restarts) == (["audit"] * 3, [])  # whether it is paused


@pytest.mark.parametrize("said", [{}, None, {"retry": 2, "other_worker": 1}])
async def test_a_stalled_worker_without_an_excuse_is_restarted_and_left_ever_more_time(
    around: Surroundings, said: Mapping[str, object] | None
) -> None:
    around.said = said
    around.rows = [row(5, 3), row(5, 3, partition=1)]
    watchdog = around.watchdog(restarts=True)
    restarted_at: list[int] = []
    for second in range(3000):
        await around.look(watchdog, 1)
        if len(around.restarts) > len(restarted_at):
            restarted_at.append(second)
    assert restarted_at == [60, 120, 240, 480, 960, 1920, 2880]
    assert around.restarts == around.counted == ["audit"] * 7
    assert around.alarms == {PLACE: True, ("audit", "topic", 1): True}
    around.rows = [row(6, 2)]
    await around.look(watchdog, 1)
    await around.look(watchdog, 60)
    assert len(around.restarts) == 8  # it had helped, so the next stall is a first one


async def test_a_worker_that_says_what_it_waits_for_is_left_alone_but_told_of(around: Surroundings) -> None:
    around.said = {"mongodb": 0, "retry": 1}
    watchdog = around.watchdog(restarts=True)
    for after in (0, 60, 60):
        await around.look(watchdog, after)
    assert around.asked == ["audit"] * 4  # whether it is paused, what it waits for
    assert (around.restarts, around.alarms) == ([], {PLACE: True})


async def test_while_the_broker_is_away_nobody_stalls(around: Surroundings) -> None:
    watchdog = around.watchdog(restarts=True)
    assert watchdog.waiting
    await around.look(watchdog)
    assert not watchdog.waiting
    rows, around.rows = around.rows, None
    with capture_logs() as logs:
        await around.look(watchdog, 59)
        await around.look(watchdog, 59)
    assert (watchdog.waiting, [line["event"] for line in logs]) == (True, ["watchdog_waiting"])
    around.rows = rows
    await around.look(watchdog, 1)
    assert (watchdog.waiting, around.alarms) == (False, {})
    await around.look(watchdog, 60)
    assert around.alarms == {PLACE: True}


async def test_it_looks_until_told_to_stop(around: Surroundings) -> None:
    watchdog = around.watchdog(restarts=False)
    stopping = asyncio.Event()
    run = asyncio.create_task(watchdog.run(stopping))
    while watchdog.waiting:
        await asyncio.sleep(0.001)
    around.clock.now += 60
    async with asyncio.timeout(2):
        while not around.alarms:
            await asyncio.sleep(0.005)
        stopping.set()
        await run


async def test_a_look_that_fails_is_not_the_last_one(clock: ManualSeconds) -> None:
    looks, stopping = 0, asyncio.Event()

    async def measure() -> Sequence[PartitionLag]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError("no such program")
        stopping.set()
        return []

    async def ask(_: str) -> Mapping[str, object] | None:
        return None

    around = Surroundings()
    watchdog = Watchdog(
        measure, StallDetector(60, clock), around, interval=0.001, clock=clock, ask=ask, crashes_at=around.crashes_at
    )
    await asyncio.wait_for(watchdog.run(stopping), 5)
    assert looks == 2


async def test_the_alarm_is_for_the_partition_of_the_record_that_a_consumer_crashes_at(around: Surroundings) -> None:
    around.rows = [row(5, 3), row(5, 1, partition=1), row(5, 3, partition=2), row(5, 3, consumer="integrity")]
    around.crash_records["audit"] = ["topic/1/5"]
    watchdog = around.watchdog(restarts=False)
    with capture_logs() as logs:
        for after in (0, 60, 10):
            await around.look(watchdog, after)
    stuck, other = ("audit", "topic", 1), ("integrity", "topic", 0)
    assert around.alarms == {stuck: True, other: True}
    assert {stall.place: stall.held_up_by for stall in watchdog.stalls} == {
        PLACE: "topic/1/5", stuck: None, ("audit", "topic", 2): "topic/1/5", other: None,
    }  # fmt: skip
    told = sorted((line["event"], line["consumer"], line["partition"]) for line in logs)
    assert told == [
        ("partition_held_up", "audit", 0),
        ("partition_held_up", "audit", 2),
        ("partition_stalled", "audit", 1),
        ("partition_stalled", "integrity", 0),
    ]


async def test_whose_cause_becomes_known_later_is_alarmed_no_more(around: Surroundings) -> None:
    around.rows = [row(5, 3), row(5, 1, partition=1)]
    watchdog = around.watchdog(restarts=False)
    for after in (0, 60):
        await around.look(watchdog, after)
    assert around.alarms == {PLACE: True, ("audit", "topic", 1): True}
    around.crash_records["audit"] = ["topic/1/5"]
    await around.look(watchdog, 10)
    assert around.alarms == {PLACE: False, ("audit", "topic", 1): True}
    around.crash_records.clear()
    around.rows = [row(9, 0), row(5, 1, partition=1)]
    await around.look(watchdog, 10)
    assert around.alarms == {PLACE: False, ("audit", "topic", 1): True}


async def test_a_paused_consumer_raises_no_alarm_and_is_not_restarted_and_its_time_counts_from_the_end(
    around: Surroundings,
) -> None:
    watchdog = around.watchdog(restarts=True)
    around.said = {"pause": 1}
    for after in (0, 60, 60, 3600):
        await around.look(watchdog, after)
    assert (around.alarms, around.restarts, watchdog.stalls) == ({}, [], [])
    around.said = {}
    await around.look(watchdog, 59)
    assert (around.alarms, around.restarts) == ({}, [])
    await around.look(watchdog, 1)
    assert (around.alarms, around.restarts) == ({PLACE: True}, ["audit"])
