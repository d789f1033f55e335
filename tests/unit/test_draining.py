"""A consumer that stops: what is at work ends and is acknowledged, what is held is not waited for, nothing begins."""

from __future__ import annotations

import asyncio

import pytest

from domain.errors import GedUnavailable
from domain.shared.waiting import unless_stopped
from streams.draining import Drain
from streams.lanes import Record
from tests.support.fakes_streams import PARTITION, DeliveryBench, an_event


async def test_what_is_at_work_ends_and_is_acknowledged_and_nothing_begins() -> None:
    bench = DeliveryBench()
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await release.wait()

    bench.processor.steps = [slow]
    bench.send(an_event())
    await begun.wait()
    draining = asyncio.create_task(bench.delivery.drain(5))
    await asyncio.sleep(0.02)
    bench.send(an_event())
    assert not draining.done()
    release.set()
    await asyncio.wait_for(draining, 2)
    assert bench.committed == [{PARTITION: 1}]
    assert len(bench.processor.seen) == 1
    await bench.delivery.revoke()
    assert bench.delivery.depth == 0


async def test_what_is_held_is_not_waited_for_and_stays_unacknowledged() -> None:
    bench = DeliveryBench()
    bench.processor.steps = [GedUnavailable() for _ in range(10_000)]
    bench.send(an_event())
    async with asyncio.timeout(2):
        while not bench.processor.seen:
            await asyncio.sleep(0.001)
    await asyncio.wait_for(bench.delivery.drain(5), 2)
    tries = len(bench.processor.seen)
    await asyncio.sleep(0.05)
    assert len(bench.processor.seen) == tries
    assert bench.committed == []
    await bench.delivery.revoke()


async def test_the_drain_has_a_deadline() -> None:
    drain = Drain()

    async def hangs(_: Record) -> None:
        await asyncio.Event().wait()

    work = asyncio.create_task(drain.work(hangs, Record(PARTITION, 0, b"k", b"")))
    await asyncio.sleep(0)
    await asyncio.wait_for(drain.close(0.02), 1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.wait_for(drain.close(5), 1)


async def test_work_that_a_stop_cuts_short_is_cancelled_and_its_result_or_error_handed_on_else() -> None:
    stopping = asyncio.Event()

    async def answer() -> int:
        return 7

    async def fails() -> int:
        raise GedUnavailable

    assert await unless_stopped(stopping, answer()) == 7
    with pytest.raises(GedUnavailable):
        await unless_stopped(stopping, fails())
    hanging = asyncio.ensure_future(asyncio.sleep(60, 1))
    asyncio.get_running_loop().call_later(0.01, stopping.set)
    assert await asyncio.wait_for(unless_stopped(stopping, hanging), 1) is None
    await asyncio.sleep(0)
    assert hanging.cancelled()
