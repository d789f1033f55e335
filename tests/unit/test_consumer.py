"""A consumer's runner over an app that is told what to do: nothing of a thrown-away app goes on working."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

import streams.consumer
from domain.errors import GedUnavailable
from streams.apps import ConsumerOffsets, ConsumerSettings
from streams.consumer import ConsumerRunner
from streams.consumer_thread import FetchUnreadable
from streams.delivery import Delivery, Flow
from streams.lanes import Record
from tests.support.fakes_streams import PARTITION, DeliveryBench, an_event


class FakeApp:
    """Starts at once; while it stops, its agent may still hand over a record, as Faust's does."""

    def __init__(self) -> None:
        self._crashed = asyncio.Event()
        self.crash_reason: Exception | None = None
        self.late: list[Record] = []
        self.delivery: Delivery | None = None
        self.consumer = SimpleNamespace()

    async def start(self) -> None: ...

    async def stop(self) -> None:
        assert self.delivery is not None
        await asyncio.sleep(0)
        for record in self.late:
            self.delivery.accept(record)
        await asyncio.sleep(0.01)


class Site:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = DeliveryBench()
        self.apps: list[FakeApp] = []

        def create_app(*_: object) -> FakeApp:
            self.apps.append(FakeApp())
            return self.apps[-1]

        def attach(app: FakeApp, _: object, delivery: Delivery) -> None:
            app.delivery = delivery

        async def topics_are_there(*_: object) -> None: ...

        monkeypatch.setattr(streams.consumer, "create_app", create_app)
        monkeypatch.setattr(streams.consumer, "attach", attach)
        monkeypatch.setattr(streams.consumer, "BROKER_POLL_SECONDS", 0.01)
        monkeypatch.setattr(ConsumerRunner, "_wait_for_topics", topics_are_there)

    def delivery(self, *_: Flow | ConsumerOffsets) -> Delivery:
        return self.bench.delivery

    def runner(self) -> ConsumerRunner:
        settings = ConsumerSettings(bootstrap="nowhere", scratch="nowhere")
        return ConsumerRunner("scripted", ("topic",), settings, self.delivery)


async def until(check: Any) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.005)


async def test_a_record_handed_over_while_the_app_stops_is_not_worked_on_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(monkeypatch)
    site.bench.processor.steps = [GedUnavailable() for _ in range(10_000)]
    event = an_event()
    site.bench.events[b"late"] = event
    stopping = asyncio.Event()
    runner = site.runner()
    task = asyncio.create_task(runner.run(stopping))
    await until(lambda: runner.state == "running")
    site.apps[0].late = [Record(PARTITION, 7, b"k", b"late")]
    stopping.set()
    await task
    tries = len(site.bench.processor.seen)
    await asyncio.sleep(0.05)
    assert len(site.bench.processor.seen) == tries
    assert site.bench.delivery.depth == 0


async def test_when_acknowledging_fails_the_app_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    acknowledge = site.bench.delivery.acknowledge
    failures = [RuntimeError("a defect")]

    async def fail_once() -> None:
        if failures:
            raise failures.pop()
        await acknowledge()

    monkeypatch.setattr(site.bench.delivery, "acknowledge", fail_once)
    stopping = asyncio.Event()
    task = asyncio.create_task(site.runner().run(stopping))
    try:
        await until(lambda: len(site.apps) == 2)
        site.bench.send(an_event())
        await until(lambda: site.bench.committed)
    finally:
        stopping.set()
        await task


async def test_an_app_that_crashes_while_it_starts_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    hanging = [True]

    async def start(app: FakeApp) -> None:
        if hanging:
            hanging.pop()
            app._crashed.set()
            await asyncio.sleep(3600)

    monkeypatch.setattr(FakeApp, "start", start)
    stopping = asyncio.Event()
    runner = site.runner()
    task = asyncio.create_task(runner.run(stopping))
    try:
        await until(lambda: len(site.apps) == 2 and runner.state == "running")
    finally:
        stopping.set()
        await task


class Crashes:
    """An observer, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.counted: list[str] = []
        self.now = 0.0
        self.is_crashing: Callable[[], bool] | None = None

    def clock(self) -> float:
        return self.now

    def crashed(self, consumer: str) -> None:
        self.counted.append(consumer)

    def watch(self, consumer: str, is_crashing: Callable[[], bool]) -> None:
        self.is_crashing = is_crashing


async def test_a_consumer_that_crashes_again_and_again_is_crashing_until_it_runs_steadily(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site, crashes = Site(monkeypatch), Crashes()
    failing = [True]

    async def start(_: FakeApp) -> None:
        if failing:
            raise FetchUnreadable("dpj.document.uploaded", 1, 7, "UnicodeDecodeError") from ValueError(
                "a document's text"
            )

    monkeypatch.setattr(FakeApp, "start", start)
    settings = ConsumerSettings(bootstrap="nowhere", scratch="nowhere")
    runner = ConsumerRunner("scripted", ("topic",), settings, site.delivery, observer=crashes, clock=crashes.clock)
    assert crashes.is_crashing is not None
    stopping = asyncio.Event()
    task = asyncio.create_task(runner.run(stopping))
    seen: set[str] = set()
    try:
        with capture_logs() as logs:
            await until(lambda: seen.add(runner.state) or len(crashes.counted) >= 4)
        assert crashes.is_crashing()
        crash = runner.crash
        assert crash is not None
        assert (crash["error"], crash["record"]) == ("FetchUnreadable", "dpj.document.uploaded/1/7")
        assert "document's" not in str(crash)
        assert "document's" not in str(logs)
        failing.clear()
        await until(lambda: runner._phase == "running")
        assert runner.state == "crashing"
        crashes.now += 29
        assert runner.state == "crashing"
        crashes.now += 2
        assert runner.state == "running"
        assert runner.crash is None
        assert not crashes.is_crashing()
    finally:
        stopping.set()
        await task
    assert runner.state == "stopped"


async def test_crashes_that_come_seldom_are_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    site, crashes = Site(monkeypatch), Crashes()

    async def start(_: FakeApp) -> None:
        crashes.now += 31
        raise RuntimeError

    monkeypatch.setattr(FakeApp, "start", start)
    settings = ConsumerSettings(bootstrap="nowhere", scratch="nowhere")
    runner = ConsumerRunner("scripted", ("topic",), settings, site.delivery, observer=crashes, clock=crashes.clock)
    stopping = asyncio.Event()
    task = asyncio.create_task(runner.run(stopping))
    states: set[str] = set()
    await until(lambda: states.add(runner.state) or len(crashes.counted) >= 6)
    stopping.set()
    await task
    assert "crashing" not in states
