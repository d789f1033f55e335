"""What operators do about delivery, in memory and on PostgreSQL."""

from __future__ import annotations

from uuid import uuid4

import pytest

from domain.dead_letters import RecordPosition
from tests.support.database_backends import LONG, DatabaseBackend, Rolled


@pytest.mark.parametrize("state", ["CLAIMED", "DONE", "DEAD"])
async def test_only_a_dead_event_is_given_to_its_consumer_again(site: DatabaseBackend, state: str) -> None:
    event, owner = uuid4(), uuid4()
    async with site.database.transaction() as work:
        assert await work.inbox.reopen("c", event) is None
    await site.inbox.claim("c", event, "d", owner, LONG)
    if state != "CLAIMED":
        async with site.database.transaction() as work:
            await work.inbox.finish("c", event, owner, state)
    async with site.database.transaction() as work:
        assert await work.inbox.reopen("c", event) == state
        assert await work.inbox.reopen("other", event) is None
    again = (await site.inbox.claim("c", event, "d", uuid4(), LONG)).name
    assert again == {"CLAIMED": "BUSY", "DONE": "DONE", "DEAD": "ACQUIRED"}[state]


async def test_a_letter_is_marked_once_and_not_by_a_transaction_that_rolls_back(site: DatabaseBackend) -> None:
    place = RecordPosition("dpj.dlq.c", 0, 7, 1)

    async def rolled_back() -> None:
        async with site.database.transaction() as work:
            assert await work.dead_letters.mark(place, "REDRIVEN", "p", None)
            raise Rolled

    with pytest.raises(Rolled):
        await rolled_back()
    async with site.database.transaction() as work:
        assert await work.dead_letters.mark(place, "DISCARDED", "p", "INC-1")
        assert not await work.dead_letters.mark(place, "REDRIVEN", "p", None)
        assert await work.dead_letters.mark(RecordPosition("dpj.dlq.c", 0, 7, 2), "REDRIVEN", "p", None)


async def test_what_is_not_held_or_refused_can_not_be_settled(site: DatabaseBackend) -> None:
    async with site.database.transaction() as work:
        assert await work.held.give_up("c", uuid4(), "p", "x") is None
        await work.held.withdraw("c", uuid4())
        assert await work.refused.retry(1) is None
        assert await work.refused.drop(1) is None
