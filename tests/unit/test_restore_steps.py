"""A restore looked at and repaired as batches: counts are kept item by item, a repair is planned by the newest look."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.act_notes import note
from domain.batches import Act, ActRequest, Batch, BatchState
from domain.refusals import RestoreNotLookedAt
from domain.restores import REPAIRED_BY, Difference
from operations.restore.check import FOUND_BY
from operations.restore.repair import STEPS as ALL_STEPS
from processors.operators.batches import Batches, BatchRunner, Confirmation, Operator
from processors.operators.restore_steps import STEPS, RestoreFindings, RestoreLooks, RestoreRepairs
from tests.support.memory_batches import MemoryBatchQueries, MemoryLetterIndex
from tests.unit.test_operator_actions import Site

WHO = Operator(actor="p:anne")
CHECK, REPAIR = ActRequest(act=Act.CHECK_RESTORE), ActRequest(act=Act.REPAIR_RESTORE)


class Restore:
    def __init__(self) -> None:
        self.site, self.looks, self.repaired = Site(), 0, list[tuple[str, str, str]]()
        self.found = RestoreFindings({Difference.HOLD_LOST: 2, Difference.CHAIN_BEHIND: 1}, {})
        database = self.site.database
        queries, index = MemoryBatchQueries(database), MemoryLetterIndex()
        kinds = {
            Act.CHECK_RESTORE: RestoreLooks(self.look, database),
            Act.REPAIR_RESTORE: RestoreRepairs(queries, self.repair, database, database.clock),
        }
        parts = (database, queries, kinds, index, lambda _: self.site.operator_actions)
        self.batches = Batches(*parts, database.clock)
        self.runner = BatchRunner(*parts)

    async def look(self) -> RestoreFindings:
        self.looks += 1
        return self.found

    async def repair(self, step: str, actor: str, reason: str) -> tuple[int, int]:
        self.repaired.append((step, actor, reason))
        return 2, 0

    async def carry_out(self, request: ActRequest) -> Batch:
        plan = await self.batches.plan(WHO, request)
        batch = await self.batches.confirm(WHO, request, Confirmation(plan_hash=plan.hash, reason="INC-1"))
        while await self.runner.run_once():
            pass
        return await self.batches.get(WHO, batch.id)


@pytest.fixture
def restore() -> Restore:
    return Restore()


async def test_a_look_is_made_once_and_kept_by_kind(restore: Restore) -> None:
    batch = await restore.carry_out(CHECK)
    assert (batch.state, restore.looks) == (BatchState.DONE, 1)
    notes = {one.name: one.note for one in await restore.batches.items(WHO, batch.id)}
    assert notes["hold_lost"] == note("differs", count=2)
    assert notes["document_lost"] == note("differs_not")
    assert notes.keys() == {kind.value for kind in Difference}


async def test_a_repair_does_what_the_look_found_and_no_more(restore: Restore) -> None:
    await restore.carry_out(CHECK)
    plan = await restore.batches.plan(WHO, REPAIR)
    assert [one.name for one in plan.items if one.forecast.outcome == "done"] == ["holds", "chain"]
    batch = await restore.carry_out(REPAIR)
    assert restore.repaired == [("holds", "p:operator", "INC-1"), ("chain", "p:operator", "INC-1")]
    results = {one.name: one.note for one in await restore.batches.items(WHO, batch.id) if one.result == "done"}
    assert results == dict.fromkeys(("holds", "chain"), note("put_right", count=2, left=0))


async def test_what_nobody_could_look_for_is_not_repaired(restore: Restore) -> None:
    restore.found = RestoreFindings({}, {Difference.EVENT_LOST: "broker_unavailable"})
    await restore.carry_out(CHECK)
    plan = await restore.batches.plan(WHO, REPAIR)
    assert {one.name: one.forecast.outcome for one in plan.items} == {
        step: "refused" if step == "events" else "handled" for step in STEPS
    }


async def test_without_a_look_of_this_hour_there_is_no_plan(restore: Restore) -> None:
    with pytest.raises(RestoreNotLookedAt):
        await restore.batches.plan(WHO, REPAIR)
    await restore.carry_out(CHECK)
    restore.site.database.clock.at += timedelta(hours=1, seconds=1)
    with pytest.raises(RestoreNotLookedAt):
        await restore.batches.plan(WHO, REPAIR)


def test_every_kind_is_accounted_for() -> None:
    assert REPAIRED_BY.keys() == set(Difference)
    assert STEPS == ALL_STEPS
    assert len(frozenset().union(*FOUND_BY.values())) == sum(map(len, FOUND_BY.values()))
