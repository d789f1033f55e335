"""The audit log on the MongoDB wire protocol and in PostgreSQL: the same answers to the same acts, honest or not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from domain.audit_chain import (
    ChainBreak,
    ChainCheck,
    ChainEntry,
    ChainFault,
    StoredEntry,
    entry_of,
    genesis,
    head_after,
)
from domain.errors import AuditConflict, AuditStoreUnavailable, DatabaseUnavailable
from domain.shared import crash_points
from operations.audit.export import entries_of
from operations.audit.verify import verify_audit
from processors.audit.chaining import AuditChainer, AuditFlusher, AuditProcessor
from storage.mongodb.audit import MongoAuditStore
from storage.postgres.audit.chain import PostgresUnchainedLines, PostgresUnflushedEntries
from storage.postgres.audit.entries import PostgresAuditStore
from storage.postgres.database import Postgres, PostgresDatabase
from tests.support.audit_backends import AuditLog, MongoLog, PostgresLog
from tests.support.audit_lines import MemoryUnflushedEntries, a_chain, a_line

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["mongodb", "postgresql"])
async def log(request: pytest.FixtureRequest, stack: Mapping[str, str], postgres: Postgres) -> AsyncIterator[AuditLog]:
    """A log of the test's own."""
    made: AuditLog
    if request.param == "mongodb":
        made = MongoLog(stack["DPJ_MONGO_URL"], f"test_{uuid4().hex[:12]}")
    else:
        made = PostgresLog(postgres)
    yield made
    await made.aclose()


async def read(log: AuditLog, tenant: str = "acme", after: int = 0, up_to: int = 10_000) -> list[ChainEntry]:
    async with aclosing(log.store.entries(tenant, after, up_to)) as entries:
        found = [stored async for stored in entries]
    assert all(stored.faithful for stored in found)
    return [stored.entry for stored in found]


# --- honest acts -----------------------------------------------------------------------------------------------------


async def test_entries_come_back_in_order_and_by_range(log: AuditLog) -> None:
    chain, other = a_chain(25), a_chain(2, "other")
    await log.store.add(chain[10:])
    await log.store.add(chain[:10])
    await log.store.add(other)
    await log.store.add([])
    assert await read(log) == chain
    assert await read(log, "acme", 3, 5) == chain[3:5]
    assert await read(log, "acme", 25) == []
    assert await read(log, "nobody") == []
    assert await log.store.tenants() == ["acme", "other"]


async def test_more_entries_than_a_page_are_all_read(log: AuditLog) -> None:
    chain = a_chain(2_001)
    await log.store.add(chain)
    assert await read(log) == chain


async def test_entries_about_one_entity_are_found_by_tenant_and_id(log: AuditLog) -> None:
    entity = str(uuid4())
    head, chain = genesis("acme"), []
    for number in range(6):
        chain.append(entry_of(a_line(entity_id=entity if number % 2 else str(uuid4())), head))
        head = head_after(chain[-1])
    await log.store.add(chain)
    await log.store.add([entry_of(a_line("other", entity_id=entity), genesis("other"))])
    async with aclosing(log.store.of_entity("acme", entity)) as entries:
        assert [stored.entry async for stored in entries] == chain[1::2]


async def test_the_log_has_the_platforms_field_names(log: AuditLog) -> None:
    line = a_line(details='{"size":7,"years":null}', old_state=None)
    await log.store.add([entry_of(line, genesis("acme"))])
    held = await log.held(line.event_id)
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
    [
        '{"$set":1}',
        '{"a.b":1}',
        '{"n":99999999999999999999}',
        '{"n":1e308,"m":1e999,"o":-0.0,"p":0.1,"q":1152921504606846976.0}',
        '{"n":NaN}',
        f'{{"n":{"9" * 200_000}}}',
        '{"n":1e-99999999}',
        '{"t":"\\u0000"}',
        '{"\\u0000":1}',
        r'{"t":"\ud800"}',
        r'{"\ud800":1}',
        r'{"t":"\ud83d\ude00"}',
        "not json",
        '{"":{"x":[1]}}',
        '{"a":[[1]]}',
        '{"a":1,"a":true}',
        "true",
        "[" * 100_000,
        "[" * 5_000 + "]" * 5_000,
        "[" * 30 + "]" * 30,
    ],
    ids=range(20),
)
async def test_no_oddity_in_a_line_holds_up_the_chain(log: AuditLog, details: str) -> None:
    odd = entry_of(a_line(details=details), genesis("acme"))
    for _ in range(2):
        await log.store.add([odd])
    assert await read(log) == [odd]


async def test_a_repeated_batch_changes_nothing_and_fills_what_is_missing(log: AuditLog) -> None:
    chain = a_chain(12)
    await log.store.add(chain[3:7])
    for _ in range(2):
        await log.store.add(chain)
    assert await read(log) == chain
    assert await log.count() == 12


async def test_two_writers_of_the_same_batch_leave_it_once(log: AuditLog) -> None:
    chain, second = a_chain(40), log.another()
    await log.store.tenants()
    await asyncio.gather(log.store.add(chain), second.add(chain), return_exceptions=True)
    await log.store.add(chain)
    assert await read(log) == chain


async def test_all_that_is_outside_counts(log: AuditLog) -> None:
    await log.store.add(a_chain(9))
    assert await log.store.outside("acme", 4) == (5, 9)
    assert await log.store.outside("acme", 9) is None
    assert await log.store.outside("other", 0) is None


# --- what somebody with the log's password does ----------------------------------------------------------------------


async def test_another_entry_in_its_place_is_a_conflict(log: AuditLog) -> None:
    chain = a_chain(3)
    await log.store.add(chain)
    with pytest.raises(AuditConflict):
        await log.store.add([entry_of(a_line(), genesis("acme"))])
    await log.change(chain[1].event_id, utilisateur_id="someone else")
    with pytest.raises(AuditConflict):
        await log.store.add(chain)


async def test_a_place_taken_by_another_event_is_a_conflict(log: AuditLog) -> None:
    chain = a_chain(3)
    await log.store.add([chain[0], chain[2]])
    await log.file(chain[1], id=uuid4())
    with pytest.raises(AuditConflict):
        await log.store.add(chain)


@pytest.mark.parametrize(("shared", "more"), [(0, 20), (3, 20), (0, 230)])
async def test_a_chain_that_forked_leaves_nothing_behind_the_log(log: AuditLog, shared: int, more: int) -> None:
    """As a database does that was restored to before: its new entries begin in the log's places and end behind them."""
    chain = a_chain(10)
    await log.store.add(chain)
    head, fork = (head_after(chain[shared - 1]) if shared else genesis("acme")), list(chain[:shared])
    for _ in range(more):
        fork.append(entry_of(a_line(), head))
        head = head_after(fork[-1])
    for _ in range(2):
        with pytest.raises(AuditConflict):
            await log.store.add(fork)
    assert await read(log) == chain
    assert await log.store.outside("acme", 10) is None


@pytest.mark.parametrize("seq", [4, 0, -5])
async def test_what_is_filed_beside_the_chain_is_found(log: AuditLog, seq: int) -> None:
    chain = a_chain(3)
    heads = MemoryUnflushedEntries(known={"acme": head_after(chain[-1])})
    await log.store.add(chain)
    assert (await verify_audit(log.store, heads)).intact
    await log.file(entry_of(a_line(), head_after(chain[-1])), seq=seq)
    assert (await verify_audit(log.store, heads)).lines == [f"acme: BROKEN at entry {seq} of 3 (SURPLUS)"]


async def test_a_line_in_the_place_of_one_that_waits_is_found(log: AuditLog) -> None:
    chain = a_chain(5)
    heads = MemoryUnflushedEntries(waiting=chain[2:], known={"acme": head_after(chain[-1])})
    await log.store.add(chain[:3])
    assert (await verify_audit(log.store, heads)).intact
    await log.store.add([entry_of(a_line(), head_after(chain[2]))])
    assert (await verify_audit(log.store, heads)).lines == ["acme: BROKEN at entry 4 of 5 (ALTERED)"]


@pytest.mark.parametrize(
    "change",
    [
        {"entree": b"not json"},
        {"entree": b"{}"},
        {"entree": b"[" * 100_000},
        {"action": "document.read"},
        {"entity_id": "another"},
        {"ip_address": None},
        {"empreinte": "0" * 64},
    ],
    ids=lambda change: f"{next(iter(change))}-{str(next(iter(change.values())))[:8]}",
)
def test_a_changed_column_is_no_faithful_copy(stack: Mapping[str, str], change: dict[str, Any]) -> None:
    chain = a_chain(2)
    for log in (MongoLog(stack["DPJ_MONGO_URL"], "none"), PostgresLog(Postgres("postgresql://127.0.0.1/none"))):
        assert log.read_back(chain[0]) == StoredEntry(chain[0], faithful=True)
        stored = log.read_back(chain[0], **change)
        fault = ChainCheck(genesis("acme")).add(stored.entry, faithful=stored.faithful)
        assert fault == ChainFault(1, ChainBreak.ALTERED)


def test_a_number_in_a_json_column_is_compared_exactly() -> None:
    """As the server gives it: without exponent, and with the digits that a float would lose."""
    log = PostgresLog(Postgres("postgresql://127.0.0.1/none"))
    entry = entry_of(a_line(details='{"n":1e5,"m":1152921504606846976.0}'), genesis("acme"))
    assert log.read_back(entry, details='{"m": 1152921504606846976.0, "n": 100000}').faithful
    assert not log.read_back(entry, details='{"m": 1152921504606846977.0, "n": 100000}').faithful
    one = entry_of(a_line(details='{"n":1}'), genesis("acme"))
    assert not log.read_back(one, details='{"n": true}').faithful


# --- the way of a line -----------------------------------------------------------------------------------------------


async def deliver(database: PostgresDatabase, line: Any) -> None:
    commit = await AuditProcessor().process(line)
    async with database.transaction() as work:
        await commit(work)


async def test_lines_written_at_once_become_one_proven_chain_per_tenant(
    postgres: Postgres, database: PostgresDatabase, log: AuditLog
) -> None:
    pending, store = PostgresUnflushedEntries(postgres), log.store
    lines = [a_line("acme" if number % 3 else "other") for number in range(30)]
    await asyncio.gather(*(deliver(database, line) for line in lines))
    assert (await verify_audit(store, pending)).lines == [
        "acme: intact, 0 entries, 20 waiting",
        "other: intact, 0 entries, 10 waiting",
    ]
    chainers = [AuditChainer(PostgresUnchainedLines(postgres), batch=6) for _ in range(2)]
    while await PostgresUnchainedLines(postgres).tenants():
        await asyncio.gather(*(chainer.run_once() for chainer in chainers))
    before = await verify_audit(store, pending)
    assert before.intact
    assert [(chain.verified, chain.waiting) for chain in before.chains] == [(20, 20), (10, 10)]

    flushers = [AuditFlusher(pending, store, database, batch=7) for _ in range(2)]
    await asyncio.gather(*(flusher.flush() for flusher in flushers))
    assert await pending.tenants() == []
    await deliver(database, lines[0])  # delivered again: it has its place
    assert await chainers[0].run_once() == 0
    assert await pending.tenants() == []
    after = await verify_audit(store, pending)
    assert after.intact
    assert [(chain.verified, chain.waiting) for chain in after.chains] == [(20, 0), (10, 0)]

    victim = (await read(log))[10]
    for column, value, honest in (
        ("action", "document.read", "document.verified"),
        ("entree", victim.body.replace(b"VERIFIED", b"REJECTED"), victim.body),
    ):
        await log.change(victim.event_id, **{column: value})
        report = await verify_audit(store, pending)
        assert report.lines == ["acme: BROKEN at entry 11 of 20 (ALTERED)", "other: intact, 10 entries"]
        await log.change(victim.event_id, **{column: honest})
    assert (await verify_audit(store, pending)).intact
    await log.remove("acme", 11, 11)
    assert (await verify_audit(store, pending)).lines[0] == "acme: BROKEN at entry 11 of 20 (MISSING)"
    await log.remove("acme", 11, 20)
    assert (await verify_audit(store, pending)).lines[0] == "acme: BROKEN at entry 11 of 20 (MISSING)"


KILLS = 6
LINES = 6_000


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["mongodb", "postgresql"])
async def test_a_flusher_that_is_killed_at_work_loses_and_doubles_nothing(
    kind: str, stack: Mapping[str, str], postgres: Postgres, database_dsn: str, database: PostgresDatabase
) -> None:
    """``kill -9``, each time as soon as more entries are in the log than before, and once between store and queue."""
    log: AuditLog = (
        MongoLog(stack["DPJ_MONGO_URL"], f"test_{uuid4().hex[:12]}") if kind == "mongodb" else PostgresLog(postgres)
    )
    pending = PostgresUnflushedEntries(postgres)
    async with database.transaction() as work:
        for _ in range(LINES):
            await work.audit_chains.append(a_line())
    while await AuditChainer(PostgresUnchainedLines(postgres)).run_once():
        pass
    place = log._place if isinstance(log, MongoLog) else ("", "")
    arguments = [sys.executable, "-m", "tests.support.flushing", kind, database_dsn, *place]

    async def start(**more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, env={**os.environ, **more})

    try:
        await log.store.tenants()
        there, killed = 0, 0
        for _ in range(KILLS):
            process = await start()
            async with asyncio.timeout(60):
                while (now := await log.count()) == there and process.returncode is None:
                    await asyncio.sleep(0.002)
            there = now
            if process.returncode is None:
                process.kill()
            killed += await process.wait() == -signal.SIGKILL
        assert killed >= KILLS - 1, "a busy machine may let one of them come to its end"
        process = await start(DPJ_CRASH_POINT="audit.stored")
        assert await process.wait() == crash_points.STATUS
        assert (await verify_audit(log.store, pending)).intact
        process = await start()
        assert await process.wait() == 0
        assert await pending.tenants() == []
        assert await log.count() == LINES
        report = await verify_audit(log.store, pending)
        assert report.lines == [f"acme: intact, {LINES} entries"]
        async with aclosing(entries_of(log.store, pending, "acme", LINES)) as entries:
            numbers = [json.loads(stored.entry.body)["seq"] async for stored in entries]
        assert numbers == list(range(1, LINES + 1))
    finally:
        await log.aclose()


# --- outages and guards, each store's own ------------------------------------------------------------------------------


async def test_a_mongodb_that_is_away_is_said_so() -> None:
    store = MongoAuditStore("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200", "none")
    for call in (store.check(), store.add(a_chain(1)), store.tenants()):
        with pytest.raises(AuditStoreUnavailable):
            await call
    await asyncio.sleep(0.2)  # pymongo leaves a socket open if it is closed in the middle of its next attempt
    await store.aclose()


async def test_a_database_that_is_away_is_said_so() -> None:
    postgres = Postgres("postgresql://dpj:none@127.0.0.1:1/none")
    store = PostgresAuditStore(postgres)
    for call in (store.add(a_chain(1)), store.tenants(), store.outside("acme", 1)):
        with pytest.raises(DatabaseUnavailable):
            await call
    await postgres.aclose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_logs SET action = 'document.read'",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs",
        "DELETE FROM audit_logs WHERE false",
    ],
)
async def test_the_table_gives_nothing_up(postgres: Postgres, statement: str) -> None:
    await PostgresAuditStore(postgres).add(a_chain(2))
    async with postgres.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever added to"):
            await connection.execute(statement)
    assert await PostgresLog(postgres).count() == 2


async def test_a_batch_of_which_one_is_refused_leaves_none(postgres: Postgres) -> None:
    chain = a_chain(4)
    log = PostgresLog(postgres)
    await log.file(chain[2], id=uuid4())
    with pytest.raises(AuditConflict):
        await log.store.add(chain)
    assert await log.count() == 1


async def test_other_fields_may_be_odd_in_the_database_too(postgres: Postgres) -> None:
    """FerretDB takes no NUL; the database has it spelt out."""
    log = PostgresLog(postgres)
    line = a_line(details="nul \0 in it", entity_id="e" * 20_000, user_agent_sealed="agent \0", action="a\0b")
    odd = entry_of(line, genesis("acme"))
    await log.store.add([odd])
    assert await read(log) == [odd]
    async with aclosing(log.store.of_entity("acme", "e" * 20_000)) as entries:
        assert [stored.entry async for stored in entries] == [odd]
