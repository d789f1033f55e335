"""The audit log and the extended metadata on the MongoDB wire protocol, and the way of a line from commit to proof."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient

from domain.audit_chain import Break, ChainCheck, ChainEntry, Fault, StoredEntry, entry_of, genesis
from domain.errors import AuditConflict, AuditStoreUnavailable
from operations.audit.verify import verify_audit
from processors.audit.chaining import AuditChainer, AuditFlusher, AuditProcessor
from storage.mongodb.audit import MongoAuditStore, document_of, stored_entry
from storage.mongodb.connection import queryable
from storage.mongodb.metadata import MongoExtendedMetadata
from storage.postgres.audit.chain import PostgresAuditPending, PostgresAuditWaiting
from storage.postgres.database import Postgres, PostgresDatabase
from tests.support.audit_lines import a_chain, a_line

Logs = Any


@pytest.fixture
async def mongo(stack: Mapping[str, str]) -> AsyncIterator[tuple[str, str]]:
    """URL and name of a database of the test's own."""
    url, name = stack["DPJ_MONGO_URL"], f"test_{uuid4().hex[:12]}"
    yield url, name
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        await client.drop_database(name)


@pytest.fixture
async def store(mongo: tuple[str, str]) -> AsyncIterator[MongoAuditStore]:
    store = MongoAuditStore(*mongo)
    yield store
    await store.aclose()


@pytest.fixture
async def logs(mongo: tuple[str, str]) -> AsyncIterator[Logs]:
    """The collection as someone with the database's password sees it."""
    async with AsyncMongoClient[dict[str, Any]](mongo[0], tz_aware=True) as client:
        yield client[mongo[1]]["audit_logs"]


async def read(store: MongoAuditStore, tenant: str, after: int = 0, up_to: int = 10_000) -> list[ChainEntry]:
    async with aclosing(store.entries(tenant, after, up_to)) as entries:
        found = [stored async for stored in entries]
    assert all(stored.faithful for stored in found)
    return [stored.entry for stored in found]


async def test_entries_come_back_in_order_and_by_range(store: MongoAuditStore) -> None:
    chain, other = a_chain(25), a_chain(2, "other")
    await store.check()
    await store.add(chain[10:])
    await store.add(chain[:10])
    await store.add(other)
    await store.add([])
    assert await read(store, "acme") == chain
    assert await read(store, "acme", 3, 5) == chain[3:5]
    assert await store.tenants() == ["acme", "other"]


async def test_the_log_has_the_platforms_field_names(store: MongoAuditStore, logs: Logs) -> None:
    line = a_line(details='{"size":7,"years":null}', old_state=None)
    await store.add([entry_of(line, genesis("acme"))])
    held = await logs.find_one({"_id": str(line.event_id)})
    assert held["entity_type"] == "document"
    assert held["entity_id"] == line.entity_id
    assert held["action"] == "document.verified"
    assert held["utilisateur_id"] == "u-1"
    assert held["timestamp"] == line.occurred_at
    assert (held["ip_address"], held["user_agent"]) == ("sealed:ip", None)
    assert held["details"] == {"size": 7, "years": None}
    assert (held["ancien_etat"], held["nouvel_etat"]) == (None, {"status": "VERIFIED"})


@pytest.mark.parametrize(
    "details",
    ['{"$set":1}', '{"a.b":1}', '{"n":99999999999999999999}', '{"t":"\\u0000"}', "not json", '{"":{"x":[1]}}'],
)
async def test_details_that_mongodb_could_not_hold_are_kept_as_text(store: MongoAuditStore, details: str) -> None:
    entry = entry_of(a_line(details=details), genesis("acme"))
    await store.add([entry])
    assert await read(store, "acme") == [entry]


async def test_a_repeated_batch_changes_nothing_and_fills_what_is_missing(store: MongoAuditStore, logs: Logs) -> None:
    chain = a_chain(12)
    await store.add(chain[3:7])
    for _ in range(2):
        await store.add(chain)
    assert await read(store, "acme") == chain
    assert await logs.count_documents({}) == 12


async def test_two_writers_of_the_same_batch_leave_it_once(store: MongoAuditStore, mongo: tuple[str, str]) -> None:
    chain, second = a_chain(40), MongoAuditStore(*mongo)
    await store.tenants()
    await asyncio.gather(store.add(chain), second.add(chain), return_exceptions=True)
    await store.add(chain)
    await second.aclose()
    assert await read(store, "acme") == chain


async def test_another_entry_in_its_place_is_a_conflict(store: MongoAuditStore, logs: Logs) -> None:
    chain = a_chain(3)
    await store.add(chain)
    with pytest.raises(AuditConflict):
        await store.add([entry_of(a_line(), genesis("acme"))])
    await logs.update_one({"_id": str(chain[1].event_id)}, {"$set": {"utilisateur_id": "someone else"}})
    with pytest.raises(AuditConflict):
        await store.add(chain)


async def test_a_place_taken_by_another_event_is_a_conflict(store: MongoAuditStore, logs: Logs) -> None:
    chain = a_chain(3)
    await store.add(chain)
    await logs.update_one({"_id": str(chain[1].event_id)}, {"$set": {"seq": 9}})
    moved = await logs.find_one({"_id": str(chain[1].event_id)})
    await logs.delete_one({"_id": moved["_id"]})
    await logs.insert_one({**moved, "_id": str(uuid4()), "seq": 2})
    with pytest.raises(AuditConflict):
        await store.add(chain)


@pytest.mark.parametrize(
    "change", [{"_id": "no event"}, {"_id": 7}, {"entree": "not json"}, {"entree": "{}"}, {"seq": 2.5}, {"extra": 1}]
)
def test_a_document_that_is_no_entry_is_not_faithful(change: dict[str, Any]) -> None:
    chain = a_chain(2)
    assert stored_entry(document_of(chain[0])) == StoredEntry(chain[0], faithful=True)
    stored = stored_entry({**document_of(chain[0]), **change})
    assert not stored.faithful
    assert ChainCheck(genesis("acme")).add(stored.entry, faithful=stored.faithful) in {
        Fault(1, Break.ALTERED),
        Fault(1, Break.MISSING),
    }


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 30 + "]" * 30,
        '{"a":[1e999]}',
        '{"a":[-9223372036854775809]}',
        '{"a":{"":1}}',
        '{"a":"\\u0000"}',
    ],
)
def test_values_that_mongodb_could_not_hold_stay_text(text: str) -> None:
    assert queryable(text) == text


async def test_a_server_that_is_away_is_said_so() -> None:
    store = MongoAuditStore("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200", "none")
    for call in (store.check(), store.add(a_chain(1)), store.tenants()):
        with pytest.raises(AuditStoreUnavailable):
            await call
    await asyncio.sleep(0.2)  # pymongo leaves a socket open if it is closed in the middle of its next attempt
    await store.aclose()


# --- the way of a line -----------------------------------------------------------------------------------------------


async def test_lines_written_at_once_become_one_proven_chain_per_tenant(
    postgres: Postgres, database: PostgresDatabase, store: MongoAuditStore, logs: Logs
) -> None:
    pending, processor = PostgresAuditPending(postgres), AuditProcessor()
    lines = [a_line("acme" if number % 3 else "other") for number in range(30)]

    async def deliver(line: Any) -> None:
        commit = await processor.process(line)
        async with database.transaction() as work:
            await commit(work)

    await asyncio.gather(*(deliver(line) for line in lines))
    assert (await verify_audit(store, pending)).lines == [
        "acme: intact, 0 entries, 20 waiting",
        "other: intact, 0 entries, 10 waiting",
    ]
    chainers = [AuditChainer(PostgresAuditWaiting(postgres), batch=6) for _ in range(2)]
    while await PostgresAuditWaiting(postgres).tenants():
        await asyncio.gather(*(chainer.move() for chainer in chainers))
    before = await verify_audit(store, pending)
    assert before.intact
    assert [(chain.verified, chain.waiting) for chain in before.chains] == [(20, 20), (10, 10)]

    flushers = [AuditFlusher(pending, store, database, batch=7) for _ in range(2)]
    await asyncio.gather(*(flusher.flush() for flusher in flushers))
    assert await pending.tenants() == []
    await deliver(lines[0])  # delivered again: it has its place
    assert await chainers[0].move() == 0
    assert await pending.tenants() == []
    after = await verify_audit(store, pending)
    assert after.intact
    assert [(chain.verified, chain.waiting) for chain in after.chains] == [(20, 0), (10, 0)]

    victim = await logs.find_one({"tenant": "acme", "seq": 11})
    for field, value in (("action", "document.read"), ("entree", victim["entree"].replace("VERIFIED", "REJECTED"))):
        await logs.update_one({"_id": victim["_id"]}, {"$set": {field: value}})
        report = await verify_audit(store, pending)
        assert report.lines == ["acme: BROKEN at entry 11 of 20 (ALTERED)", "other: intact, 10 entries"]
        await logs.replace_one({"_id": victim["_id"]}, victim)
    await logs.delete_one({"_id": victim["_id"]})
    assert (await verify_audit(store, pending)).lines[0] == "acme: BROKEN at entry 11 of 20 (MISSING)"
    await logs.delete_many({"tenant": "acme", "seq": {"$gte": 11}})
    assert (await verify_audit(store, pending)).lines[0] == "acme: BROKEN at entry 11 of 20 (MISSING)"


# --- extended metadata -----------------------------------------------------------------------------------------------


async def test_extended_metadata_is_replaced_and_removed(mongo: tuple[str, str]) -> None:
    extended, document_id = MongoExtendedMetadata(*mongo), uuid4()
    assert await extended.get(document_id) is None
    await extended.put(document_id, "acme", {"pages": 1, "old": True})
    await extended.put(document_id, "acme", {"pages": 2, "pdf": {"version": "1.7"}, "scale": 1.5})
    assert await extended.get(document_id) == {"pages": 2, "pdf": {"version": "1.7"}, "scale": 1.5}
    await extended.put(document_id, "acme", {"dpi": float("nan")})
    assert await extended.get(document_id) == '{"dpi": NaN}'
    await extended.delete(document_id, "other")
    assert await extended.get(document_id) is not None
    await extended.delete(document_id, "acme")
    await extended.delete(document_id, "acme")
    assert await extended.get(document_id) is None
    await extended.aclose()
