"""The driver for MongoDB can lose a lock when its work is cancelled, and then waits for ever: we go on with a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from uuid import uuid4

import pytest
import structlog
from bson.errors import InvalidDocument

from domain.errors import AuditStoreUnavailable
from storage.mongodb.connection import MongoConnection

Found = Mapping[str, object] | None


async def look(mongo: MongoConnection) -> Found:
    return await mongo.run("looked_at", lambda collection: collection.find_one({}))


async def test_a_driver_whose_lock_is_lost_is_replaced(stack: Mapping[str, str]) -> None:
    mongo = MongoConnection(stack["DPJ_MONGO_URL"], f"test_{uuid4().hex[:12]}", deadline=1.0)
    await mongo.check()
    await mongo._opened()._topology._lock.acquire()  # and nobody gives it back
    with structlog.testing.capture_logs() as lines:
        answers = await asyncio.gather(*(look(mongo) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(answer, AuditStoreUnavailable) for answer in answers)
    assert [line["event"] for line in lines] == ["mongodb_client_abandoned"]
    assert await look(mongo) is None
    await mongo.aclose()


async def test_a_value_s_own_errors_are_no_outage(stack: Mapping[str, str]) -> None:
    mongo = MongoConnection(stack["DPJ_MONGO_URL"], "test_values")
    client = mongo._opened()

    async def too_deep(_: object) -> None:
        raise RecursionError

    with pytest.raises(RecursionError):
        await mongo.run("values", too_deep)
    with pytest.raises(InvalidDocument):
        await mongo.run("values", lambda collection: collection.insert_one({"value": object()}))
    assert mongo._opened() is client
    await mongo.aclose()
