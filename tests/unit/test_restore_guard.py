"""A database that is behind is noticed; nothing is deleted, and nothing that was erased is served, until somebody has looked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.audit_chain import head_after
from domain.errors import AuditStoreUnavailable, CheckpointStoreUnavailable, RestoreUnderWay
from domain.restores import RestoredStore
from processors.resilience.restore_guard import AGAIN_SECONDS, KEEP_SECONDS, LOOKS_AFTER, ServingGate
from tests.support.audit_lines import a_chain, a_line, chain_of
from tests.support.builders import ManualSeconds
from tests.support.memory_restores import GuardBench

CHAIN = a_chain(5)


async def test_a_database_that_handed_over_all_that_the_log_has_is_not_behind() -> None:
    bench = GuardBench()
    assert await bench.guard.look() == ()
    bench.is_at(CHAIN)
    await bench.log.add(CHAIN)
    assert await bench.guard.look() == ()
    await bench.guard.check()
    assert not await bench.guard.is_behind()


async def test_entries_on_their_way_are_not_behind() -> None:
    """The flusher adds to the log before it forgets here."""
    bench = GuardBench()
    bench.is_at(CHAIN[:3], CHAIN[3:])
    await bench.log.add(CHAIN[:4])
    assert await bench.guard.look() == ()


@pytest.mark.parametrize("handed_over", [0, 3])
async def test_a_log_that_goes_on_is_a_restore(handed_over: int) -> None:
    bench = GuardBench()
    await bench.log.add(CHAIN)
    if handed_over:
        bench.is_at(CHAIN[:handed_over])
    with capture_logs() as logs:
        (found,) = await bench.guard.look()
    assert (found.store, found.opened_by) == (RestoredStore.POSTGRESQL, "system:restore")
    assert [line["event"] for line in logs] == ["restore_found"]
    assert found.keeps_from_serving
    with pytest.raises(RestoreUnderWay):
        await bench.guard.check()
    with pytest.raises(RestoreUnderWay):
        await bench.guard.recheck()


async def test_new_lines_hide_no_restore() -> None:
    """They have numbers that the log has given already: the head is ahead of the log, what was handed over is not."""
    bench = GuardBench()
    await bench.log.add(CHAIN)
    others = chain_of([a_line() for _ in range(9)])
    forked = [*CHAIN[:3], *(replace(entry, tenant="acme") for entry in others[3:])]
    bench.is_at(forked[:3], forked[3:])
    assert await bench.guard.look() != ()


async def test_a_chain_that_grew_while_it_was_looked_at_is_not_behind() -> None:
    bench = GuardBench()
    bench.is_at(CHAIN[:3])
    await bench.log.add(CHAIN)
    looked = bench.log.entries

    def entries(tenant: str, after: int, up_to: int) -> Any:
        bench.chains.known["acme"] = head_after(CHAIN[-1])
        return looked(tenant, after, up_to)

    bench.log.entries = entries  # type: ignore[method-assign]
    assert await bench.guard.look() == ()


@pytest.mark.parametrize("in_database", [True, False])
async def test_a_checkpoint_that_the_database_never_took_is_a_restore(in_database: bool) -> None:
    bench = GuardBench(in_database=in_database)
    bench.taken.sizes["acme"] = 3
    await bench.checkpoints.put("acme", 3, b"3")
    assert await bench.guard.look() == ()
    await bench.checkpoints.put("acme", 5, b"5")
    bench.seconds.now += LOOKS_AFTER[0]
    assert await bench.guard.look() != ()


async def test_a_checkpoint_taken_while_we_looked_is_none() -> None:
    bench = GuardBench(in_database=True)
    await bench.checkpoints.put("acme", 5, b"5")
    sizes = bench.checkpoints.sizes

    async def taken_meanwhile(tenant: str, first: int, limit: int) -> Any:
        bench.taken.sizes["acme"] = 5
        return await sizes(tenant, first, limit)

    bench.checkpoints.sizes = taken_meanwhile  # type: ignore[method-assign]
    assert await bench.guard.look() == ()


async def test_what_a_stranger_put_into_the_checkpoint_store_is_none() -> None:
    bench = GuardBench(in_database=True)
    await bench.checkpoints.put("acme", 5, b"a stranger's")
    assert await bench.guard.look() == ()


async def away(*_: Any) -> Any:
    raise CheckpointStoreUnavailable


async def test_without_checkpoints_the_log_tells_and_without_both_nobody_knows() -> None:
    bench = GuardBench()
    bench.checkpoints.tenants = away  # type: ignore[method-assign]
    bench.is_at(CHAIN)
    await bench.log.add(CHAIN)
    await bench.guard.check()
    bench = GuardBench(in_database=True)
    bench.checkpoints.tenants = away  # type: ignore[method-assign]
    with pytest.raises(CheckpointStoreUnavailable):
        await bench.guard.check()


async def test_what_is_on_record_is_not_looked_for_again() -> None:
    bench = GuardBench()
    await bench.restores.open(RestoredStore.GED, "u", "R")
    assert [one.store for one in await bench.guard.look()] == [RestoredStore.GED]
    await bench.log.add(CHAIN)
    bench.seconds.now += LOOKS_AFTER[0]
    assert len(await bench.guard.look()) == 2
    bench.chains.known["acme"] = head_after(CHAIN[-1])
    assert len(await bench.guard.look()) == 2  # until somebody ends it


async def test_a_second_restore_has_its_erasures_to_be_done_again() -> None:
    """The backup was made while the first one was open, and says that they were done."""
    bench = GuardBench()
    await bench.log.add(CHAIN)
    await bench.guard.look()
    bench.clock.move(60)
    await bench.restores.mark_erasures_done()
    (found,) = await bench.guard.look()
    assert not found.keeps_from_serving
    bench.restores.server_started = bench.clock.at + timedelta(seconds=60)
    (found,) = await bench.guard.look()
    assert found.keeps_from_serving


async def test_a_database_that_stays_the_same_is_looked_at_seldom_once_it_is_settled() -> None:
    bench = GuardBench()
    bench.is_at(CHAIN[:3])
    await bench.log.add(CHAIN[:3])
    asked = 0
    tenants = bench.log.tenants

    async def counted() -> Any:
        nonlocal asked
        asked += 1
        return await tenants()

    bench.log.tenants = counted  # type: ignore[method-assign]
    for _ in range(20):  # what was under way may still come into the log
        await bench.guard.check()
        bench.seconds.now += 10
    assert asked == 1 + len(LOOKS_AFTER)
    # Nobody started it anew, and it is behind all the same: rows were written over where they stand.
    await bench.log.add(CHAIN[3:])
    bench.seconds.now += AGAIN_SECONDS
    (found,) = await bench.guard.look()
    assert (found.store, asked) == (RestoredStore.POSTGRESQL, 2 + len(LOOKS_AFTER))


@pytest.mark.parametrize("when", ["at once", "once it came into the log"])
async def test_a_database_that_became_another_is_looked_at_until_it_is_settled(when: str) -> None:
    bench = GuardBench()
    bench.is_at(CHAIN)
    await bench.log.add(CHAIN[: 5 if when == "at once" else 3])
    for _ in range(20):
        await bench.guard.look()
        bench.seconds.now += 10
    bench.restores.server_started += timedelta(seconds=5)
    bench.is_at(CHAIN[:3])
    if when != "at once":
        assert await bench.guard.look() == ()
        bench.seconds.now += LOOKS_AFTER[0]
        await bench.log.add(CHAIN[3:])  # a writer had them in hand as the database went back
    assert [one.store for one in await bench.guard.look()] == [RestoredStore.POSTGRESQL]


# --- what is served ----------------------------------------------------------------------------------------------------------


def a_gate(bench: GuardBench, clock: ManualSeconds) -> ServingGate:
    return ServingGate(bench.restores, bench.guard, clock)


async def test_the_gate_closes_on_a_server_that_was_started_anew_and_is_behind(clock: ManualSeconds) -> None:
    bench = GuardBench()
    gate = a_gate(bench, clock)
    bench.is_at(CHAIN)
    await bench.log.add(CHAIN)
    await gate.check()
    bench.is_at(CHAIN[:2])
    clock.now += KEEP_SECONDS
    await gate.check()  # the same server: nobody restored it
    bench.restores.server_started += timedelta(seconds=5)
    await gate.check()  # was read a moment ago
    clock.now += KEEP_SECONDS
    with pytest.raises(RestoreUnderWay):
        await gate.check()
    bench.clock.move(60)
    await bench.restores.mark_erasures_done()
    clock.now += KEEP_SECONDS
    await gate.check()


async def test_the_gate_closes_on_what_others_have_found_and_reads_it_once_in_a_while(clock: ManualSeconds) -> None:
    bench = GuardBench()
    gate = a_gate(bench, clock)
    await gate.check()
    await bench.restores.open(RestoredStore.POSTGRESQL, "u", "R")
    reads = bench.restores.reads
    for _ in range(5):
        await gate.check()
    assert bench.restores.reads == reads
    clock.now += KEEP_SECONDS
    with pytest.raises(RestoreUnderWay):
        await gate.check()


async def test_while_the_log_is_away_nobody_knows_and_documents_are_served(clock: ManualSeconds) -> None:
    bench = GuardBench()
    gate = a_gate(bench, clock)
    tenants = bench.log.tenants

    async def refused() -> Any:
        raise AuditStoreUnavailable

    bench.log.tenants = refused  # type: ignore[method-assign]
    await bench.log.add(CHAIN)
    with capture_logs() as logs:
        await gate.check()
    assert [line["event"] for line in logs] == ["restore_not_looked_for"]
    bench.log.tenants = tenants  # type: ignore[method-assign]
    clock.now += KEEP_SECONDS
    with pytest.raises(RestoreUnderWay):
        await gate.check()
