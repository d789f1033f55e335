"""What delivery needs of Faust and the broker, on the real ones: nothing unprocessed is ever committed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from structlog.testing import capture_logs

from domain.errors import GedUnavailable
from domain.events import Event
from domain.pauses import Pause
from processors.ports.work import Commit
from streams.apps import ConsumerOffsets, ConsumerSettings, IncompleteAssignmentDetector
from streams.consumer import ConsumerRunner
from streams.delivery import Delivery, Flow, Policy
from streams.fetching import FetchConsumer
from streams.lanes import Partition, Record
from streams.pauses import PauseGate
from tests.support.fakes_streams import DeliveryBench, an_event

PARTITIONS = 2
POLICY = Policy(lane_size=64, lane_concurrency=4, lease=5.0, retry_base=0.05, retry_cap=0.2, ack_interval=0.1)


class Site:
    """A topic of its own, one shared inbox and database, and as many group members as a test starts."""

    def __init__(self, bootstrap: str, scratch: Path) -> None:
        #: What each member asks whether the consumer is paused: a gate of its own, as each process has.
        self.gates: list[PauseGate] = []
        self.first_looks: list[asyncio.Task[None]] = []
        self.paused: dict[str, tuple[Pause, float]] = {}
        self.bootstrap = bootstrap
        self.scratch = scratch
        self.topic = f"test.delivery.{uuid4().hex}"
        self.consumer = f"test-{uuid4().hex}"
        self.bench = DeliveryBench(POLICY)
        self.held: set[UUID] = set()
        self.runs: dict[UUID, int] = {}
        self.accept_failures = 0
        #: Off: no offset is committed, as by a process that dies before it comes to that.
        self.committing = True
        self.process_once = self.bench.processor.process
        self.bench.processor.process = self.process  # type: ignore[method-assign]

    async def process(self, event: Event) -> Commit:
        self.runs[event.event_id] = self.runs.get(event.event_id, 0) + 1
        if event.event_id in self.held:
            raise GedUnavailable
        return await self.process_once(event)

    async def read_pauses(self) -> Mapping[str, tuple[Pause, float]]:
        return self.paused

    def create_topic(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)]).values():
            future.result(20)

    def send(self, count: int, partition: int) -> list[Event]:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        events: list[Event] = []
        for _ in range(count):
            event = self.event()
            producer.produce(self.topic, str(event.event_id).encode(), key=event.key.encode(), partition=partition)
            events.append(event)
        assert producer.flush(20) == 0
        return events

    def event(self) -> Event:
        """An event whose record has its id as its value."""
        event = an_event()
        self.bench.events[str(event.event_id).encode()] = event
        return event

    def committed(self) -> list[int]:
        """Committed offset per partition; -1001 means none."""
        client = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"dpj.{self.consumer}"})
        try:
            asked = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
            return [answer.offset for answer in client.committed(asked, timeout=20)]
        finally:
            client.close()

    def member(self) -> ConsumerRunner:
        bench, gate = self.bench, PauseGate(self.read_pauses)
        self.gates.append(gate)
        self.first_looks.append(asyncio.create_task(gate.refresh()))

        def create(flow: Flow, offsets: ConsumerOffsets) -> Delivery:
            delivery = Delivery(
                bench.processor,
                decode=bench.decode,
                inbox=bench.inbox,
                database=bench.database,
                commit_offsets=partial(self.commit, offsets),
                flow=flow,
                metrics=bench.metrics,
                policy=POLICY,
                gate=gate,
            )
            accept = delivery.accept

            def maybe_fail(record: Record) -> None:
                if self.accept_failures:
                    self.accept_failures -= 1
                    raise RuntimeError("a defect in the agent")
                accept(record)

            delivery.accept = maybe_fail  # type: ignore[method-assign]
            return delivery

        settings = ConsumerSettings(bootstrap=self.bootstrap, scratch=str(self.scratch))
        return ConsumerRunner(self.consumer, (self.topic,), settings, create)

    async def commit(self, offsets: ConsumerOffsets, finished: Mapping[Partition, int]) -> bool:
        return self.committing and await offsets.commit(finished)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ConsumerRunner]:
        """A group member, running until the block ends (as it would at SIGTERM)."""
        stopping = asyncio.Event()
        runner = self.member()
        await self.gates[-1].refresh()
        task = asyncio.create_task(runner.run(stopping))
        try:
            async with asyncio.timeout(60):
                while runner.state != "running":
                    await asyncio.sleep(0.05)
            yield runner
        finally:
            stopping.set()
            async with asyncio.timeout(20):
                await task

    async def until_written(self, events: list[Event]) -> None:
        wanted = {event.event_id for event in events}
        async with asyncio.timeout(60):
            while not wanted <= set(self.bench.database.written):
                await asyncio.sleep(0.05)

    async def until_committed(self, expected: list[int]) -> None:
        async with asyncio.timeout(30):
            while await asyncio.to_thread(self.committed) != expected:
                await asyncio.sleep(0.1)

    def each_written_once(self, events: list[Event]) -> bool:
        written = self.bench.database.written
        return all(written.count(event.event_id) == 1 for event in events)


@pytest.fixture
def site(stack: Mapping[str, str], tmp_path: Path) -> Site:
    site = Site(stack["DPJ_KAFKA_BOOTSTRAP"], tmp_path)
    site.create_topic()
    return site


async def test_everything_is_processed_once_and_committed(site: Site) -> None:
    events = [*site.send(300, 0), *site.send(300, 1)]
    async with site.running():
        await site.until_written(events)
        await site.until_committed([300, 300])
    assert site.each_written_once(events)


async def test_a_held_event_holds_its_partition_only_and_stopping_commits_nothing_of_it(site: Site) -> None:
    first = site.send(200, 0)
    other = site.send(200, 1)
    site.held = {first[3].event_id}
    async with site.running():
        await site.until_written(other)
        await site.until_committed([3, 200])
    assert site.committed() == [3, 200]
    assert len(site.bench.database.written) < 400
    site.held.clear()
    async with site.running():
        await site.until_written(first)
        await site.until_committed([200, 200])
    assert site.each_written_once([*first, *other])


async def test_sigterm_during_a_held_event_commits_nothing_of_it(site: Site) -> None:
    events = site.send(50, 0)
    site.held = {events[3].event_id}
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)  # as runtime.processes.run does; Faust must not take it over
    task = asyncio.create_task(site.member().run(stopping))
    try:
        await site.until_committed([3, -1001])
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await task
    finally:
        stopping.set()
        loop.remove_signal_handler(signal.SIGTERM)
    assert site.committed() == [3, -1001]
    assert events[3].event_id not in site.bench.database.written


async def test_an_exception_acknowledges_nothing_unprocessed(site: Site) -> None:
    site.bench.processor.steps = [ZeroDivisionError(), ZeroDivisionError()]
    site.accept_failures = 1
    events = [*site.send(50, 0), *site.send(50, 1)]
    async with site.running():
        await site.until_written(events)
        await site.until_committed([50, 50])
    assert site.each_written_once(events)


async def test_a_second_worker_joins_and_leaves_during_a_held_event(site: Site) -> None:
    first = site.send(100, 0)
    other = site.send(100, 1)
    site.held = {first[0].event_id}
    async with site.running():
        await site.until_written(other)
        async with site.running():
            more = [*site.send(50, 0), *site.send(50, 1)]
            await site.until_written(more[50:])
            assert site.committed()[0] in {0, -1001}
        assert site.committed()[0] in {0, -1001}
        site.held.clear()
        await site.until_written([*first, *more])
        await site.until_committed([150, 150])
    assert site.each_written_once([*first, *other, *more])


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The Faust apps that were made, the last one last."""
    import streams.consumer as consumer_module

    made: list[Any] = []
    create_app = consumer_module.create_app

    def remember(*arguments: Any) -> object:
        made.append(create_app(*arguments))
        return made[-1]

    monkeypatch.setattr(consumer_module, "create_app", remember)
    return made


async def crash_a_service(app: Any) -> None:
    await app.topics.crash(RuntimeError("the conductor crashed"))


async def cancel_the_agent(app: Any) -> None:
    (agent,) = app.agents.values()
    (actor,) = agent._actors
    actor.actor_task.cancel()


async def end_the_stream(app: Any) -> None:
    app.agents.cancel()


@pytest.mark.parametrize("crash", [crash_a_service, cancel_the_agent, end_the_stream])
async def test_a_crashed_faust_service_commits_nothing_and_the_consumer_comes_back(
    site: Site, apps: list[Any], crash: Callable[[Any], Awaitable[None]]
) -> None:
    events = site.send(100, 0)
    site.held = {events[5].event_id}
    async with site.running() as runner:
        await site.until_committed([5, -1001])
        await crash(apps[0])
        async with asyncio.timeout(60):
            while len(apps) < 2 or runner.state != "running":
                await asyncio.sleep(0.05)
        assert site.committed()[0] == 5
        site.held.clear()
        await site.until_written(events)
        await site.until_committed([100, -1001])
    assert site.each_written_once(events)


async def test_a_worker_started_before_its_topic_waits_for_it(site: Site) -> None:
    site.topic = f"test.delivery.{uuid4().hex}"
    stopping = asyncio.Event()
    runner = site.member()
    task = asyncio.create_task(runner.run(stopping))
    try:
        async with asyncio.timeout(20):
            while runner.state != "waiting_for_topics":
                await asyncio.sleep(0.05)
        site.create_topic()
        events = site.send(10, 0)
        await site.until_written(events)
    finally:
        stopping.set()
        await task


async def test_partitions_that_an_assignment_left_to_nobody_are_taken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group's leader makes the assignment while its client does not know the topic, as after a start of the broker."""
    forgotten: list[str] = []

    class Forgetful:
        def __init__(self, cluster: Any) -> None:
            self._cluster = cluster

        def __getattr__(self, name: str) -> Any:
            return getattr(self._cluster, name)

        def partitions_for_topic(self, topic: str) -> Any:
            return None if topic == site.topic else self._cluster.partitions_for_topic(topic)

    noting = IncompleteAssignmentDetector.assign

    def forgetful(self: Any, cluster: Any, members: Any) -> Any:
        ours = any(site.topic in metadata.subscription for metadata in members.values())
        if ours and len(forgotten) < 2:
            forgotten.append(site.topic)
            return noting(self, Forgetful(cluster), members)
        return noting(self, cluster, members)

    monkeypatch.setattr(IncompleteAssignmentDetector, "assign", forgetful)
    events = [*site.send(3, 0), *site.send(3, 1)]
    with capture_logs() as logs:
        async with site.running():
            await site.until_written(events)
            await site.until_committed([3, 3])
    assert forgotten == [site.topic] * 2
    assert [line["error"] for line in logs if line["event"] == "consumer_crashed"] == ["PartitionsUnassigned"] * 2
    assert site.each_written_once(events)


async def test_what_was_fetched_during_a_rebalance_comes_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a partition's first records, behind which no offset was ever committed."""
    fetch = FetchConsumer._wait_next_records
    dropped: list[Any] = []
    due = 1

    async def rebalancing(consumer: Any, seconds: float) -> Any:
        found, active = await fetch(consumer, seconds)
        if found and len(dropped) < due:
            dropped.append(found)
            consumer.stop_flow()
            asyncio.get_running_loop().call_later(0.3, consumer.resume_flow)
        return found, active

    monkeypatch.setattr(FetchConsumer, "_wait_next_records", rebalancing)
    async with site.running():
        first = site.send(3, 0)
        await site.until_written(first)
        await site.until_committed([3, -1001])
        assert len(dropped) == 1
        due = 2
        second = [*site.send(3, 0), *site.send(2, 1)]
        await site.until_written(second)
        await site.until_committed([6, 2])
    assert len(dropped) == 2
    assert site.each_written_once([*first, *second])


# --- a pause ------------------------------------------------------------------------------------------------------------


def a_pause(site: Site, seconds: float = 600.0) -> None:
    now = datetime.now(UTC)
    name = site.bench.processor.consumer
    pause = Pause(consumer=name, by="p:o", reason="INC-1", since=now, until=now + timedelta(seconds=seconds))
    site.paused = {name: (pause, seconds)}


async def told(site: Site) -> None:
    for gate in site.gates:
        await gate.refresh()


async def test_a_pause_outlives_a_rebalance_and_a_kill_and_loses_nothing(site: Site) -> None:
    async with site.running():
        await site.until_written(site.send(3, 0))
        a_pause(site)
        await told(site)
        first = [*site.send(80, 0), *site.send(80, 1)]  # more than the lanes take
        async with site.running():  # joins: partitions move while paused
            await asyncio.sleep(3)
            assert len(site.bench.database.written) == 3
            assert [row for row in site.bench.inbox.rows.values() if row[0] == "CLAIMED"] == []
        await asyncio.sleep(1)  # and back
        assert len(site.bench.database.written) == 3
    async with site.running():  # after the first one's end; it starts paused
        await asyncio.sleep(2)
        assert len(site.bench.database.written) == 3
        site.paused = {}
        await told(site)
        await site.until_written(first)
        await site.until_committed([83, 80])
    assert len(site.bench.database.written) == 163
    assert all(count == 1 for count in site.runs.values())


async def test_a_pause_ends_by_itself(site: Site) -> None:
    async with site.running():
        await site.until_written(site.send(1, 0))  # its start counts for nothing
        a_pause(site, 5.0)
        await told(site)
        events = site.send(2, 0)
        await asyncio.sleep(0.5)
        assert len(site.bench.database.written) == 1
        await site.until_written(events)
