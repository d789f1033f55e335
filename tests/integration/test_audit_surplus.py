"""What somebody with the audit database's password files beside a chain does not stay unseen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient

from domain.audit_chain import StoredEntry, entry_of, head_after
from operations.audit.verify import verify_audit
from storage.mongodb.audit import MongoAuditStore, document_of
from tests.support.audit_lines import WaitingEntries, a_chain, a_line


@pytest.fixture
async def site(stack: Mapping[str, str]) -> AsyncIterator[tuple[MongoAuditStore, Any]]:
    """A store with a database of the test's own, and its collection as a stranger sees it."""
    url, name = stack["DPJ_MONGO_URL"], f"test_{uuid4().hex[:12]}"
    store = MongoAuditStore(url, name)
    async with AsyncMongoClient[dict[str, Any]](url, tz_aware=True) as client:
        yield store, client[name]["audit_logs"]
        await store.aclose()
        await client.drop_database(name)


@pytest.mark.parametrize(
    ("filed_as", "named"),
    [
        ({"seq": 4}, 4),
        ({"seq": 0}, 0),
        ({"seq": -5}, -5),
        ({"seq": "2"}, 0),
        ({"seq": 4.5}, 0),
        ({"seq": True}, 0),
        ({}, 0),
    ],
)
async def test_a_document_filed_beside_the_chain_is_found(
    site: tuple[MongoAuditStore, Any], filed_as: dict[str, Any], named: int
) -> None:
    store, logs = site
    chain = a_chain(3)
    heads = WaitingEntries(known={"acme": head_after(chain[-1])})
    await store.add(chain)
    assert await store.outside("acme", 3) is None
    assert (await verify_audit(store, heads)).intact
    forged = document_of(entry_of(a_line(), head_after(chain[-1])))
    del forged["seq"]
    await logs.insert_one({**forged, **filed_as})
    assert (await verify_audit(store, heads)).lines == [f"acme: BROKEN at entry {named} of 3 (SURPLUS)"]


async def test_all_that_is_outside_counts(site: tuple[MongoAuditStore, Any]) -> None:
    store, _ = site
    await store.add(a_chain(9))
    assert await store.outside("acme", 4) == (5, 9)
    assert await store.outside("other", 0) is None


async def test_a_line_in_the_place_of_one_that_waits_is_found(site: tuple[MongoAuditStore, Any]) -> None:
    store, _ = site
    chain = a_chain(5)
    heads = WaitingEntries(waiting=chain[2:], known={"acme": head_after(chain[-1])})
    await store.add(chain[:3])
    assert (await verify_audit(store, heads)).intact
    await store.add([entry_of(a_line(), head_after(chain[2]))])
    assert (await verify_audit(store, heads)).lines == ["acme: BROKEN at entry 4 of 5 (ALTERED)"]


@pytest.mark.parametrize("details", [r'{"t":"\ud800"}', r'{"\ud800":1}', '{"a":[[1]]}', "[" * 5_000 + "]" * 5_000])
async def test_no_oddity_in_a_line_holds_up_the_chain(site: tuple[MongoAuditStore, Any], details: str) -> None:
    store, logs = site
    odd = entry_of(a_line(details=details), head_after(a_chain(1)[0]))
    await store.add([odd])
    assert (await logs.find_one({}))["details"] == details
    assert [stored async for stored in store.entries("acme", 0, 9)] == [StoredEntry(odd, faithful=True)]
