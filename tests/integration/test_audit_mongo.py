"""What only the MongoDB wire protocol can hold of an audit log: documents of any shape. The rest is tests/contract's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from domain.audit_chain import ChainBreak, ChainCheck, ChainFault, StoredEntry, entry_of, genesis, head_after
from operations.audit.verify import verify_audit
from storage.mongodb.audit import document_of, stored_entry
from storage.mongodb.connection import queryable
from tests.support.audit_backends import MongoLog
from tests.support.audit_lines import MemoryUnflushedEntries, a_chain, a_line


@pytest.fixture
async def log(stack: Mapping[str, str]) -> AsyncIterator[MongoLog]:
    """A log of the test's own."""
    made = MongoLog(stack["DPJ_MONGO_URL"], f"test_{uuid4().hex[:12]}")
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("filed_as", "named"), [({"seq": "2"}, 0), ({"seq": 4.5}, 0), ({"seq": True}, 0), ({}, 0)], ids=str
)
async def test_a_document_without_a_number_is_found_beside_the_chain(
    log: MongoLog, filed_as: dict[str, Any], named: int
) -> None:
    chain = a_chain(3)
    heads = MemoryUnflushedEntries(known={"acme": head_after(chain[-1])})
    await log.store.add(chain)
    assert (await verify_audit(log.store, heads)).intact
    forged = document_of(entry_of(a_line(), head_after(chain[-1])))
    del forged["seq"]
    await log.documents.insert_one({**forged, **filed_as})
    assert (await verify_audit(log.store, heads)).lines == [f"acme: BROKEN at entry {named} of 3 (SURPLUS)"]


async def test_what_it_can_not_hold_as_a_value_it_holds_as_text(log: MongoLog) -> None:
    details = '{"a":[[1]]}'
    line = a_line(details=details)
    await log.store.add([entry_of(line, genesis("acme"))])
    assert (await log.held(line.event_id))["details"] == details


def test_who_has_no_password_sees_nothing(stack: Mapping[str, str]) -> None:
    address = stack["DPJ_MONGO_URL"].partition("@")[2].partition("/")[0]
    stranger: MongoClient[dict[str, int]] = MongoClient(f"mongodb://{address}/")
    with pytest.raises(Exception, match=r"(?i)auth|password"):
        stranger["dpj"].list_collection_names()
    stranger.close()


@pytest.mark.parametrize(
    "change", [{"_id": "no event"}, {"_id": 7}, {"entree": "not json"}, {"entree": "{}"}, {"seq": 2.5}, {"extra": 1}]
)
def test_a_document_that_is_no_entry_is_not_faithful(change: dict[str, Any]) -> None:
    chain = a_chain(2)
    assert stored_entry(document_of(chain[0])) == StoredEntry(chain[0], faithful=True)
    stored = stored_entry({**document_of(chain[0]), **change})
    assert not stored.faithful
    assert ChainCheck(genesis("acme")).add(stored.entry, faithful=stored.faithful) in {
        ChainFault(1, ChainBreak.ALTERED),
        ChainFault(1, ChainBreak.MISSING),
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
