"""Commits that share a transaction: all of them, or each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.errors import ClaimLost, DatabaseUnavailable
from processors.documents.transitions import NOTHING_TO_COMMIT, SharedCommit
from processors.ports.work import Commit
from streams.delivery import ClaimOutcome
from streams.shared_transaction import POLICY, SharedTransaction
from tests.support.fakes_streams import DeliveryBench, FakeDatabase, FakeInbox, an_event


class CountedDatabase(FakeDatabase):
    """Counts transactions; ``gate`` keeps each from beginning."""

    def __init__(self, inbox: FakeInbox) -> None:
        super().__init__(inbox)
        self.transactions = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        self.transactions += 1
        await self.gate.wait()
        async with super().transaction() as work:
            yield work


class Group:
    """A group whose claims are all held."""

    def __init__(self) -> None:
        self.inbox = FakeInbox()
        self.database = CountedDatabase(self.inbox)
        self.together = SharedTransaction(self.database, "c")

    async def claimed(self) -> tuple[UUID, UUID]:
        event, owner = uuid4(), uuid4()
        await self.inbox.claim("c", event, str(event), owner, 60)
        return event, owner

    def write(self, claim: tuple[UUID, UUID], error: Exception | None = None) -> asyncio.Task[None]:
        async def commit(work: Any) -> None:
            if error is not None:
                raise error
            work.written.append(claim[0])

        return asyncio.create_task(self.together.write(SharedCommit(commit), *claim))

    def done(self, claim: tuple[UUID, UUID]) -> bool:
        return self.inbox.rows.get(("c", claim[0])) == ("DONE", claim[1])


@pytest.fixture
async def group() -> Group:
    return Group()


async def test_what_waits_at_once_is_one_transaction_in_its_order(group: Group) -> None:
    claims = [await group.claimed() for _ in range(POLICY.size + 5)]
    await asyncio.gather(*(group.write(claim) for claim in claims))
    assert group.database.transactions == 2
    assert group.database.written == [event for event, _ in claims]
    assert all(group.done(claim) for claim in claims)
    late = await group.claimed()
    await group.write(late)
    assert group.done(late)


@pytest.mark.parametrize("error", [ValueError("a defect"), ClaimLost()])
async def test_one_that_fails_fails_alone(group: Group, error: Exception) -> None:
    good, bad, other = [await group.claimed() for _ in range(3)]
    written = [group.write(good), group.write(bad, error), group.write(other)]
    results = await asyncio.gather(*written, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(error), type(None)]
    assert group.database.written == [good[0], other[0]]
    assert [group.done(claim) for claim in (good, bad, other)] == [True, False, True]


async def test_a_claim_that_was_lost_undoes_its_own_rows_only(group: Group) -> None:
    good, lost = await group.claimed(), (uuid4(), uuid4())
    results = await asyncio.gather(group.write(lost), group.write(good), return_exceptions=True)
    assert [type(result) for result in results] == [ClaimLost, type(None)]
    assert group.database.written == [good[0]]


async def test_the_database_away_is_said_to_each(group: Group) -> None:
    claims = [await group.claimed() for _ in range(3)]
    group.database.failures = [DatabaseUnavailable("away")]
    results = await asyncio.gather(*(group.write(claim) for claim in claims), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 3
    assert len({id(result) for result in results}) == 3
    assert group.database.transactions == 1


@pytest.mark.parametrize("away", [False, True])
async def test_a_caller_that_is_cancelled_disturbs_nobody(group: Group, away: bool) -> None:
    before, under_way, waiting, other = [await group.claimed() for _ in range(4)]
    group.database.gate.clear()
    first, second = group.write(before), group.write(under_way)
    await asyncio.sleep(0.01)
    third, last = group.write(waiting), group.write(other)
    await asyncio.sleep(0.01)
    second.cancel()
    third.cancel()
    await asyncio.sleep(0)
    if away:
        group.database.failures = [DatabaseUnavailable()]
    group.database.gate.set()
    results = await asyncio.gather(first, last, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable if away else type(None), type(None)]
    assert second.cancelled()
    assert third.cancelled()
    assert not group.done(waiting)


@pytest.mark.parametrize(("waiting", "transactions"), [(POLICY.enough - 1, 1), (POLICY.enough, 2)])
async def test_where_many_wait_a_second_transaction_does_not_wait_for_the_first(
    group: Group, waiting: int, transactions: int
) -> None:
    group.database.gate.clear()
    claims = [await group.claimed() for _ in range(1 + waiting)]
    written = [group.write(claims[0])]
    await asyncio.sleep(0.01)
    written += [group.write(claim) for claim in claims[1:]]
    await asyncio.sleep(0.01)
    assert group.database.transactions == transactions
    group.database.gate.set()
    await asyncio.gather(*written)
    assert all(group.done(claim) for claim in claims)


async def test_who_comes_just_when_a_writer_ends_is_written(group: Group) -> None:
    claims = [await group.claimed() for _ in range(50)]

    async def one_after_another() -> None:
        for claim in claims:
            await group.write(claim)  # the writer of the one before ends in this very turn of the loop

    await asyncio.wait_for(one_after_another(), 5)
    assert all(group.done(claim) for claim in claims)


# --- in delivery -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owes", [True, False])
async def test_delivery_writes_shared_commits_together(owes: bool) -> None:
    bench = DeliveryBench()
    database = CountedDatabase(bench.inbox)
    bench.delivery._shared_transaction = SharedTransaction(database, "scripted")
    process = bench.processor.process

    async def shared(event: Any) -> Commit:
        return SharedCommit(await process(event)) if owes else NOTHING_TO_COMMIT

    bench.processor.process = shared  # type: ignore[method-assign]
    events = [an_event(), an_event()]
    for event in events:
        bench.send(event)
    async with asyncio.timeout(5):
        while len(bench.metrics.outcomes) < 2:
            await asyncio.sleep(0.001)
    assert database.transactions == 1
    assert database.written == ([event.event_id for event in events] if owes else [])
    assert {state for state, _ in bench.inbox.rows.values()} == {"DONE"}
    assert bench.metrics.outcomes == [("done", "none")] * 2
    await bench.delivery.revoke()


async def test_a_drained_lane_is_fetched_again_without_waiting_for_the_next_commit() -> None:
    bench = DeliveryBench()
    for _ in range(4):
        bench.send(an_event())
    async with asyncio.timeout(5):
        while ("resume", bench.flow.calls[0][1]) not in bench.flow.calls:
            await asyncio.sleep(0.001)
    assert bench.committed == []
    assert [name for name, _ in bench.flow.calls] == ["hold", "resume"]
    await bench.delivery.revoke()


async def test_a_shared_commit_whose_claim_is_gone_is_tried_again() -> None:
    bench = DeliveryBench()
    event = an_event()

    async def steal() -> None:
        bench.inbox.rows["scripted", event.event_id] = ("CLAIMED", uuid4())
        bench.inbox.answers = [ClaimOutcome.BUSY]

    process = bench.processor.process
    bench.processor.steps = [steal]

    async def shared(each: Any) -> Commit:
        return SharedCommit(await process(each))

    bench.processor.process = shared  # type: ignore[method-assign]
    bench.send(event)
    async with asyncio.timeout(5):
        while not bench.metrics.outcomes:
            await asyncio.sleep(0.001)
    assert bench.database.written == [event.event_id]
    assert "other_worker" in bench.metrics.waited_for
    await bench.delivery.revoke()
