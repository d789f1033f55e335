"""Plans and batches of operators' acts on PostgreSQL: what was read is what is done, each item once, whatever dies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from domain.batches import Act, ActRequest, BatchState
from domain.dead_letters import DeadLetter, RecordPosition
from domain.events import dead_letter_topic
from domain.lifecycle import Status
from domain.pauses import Pause
from domain.refusals import (
    BatchNotFound,
    BatchStateRefused,
    IdempotencyKeyReused,
    NothingToDo,
    OperatorBound,
    PlanChanged,
    SecondPersonNeeded,
)
from processors.operators import batches as under_test
from processors.operators.act_kinds import Held, Letters, Lost, Refused
from processors.operators.batches import Batches, BatchRunner, Confirmation, Operator
from processors.operators.dead_letters import OperatorActions
from processors.reconcile.owed_events import OwedReport
from schemas.codec import EventCodec
from storage.postgres.batches import PostgresBatchQueries
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.dead_letter_index import PostgresDeadLetterIndex
from storage.postgres.delivery.dead_letters import PostgresHeldEventList, PostgresOperatorQueries
from storage.postgres.delivery.outbox import PostgresOutboxReader
from storage.postgres.delivery.refused_rows import PostgresRefusedRowQueries
from storage.postgres.pauses import PostgresPauseQueries
from streams.dead_letter_headers import REDRIVEN_EVENT
from tests.integration.test_dead_letter_index import headers_of, write
from tests.integration.test_dead_letters import validated
from tests.support.builders import FixedClock, a_document, a_dossier

REDRIVE = ActRequest(act=Act.REDRIVE, consumer="archiving", code="archive_refused")
ALICE = Operator(actor="p:alice")
BOB = Operator(actor="p:bob")


@dataclass
class Desk:
    """Operators, the runner, and letters as Kafka would give them, by offset."""

    batches: Batches
    runner: BatchRunner
    index: PostgresDeadLetterIndex
    letters: dict[int, DeadLetter]
    database: PostgresDatabase
    postgres: Postgres
    events: dict[int, UUID] = field(default_factory=dict)

    async def dead(
        self, codec: EventCodec, offset: int, tenant: str = "acme", status: Status = Status.VALIDATED
    ) -> int:
        """A document with a letter of archiving at that offset; gives its number."""
        dossier = a_dossier(str(uuid4()), tenant=tenant)
        document = a_document(dossier, status)
        event = validated(document)
        async with self.database.transaction() as work:
            await work.dossiers.add(dossier)
            await work.documents.add(document)
        await write(self.database, event, offset, tenant)
        self.events[offset] = event.event_id
        async with self.postgres.connection() as connection:
            await connection.execute(
                "UPDATE lettres_mortes SET lettre_partition = 0, lettre_offset = $2 WHERE event_id = $1",
                event.event_id,
                offset,
            )
        place = RecordPosition(dead_letter_topic("archiving"), 0, offset, 1_700_000_000_000 + offset)
        self.letters[offset] = DeadLetter(
            place, event.key.encode(), codec.encode(event).body, headers_of(event, offset)
        )
        (letter,) = await self.index.of_document(document.id)
        return letter.number

    async def run(self, most: int = 20) -> None:
        for _ in range(most):
            if not await self.runner.is_needed():
                return
            await self.runner.run_once()

    async def results(self, batch_id: UUID) -> list[tuple[str, str | None]]:
        return [(item.name, item.result) for item in await self.batches.items(ALICE, batch_id)]

    async def count(self, query: str) -> int:
        async with self.postgres.connection() as connection:
            found: int = await connection.fetchval(query)
        return found


def a_desk(database: PostgresDatabase, postgres: Postgres, codec: EventCodec, *, second_person: bool = False) -> Desk:
    letters: dict[int, DeadLetter] = {}

    async def read(topic: str, places: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], DeadLetter]:
        return {place: letters[place[1]] for place in places if place[1] in letters}

    async def look() -> OwedReport:
        return OwedReport()

    def actions(actor: str) -> OperatorActions:
        return OperatorActions(database, codec, FixedClock(), actor)

    index, queries = PostgresDeadLetterIndex(postgres), PostgresBatchQueries(postgres)
    kind, refused = Letters(index, read), Refused(PostgresRefusedRowQueries(postgres))
    kinds = {
        Act.REDRIVE: kind,
        Act.DISCARD: kind,
        Act.GIVE_UP: Held(PostgresOperatorQueries(postgres)),
        Act.RETRY_REFUSED: refused,
        Act.DROP_REFUSED: refused,
        Act.RE_EMIT: Lost(look),
    }
    batches = Batches(database, queries, kinds, index, actions, FixedClock(), second_person=second_person)
    return Desk(batches, BatchRunner(database, queries, kinds, index, actions), index, letters, database, postgres)


@pytest.fixture
def desk(database: PostgresDatabase, postgres: Postgres, codec: EventCodec) -> Desk:
    return a_desk(database, postgres, codec)


async def confirmed(desk: Desk, request: ActRequest = REDRIVE, who: Operator = ALICE, **more: object) -> UUID:
    plan = await desk.batches.plan(who, request)
    batch = await desk.batches.confirm(who, request, Confirmation(plan_hash=plan.hash, reason="INC-1", **more))  # type: ignore[arg-type]
    return batch.id


async def test_a_plan_tells_what_would_be_done_and_does_nothing(desk: Desk, codec: EventCodec) -> None:
    numbers = [await desk.dead(codec, 0), await desk.dead(codec, 1, status=Status.ARCHIVED)]
    del desk.letters[1]
    numbers.append(await desk.dead(codec, 2))
    plan = await desk.batches.plan(ALICE, ActRequest(act=Act.REDRIVE, consumer="archiving", limit=2))
    assert [(item.name, item.forecast.outcome) for item in plan.items] == [
        (str(numbers[0]), "done"),
        (str(numbers[1]), "refused"),
    ]
    assert (plan.more, plan.counts) == (True, {"done": 1, "refused": 1})
    again = await desk.batches.plan(ALICE, ActRequest(act=Act.REDRIVE, consumer="archiving", limit=2))
    assert (again.hash, len(plan.hash)) == (plan.hash, 64)
    assert await desk.count("SELECT count(*) FROM dead_letter_marks") == 0
    (group,) = await desk.index.groups()
    assert group.count == 3


async def test_a_batch_does_each_item_once_with_its_audit_line_and_result(
    desk: Desk, codec: EventCodec, reader: PostgresOutboxReader
) -> None:
    numbers = [str(await desk.dead(codec, offset)) for offset in range(3)]
    batch_id = await confirmed(desk)
    assert (await desk.batches.get(ALICE, batch_id)).counts == {"waiting": 3}
    await desk.run()
    batch = await desk.batches.get(ALICE, batch_id)
    assert (batch.state, batch.counts, batch.actor, batch.reason) == (BatchState.DONE, {"done": 3}, "p:alice", "INC-1")
    assert await desk.results(batch_id) == [(number, "done") for number in numbers]
    lines = [
        await codec.decode(row.topic, row.body or b"")
        for row in await reader.fetch_unpublished(100)
        if "audit" in row.topic
    ]
    assert [line.action for line in lines] == ["batch.confirmed", *["dead_letter.redriven"] * 3]  # type: ignore[attr-defined]
    assert {line.actor for line in lines} == {"p:alice"}
    assert await desk.index.groups() == []


async def test_a_plan_that_no_longer_holds_is_refused(desk: Desk, codec: EventCodec) -> None:
    await desk.dead(codec, 0)
    plan = await desk.batches.plan(ALICE, REDRIVE)
    await desk.dead(codec, 1)
    with pytest.raises(PlanChanged):
        await desk.batches.confirm(ALICE, REDRIVE, Confirmation(plan_hash=plan.hash, reason="INC-1"))
    assert await desk.batches.list(ALICE) == []


async def test_a_plan_changes_with_what_an_item_would_do(desk: Desk, codec: EventCodec) -> None:
    await desk.dead(codec, 0)
    await desk.dead(codec, 1)
    plan = await desk.batches.plan(ALICE, REDRIVE)
    async with desk.postgres.connection() as connection:
        await connection.execute("UPDATE documents SET statut = 'REJECTED'")
    assert (await desk.batches.plan(ALICE, REDRIVE)).hash != plan.hash
    with pytest.raises(NothingToDo):
        await confirmed(desk)


@pytest.mark.parametrize("point", ["batch.item", "batch.item_done"])
async def test_a_runner_that_dies_at_any_item_leaves_each_done_once(
    desk: Desk, codec: EventCodec, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    for offset in range(4):
        await desk.dead(codec, offset)
    batch_id = await confirmed(desk)
    left = [2]

    class Killed(BaseException):
        pass

    def reach(name: str) -> None:
        if name == point:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    monkeypatch.setattr(under_test, "reach", reach)
    with pytest.raises(Killed):
        await desk.runner.run_once()
    await desk.run()
    assert (await desk.batches.get(ALICE, batch_id)).counts == {"done": 4}
    topic = "SELECT count(*) FROM outbox WHERE topic = 'dpj.document.validated'"
    assert (await desk.count(topic), await desk.count("SELECT count(*) FROM dead_letter_marks")) == (4, 4)


async def test_two_runners_do_no_item_twice(desk: Desk, codec: EventCodec) -> None:
    await desk.dead(codec, 0)
    batch_id = await confirmed(desk)
    queries = PostgresBatchQueries(desk.postgres)
    (item,) = await queries.waiting(batch_id, 10)
    batch = await queries.find(batch_id)
    assert batch is not None
    await desk.run()
    # The other one read the item before that.
    done = await desk.runner._do(batch, item, None)
    assert done is None
    assert (await desk.batches.get(ALICE, batch_id)).counts == {"done": 1}


async def test_a_canary_is_looked_at_before_the_rest(desk: Desk, codec: EventCodec) -> None:
    for offset in range(4):
        await desk.dead(codec, offset)
    await desk.dead(codec, 9, status=Status.ARCHIVED)
    batch_id = await confirmed(desk, canary=2)
    await desk.run()
    batch = await desk.batches.get(ALICE, batch_id)
    assert (batch.state, batch.counts) == (BatchState.LOOK, {"done": 2, "waiting": 2, "refused": 1})
    await desk.batches.go_on(BOB, batch_id)
    await desk.run()
    assert (await desk.batches.get(ALICE, batch_id)).counts == {"done": 4, "refused": 1}
    with pytest.raises(BatchStateRefused):
        await desk.batches.go_on(ALICE, batch_id)


async def test_equal_failures_stop_a_batch_and_it_can_go_on(desk: Desk, codec: EventCodec) -> None:
    for offset in range(5):
        await desk.dead(codec, offset)
    batch_id = await confirmed(desk, stop_after=2)
    for offset in range(3):
        del desk.letters[offset]  # Kafka loses them after the plan was confirmed
    await desk.run()
    batch = await desk.batches.get(ALICE, batch_id)
    assert (batch.state, batch.stopped) == (BatchState.STOPPED, "equal_failures")
    assert batch.counts == {"refused": 2, "waiting": 3}
    await desk.batches.go_on(ALICE, batch_id)
    await desk.run()
    batch = await desk.batches.get(ALICE, batch_id)
    assert (batch.state, batch.counts) == (BatchState.DONE, {"refused": 3, "done": 2})


async def test_letters_that_come_back_are_told_and_stop_the_rest(desk: Desk, codec: EventCodec) -> None:
    for offset in range(3):
        await desk.dead(codec, offset)
    batch_id = await confirmed(desk, canary=1, stop_after=1)
    await desk.run()
    again = validated(a_document(a_dossier(), Status.VALIDATED))
    await write(desk.database, again, 77, **{REDRIVEN_EVENT: str(desk.events[0])})
    items = await desk.batches.items(ALICE, batch_id)
    assert [item.came_back for item in items] == [True, False, False]
    await desk.batches.go_on(ALICE, batch_id)
    await desk.runner.run_once(1)
    batch = await desk.batches.get(ALICE, batch_id)
    assert (batch.state, batch.stopped) == (BatchState.STOPPED, "came_back")


async def test_a_stop_begins_no_further_item(desk: Desk, codec: EventCodec) -> None:
    for offset in range(3):
        await desk.dead(codec, offset)
    batch_id = await confirmed(desk)
    assert await desk.runner.run_once(1) == 1
    batch = await desk.batches.stop(BOB, batch_id)
    assert (batch.state, batch.stopped) == (BatchState.STOPPED, "operator")
    await desk.run()
    assert (await desk.batches.get(ALICE, batch_id)).counts == {"done": 1, "waiting": 2}


async def test_one_confirmation_that_is_repeated_makes_one_batch(desk: Desk, codec: EventCodec) -> None:
    await desk.dead(codec, 0)
    key, plan = uuid4(), await desk.batches.plan(ALICE, REDRIVE)
    said = Confirmation(plan_hash=plan.hash, reason="INC-1", key=key)
    first = await desk.batches.confirm(ALICE, REDRIVE, said)
    await desk.run()
    again = await desk.batches.confirm(ALICE, REDRIVE, said)
    assert (again.id, again.state) == (first.id, BatchState.DONE)
    with pytest.raises(IdempotencyKeyReused):
        await desk.batches.confirm(BOB, REDRIVE, said)
    assert len(await desk.batches.list(ALICE)) == 1


async def test_a_bound_operator_acts_on_his_tenants_letters_alone(desk: Desk, codec: EventCodec) -> None:
    bound = Operator(actor="p:bound", tenants=("acme",))
    mine, other = await desk.dead(codec, 0), await desk.dead(codec, 1, tenant="other")
    plan = await desk.batches.plan(bound, ActRequest(act=Act.REDRIVE, items=(str(mine), str(other))))
    assert [(item.name, item.forecast.outcome) for item in plan.items] == [(str(mine), "done"), (str(other), "refused")]
    of_all = await confirmed(desk)
    with pytest.raises(BatchNotFound):
        await desk.batches.get(bound, of_all)
    assert await desk.batches.list(bound) == []
    for act in (Act.RETRY_REFUSED, Act.DROP_REFUSED, Act.RE_EMIT):
        with pytest.raises(OperatorBound):
            await desk.batches.plan(bound, ActRequest(act=act))


async def test_what_can_not_be_taken_back_takes_a_second_person_where_the_site_says_so(
    database: PostgresDatabase, postgres: Postgres, codec: EventCodec
) -> None:
    desk = a_desk(database, postgres, codec, second_person=True)
    await desk.dead(codec, 0)
    batch_id = await confirmed(desk, ActRequest(act=Act.DISCARD, consumer="archiving"))
    await desk.run()
    assert (await desk.batches.get(ALICE, batch_id)).state is BatchState.ORDERED
    with pytest.raises(SecondPersonNeeded):
        await desk.batches.second(ALICE, batch_id)
    await desk.batches.stop(ALICE, batch_id)
    with pytest.raises(SecondPersonNeeded):
        await desk.batches.go_on(ALICE, batch_id)
    batch_id = await confirmed(desk, ActRequest(act=Act.DISCARD, consumer="archiving"))
    assert (await desk.batches.second(BOB, batch_id)).second == "p:bob"
    await desk.run()
    assert (await desk.batches.get(ALICE, batch_id)).state is BatchState.DONE
    assert await desk.index.groups() == []


async def test_a_letter_that_kafka_has_no_more_is_discarded_by_its_entry(desk: Desk, codec: EventCodec) -> None:
    number = await desk.dead(codec, 0)
    desk.letters.clear()
    batch_id = await confirmed(desk, ActRequest(act=Act.DISCARD, consumer="archiving"))
    await desk.run()
    assert (await desk.batches.get(ALICE, batch_id)).counts == {"done": 1}
    ((letter,),) = [await desk.index.letters([number])]
    assert letter.settled == "DISCARDED"


async def test_held_events_are_given_up_by_a_plan(desk: Desk, postgres: Postgres) -> None:
    from domain.errors import GedUnavailable
    from streams.dead_letter_headers import held_event
    from streams.lanes import Partition, Record

    event = validated(a_document(a_dossier(), Status.VALIDATED))
    record = Record(Partition(event.TOPIC, 0), 3, event.key.encode(), b"")
    await PostgresHeldEventList(postgres).note(held_event("archiving", record, event, GedUnavailable(), 4))
    request = ActRequest(act=Act.GIVE_UP, consumer="archiving")
    batch_id = await confirmed(desk, request)
    await desk.run()
    assert await desk.results(batch_id) == [(f"archiving/{event.event_id}", "done")]
    (held,) = await PostgresOperatorQueries(postgres).held(10)
    assert (held.given_up_by, held.given_up_reason) == ("p:alice", "INC-1")
    assert (await desk.batches.plan(ALICE, request)).items == ()


async def test_refused_rows_are_dropped_by_a_plan_that_minds_no_number_of_waiting_ones(desk: Desk) -> None:
    async with desk.postgres.connection() as connection:
        row = await connection.fetchval(
            "INSERT INTO outbox (topic, key, body, headers, refused_at, refused_code)"
            " VALUES ('dpj.t', 'k', 'b', '{}', now(), 'MSG_SIZE_TOO_LARGE') RETURNING id"
        )
        request = ActRequest(act=Act.DROP_REFUSED)
        plan = await desk.batches.plan(ALICE, request)
        await connection.execute("INSERT INTO outbox (topic, key, body, headers) VALUES ('dpj.t', 'k', 'b', '{}')")
    batch = await desk.batches.confirm(ALICE, request, Confirmation(plan_hash=plan.hash, reason="INC-1"))
    await desk.run()
    assert await desk.results(batch.id) == [(str(row), "done")]
    assert await desk.count("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL") == 1


async def test_a_pause_is_a_row_that_counts_until_its_end_or_its_resumption(
    database: PostgresDatabase, postgres: Postgres
) -> None:
    queries, now = PostgresPauseQueries(postgres), datetime.now(UTC)
    pause = Pause(consumer="audit", by="p:alice", reason="INC-1", since=now, until=now + timedelta(seconds=3600))
    over = Pause(consumer="renditions", by="p:a", reason="X", since=now - timedelta(hours=2), until=now)
    async with database.transaction() as work:
        assert await work.pauses.pause(over)
        assert await work.pauses.pause(pause)
        assert not await work.pauses.pause(pause)
    assert await queries.paused() == {"audit": pause}
    ((found, left),) = (await queries.remaining()).values()
    assert found == pause
    assert 3500 < left <= 3600
    async with database.transaction() as work:
        assert await work.pauses.resume("renditions", "p:bob") is None
        assert await work.pauses.resume("audit", "p:bob") == pause
        assert await work.pauses.resume("audit", "p:bob") is None
    assert (await queries.paused(), await queries.remaining()) == ({}, {})
    async with database.transaction() as work:
        assert await work.pauses.pause(pause)
