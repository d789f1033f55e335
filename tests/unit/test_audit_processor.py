"""The audit consumer and the flusher behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from domain.audit_chain import ChainEntry, verify
from domain.errors import AuditConflict, AuditStoreUnavailable
from domain.events import AuditRecorded, DocumentErased
from processors.audit import chaining
from processors.audit.chaining import AuditChainer, AuditFlusher, AuditProcessor
from tests.support.audit_lines import MemoryAuditStore, MemoryUnflushedEntries, a_chain, a_line
from tests.support.builders import NOW
from tests.support.memory import MemoryDatabase, MemoryUnchainedLines


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaining, "IDLE_SECONDS", 0.005)
    monkeypatch.setattr(chaining, "RETRY_SECONDS", 0.005)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.002)


# --- processor -------------------------------------------------------------------------------------------------------


async def test_each_line_gets_one_place_in_its_tenants_chain() -> None:
    database, processor = MemoryDatabase(), AuditProcessor()
    lines = [a_line(), a_line("other"), a_line()]
    for line in (*lines, lines[0]):
        commit = await processor.process(line)
        async with database.transaction() as work:
            await commit(work)
    assert (processor.consumer, processor.handles) == ("audit", (AuditRecorded,))
    assert not database.rows.pending
    chainer = AuditChainer(MemoryUnchainedLines(database), batch=1)
    assert [await chainer.run_once() for _ in range(3)] == [2, 1, 0]
    mine = [entry for entry in database.rows.pending if entry.tenant == "acme"]
    assert [entry.event_id for entry in mine] == [lines[0].event_id, lines[2].event_id]
    assert verify("acme", mine) is None
    assert database.rows.heads["other"].seq == 1


async def test_other_events_are_not_for_the_audit_consumer() -> None:
    event = DocumentErased(
        event_id=uuid4(),
        sequence=1,
        occurred_at=NOW,
        correlation_id=uuid4(),
        tenant="acme",
        actor="u",
        document_id=uuid4(),
        legal_basis_code="x",
    )
    with pytest.raises(TypeError):
        await AuditProcessor().process(event)


async def test_giving_up_writes_nothing() -> None:
    database = MemoryDatabase()
    commit = await AuditProcessor().give_up(a_line(), "unexpected_failure")
    async with database.transaction() as work:
        await commit(work)
    assert not database.rows.waiting


# --- chainer and flusher ---------------------------------------------------------------------------------------------------------


def flusher_of(
    waiting: MemoryUnflushedEntries, store: MemoryAuditStore, database: MemoryDatabase | None = None, batch: int = 4
) -> AuditFlusher:
    return AuditFlusher(waiting, store, database or MemoryDatabase(), batch=batch)


async def test_entries_move_in_batches_under_their_tenants_lock() -> None:
    chain, other = a_chain(10), a_chain(4, "other")
    waiting, store, database = MemoryUnflushedEntries([*chain, *other]), MemoryAuditStore(), MemoryDatabase()
    assert await flusher_of(waiting, store, database).flush() == 14
    assert not waiting.waiting
    assert store.batches == [4, 4, 2, 4]
    assert [stored.entry for key, stored in sorted(store.kept.items()) if key[0] == "acme"] == chain
    assert database.locked == ["audit-flush/acme", "audit-flush/other"]
    assert await flusher_of(waiting, store).flush() == 0


async def test_nothing_is_forgotten_before_the_store_has_it() -> None:
    chain = a_chain(6)
    waiting, store = MemoryUnflushedEntries(list(chain)), MemoryAuditStore(away=1)
    flusher = flusher_of(waiting, store)
    with pytest.raises(AuditStoreUnavailable):
        await flusher.flush()
    assert waiting.waiting == chain
    await store.add(chain[:4])  # as if we had died between the store's answer and the removal
    assert await flusher.flush() == 6
    assert [stored.entry for _, stored in sorted(store.kept.items())] == chain


async def test_a_tenant_that_another_flusher_has_is_left_to_it() -> None:
    waiting, store, database = (
        MemoryUnflushedEntries([*a_chain(1), *a_chain(1, "other")]),
        MemoryAuditStore(),
        MemoryDatabase(),
    )
    async with database.lock("audit-flush/acme"):
        assert await flusher_of(waiting, store, database).flush() == 1
    assert [entry.tenant for entry in waiting.waiting] == ["acme"]


async def test_a_refused_tenant_does_not_stop_the_others() -> None:
    waiting = MemoryUnflushedEntries([*a_chain(1, "a"), *a_chain(1, "b"), *a_chain(1, "c")])
    store = MemoryAuditStore(refused={"a", "b"})
    with capture_logs() as logs, pytest.raises(AuditConflict):
        await flusher_of(waiting, store).flush()
    assert [entry.tenant for entry in waiting.waiting] == ["a", "b"]
    assert logs == [
        {"event": "audit_flush_refused", "log_level": "error", "tenant": tenant, "code": "audit_conflict"}
        for tenant in ("a", "b")
    ]


async def test_it_says_what_it_waits_for_and_goes_on_when_that_is_back() -> None:
    waiting, store, stopping = MemoryUnflushedEntries(a_chain(3)), MemoryAuditStore(away=10_000), asyncio.Event()
    flusher = flusher_of(waiting, store)
    running = asyncio.create_task(flusher.run(stopping))
    await until(lambda: flusher.waiting_for == "mongodb")
    store.away = 0
    await until(lambda: not waiting.waiting)
    await until(lambda: flusher.waiting_for is None)
    stopping.set()
    await running


async def test_a_conflict_waits_for_an_operator() -> None:
    waiting, store, stopping = MemoryUnflushedEntries(a_chain(1)), MemoryAuditStore(refused={"acme"}), asyncio.Event()
    flusher = flusher_of(waiting, store)
    running = asyncio.create_task(flusher.run(stopping))
    await until(lambda: flusher.waiting_for == "operator")
    stopping.set()
    await running
    assert len(waiting.waiting) == 1


async def test_a_defect_waits_for_an_operator_and_ends_nothing() -> None:
    class Broken(MemoryAuditStore):
        async def add(self, entries: Sequence[ChainEntry]) -> None:
            raise RuntimeError("a value that the store never takes")

    waiting, stopping = MemoryUnflushedEntries(a_chain(1)), asyncio.Event()
    flusher = flusher_of(waiting, Broken())
    running = asyncio.create_task(flusher.run(stopping))
    await until(lambda: flusher.waiting_for == "operator")
    assert not running.done()
    running.cancel()
    assert len(waiting.waiting) == 1


async def test_what_came_last_still_moves_when_it_stops() -> None:
    waiting, store, stopping = MemoryUnflushedEntries(a_chain(2)), MemoryAuditStore(), asyncio.Event()
    stopping.set()
    await flusher_of(waiting, store).run(stopping)
    assert not waiting.waiting


async def test_one_tenant_s_defect_stops_no_other_chain() -> None:
    database = MemoryDatabase()
    database.rows.waiting += [a_line("acme"), a_line("other")]
    waiting = MemoryUnchainedLines(database)
    chain = waiting.chain

    async def defective(tenant: str, limit: int) -> int:
        if tenant == "acme":
            raise TypeError("a field of tomorrow")
        return await chain(tenant, limit)

    vars(waiting)["chain"] = defective
    chainer = AuditChainer(waiting)
    assert await chainer.run_once() == 1
    assert database.rows.heads["other"].seq == 1
    with pytest.raises(TypeError):
        await chainer.run_once()
