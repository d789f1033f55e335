"""An operation on MongoDB ends in time, whatever the driver does with its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from domain.errors import AuditStoreUnavailable
from storage.mongodb.connection import MongoConnection


class Deaf:
    """Work that heeds no cancellation, as the driver's does that waits for a lost lock."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.released = asyncio.Event()

    async def __call__(self, _: object) -> None:
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


@pytest.fixture
async def mongo() -> AsyncIterator[MongoConnection]:
    mongo = MongoConnection("mongodb://nobody.invalid:1/", "none", deadline=0.05)
    yield mongo
    await mongo.aclose()


async def test_work_that_heeds_no_cancellation_is_left_behind(mongo: MongoConnection) -> None:
    deaf, client = Deaf(), mongo._opened()
    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(5):
            with pytest.raises(AuditStoreUnavailable):
                await mongo.run("any", deaf)
    assert [line["event"] for line in lines] == ["mongodb_client_abandoned"]
    assert mongo._opened() is not client
    deaf.released.set()
    await asyncio.sleep(0)


async def test_who_is_cancelled_does_not_wait_for_the_driver() -> None:
    mongo, deaf = MongoConnection("mongodb://nobody.invalid:1/", "none", deadline=60), Deaf()
    asked = asyncio.create_task(mongo.run("any", deaf))
    await asyncio.sleep(0.01)
    asked.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await asked
    await asyncio.sleep(0)
    assert deaf.cancelled == 1
    deaf.released.set()
    await mongo.aclose()


async def test_a_driver_that_breaks_its_own_rules_is_replaced(mongo: MongoConnection) -> None:
    async def broken(_: object) -> None:
        raise RuntimeError("cannot wait on un-acquired lock")

    client = mongo._opened()
    with pytest.raises(AuditStoreUnavailable):
        await mongo.run("any", broken)
    assert mongo._opened() is not client
