"""Replaying a window: what the inbox has as done is left out, the rest goes to one consumer alone, once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from domain.act_notes import note
from domain.batches import Act, ActRequest, Plan
from domain.dead_letters import REDRIVEN_FOR, DeadLetter, RecordPosition
from domain.events import Event
from domain.lifecycle import Status
from domain.owed_events import PartitionProgress, Progress
from domain.refusals import ConsumerUnknown, OperatorBound, ParameterInvalid
from processors.operators.batches import Batches, BatchRunner, Confirmation, Operator
from processors.operators.replay import Replay, WindowRecord
from tests.support.builders import NOW
from tests.support.memory_batches import MemoryBatchQueries, MemoryLetterIndex
from tests.support.memory_inbox import InboxRow
from tests.unit.test_operator_actions import Site, verified

TOPIC = "dpj.document.verified"
WHO = Operator(actor="p:anne")
WINDOW = ActRequest(act=Act.REPLAY, consumer="renditions", since=NOW - timedelta(hours=1))


class Window:
    """One partition of what renditions reads, committed up to ``committed``."""

    def __init__(self) -> None:
        self.site = Site()
        self.records: list[DeadLetter] = []
        self.committed: int | None = None
        kind = Replay(self.progress, self.scan, self.read, self)
        database, index = self.site.database, MemoryLetterIndex()
        parts = (
            database,
            MemoryBatchQueries(database),
            {Act.REPLAY: kind},
            index,
            lambda _: self.site.operator_actions,
        )
        self.batches = Batches(*parts, database.clock)
        self.runner = BatchRunner(*parts)

    def add(self, state: str | None = None, status: Status = Status.VERIFIED, **headers: str) -> Event:
        event = verified(self.site.put(status))
        value = str(event.event_id).encode()
        self.site.events[value] = event
        if state is not None:
            self.site.database.rows.inbox["renditions", event.event_id] = InboxRow(event.key, state, uuid4(), NOW)
        place = RecordPosition(TOPIC, 0, len(self.records), 1000 + len(self.records))
        given = {"event-id": str(event.event_id), "correlation-id": "c", **headers}
        self.records.append(DeadLetter(place, event.key.encode(), value, given))
        return event

    async def progress(self) -> Progress:
        end = len(self.records)
        committed = end if self.committed is None else self.committed
        return {("renditions", TOPIC, 0): PartitionProgress(0, end, committed)}

    async def scan(
        self, topics: Sequence[str], since: datetime | None, until: datetime | None, key: str | None
    ) -> Sequence[WindowRecord]:
        assert (tuple(topics), until) == ((TOPIC,), None)
        return [
            WindowRecord(
                TOPIC,
                0,
                one.place.offset,
                one.place.written_ms,
                UUID(one.headers["event-id"]),
                one.headers.get(REDRIVEN_FOR),
            )
            for one in self.records
            if key in {None, one.entity_id}
        ]

    async def read(self, topic: str, places: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], DeadLetter]:
        assert topic == TOPIC
        return {(0, one.place.offset): one for one in self.records if (0, one.place.offset) in places}

    async def states(self, consumer: str, event_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        rows = self.site.database.rows.inbox
        return {one: rows[consumer, one].state for one in event_ids if (consumer, one) in rows}

    async def plan(self, request: ActRequest = WINDOW) -> Plan:
        return await self.batches.plan(WHO, request)

    async def carry_out(self, plan: Plan) -> None:
        await self.batches.confirm(WHO, plan.request, Confirmation(plan_hash=plan.hash, reason="INC-1"))
        while await self.runner.run_once():
            pass


@pytest.fixture
def window() -> Window:
    return Window()


async def test_what_is_done_is_counted_and_the_rest_is_sent_to_one_consumer_alone(window: Window) -> None:
    window.add("DONE")
    missed = window.add()
    window.add("DONE")
    plan = await window.plan()
    assert [one.forecast.note for one in plan.items] == [note("replayed", consumer="renditions")]
    assert plan.left_out == {note("dropped_as_done", consumer="renditions"): 2}
    assert window.site.database.dead_letters() == []
    await window.carry_out(plan)
    (record,) = window.site.database.dead_letters()
    assert (record.topic, record.key, record.value) == (TOPIC, missed.key.encode(), window.records[1].value)
    assert record.headers == {"correlation-id": "c", "event-id": str(missed.event_id), REDRIVEN_FOR: "renditions"}
    (line,) = [one for one in window.site.database.audited() if one.action == "event.replayed"]
    assert (line.tenant, line.entity_type, line.entity_id) == ("acme", "document", missed.key)
    assert json.loads(line.details) == {
        "consumer": "renditions", "event_id": str(missed.event_id), "record": f"{TOPIC}/0/1", "reason": "INC-1",
    }  # fmt: skip


async def test_what_is_finished_between_plan_and_act_is_not_sent(window: Window) -> None:
    first, second = window.add(), window.add()
    plan = await window.plan()
    batch = await window.batches.confirm(WHO, WINDOW, Confirmation(plan_hash=plan.hash, reason="INC-1"))
    window.site.database.rows.inbox["renditions", first.event_id] = InboxRow(first.key, "DONE", uuid4(), NOW)
    await window.runner.run_once()
    assert [one.headers["event-id"] for one in window.site.database.dead_letters()] == [str(second.event_id)]
    items = await window.batches.items(WHO, batch.id)
    assert [one.result for one in items] == ["handled", "done"]


async def test_what_is_still_on_its_way_is_left_out(window: Window) -> None:
    window.add()
    window.add()
    window.committed = 1
    plan = await window.plan()
    assert len(plan.items) == 1
    assert plan.left_out == {note("on_its_way", consumer="renditions"): 1}


async def test_an_event_that_stands_there_twice_is_replayed_once_and_others_redrives_are_none(window: Window) -> None:
    window.add()
    again = window.records[0]
    window.records.append(replace(again, place=replace(again.place, offset=1, written_ms=2000)))
    window.add(**{REDRIVEN_FOR: "archiving"})
    plan = await window.plan()
    assert [one.name.rsplit("/", 1)[0] for one in plan.items] == [f"{TOPIC}/0/1"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("DEAD", note("given_up", consumer="renditions")),
        ("CLAIMED", note("at_work", consumer="renditions")),
    ],
)
async def test_what_was_given_up_or_is_worked_on_is_refused_and_stays_so(window: Window, state: str, said: str) -> None:
    event = window.add(state)
    plan = await window.plan()
    assert [(one.forecast.outcome, one.forecast.note) for one in plan.items] == [("refused", said)]
    assert window.site.database.rows.inbox["renditions", event.event_id].state == state


async def test_a_document_that_is_erased_is_left_alone(window: Window) -> None:
    window.add(status=Status.ERASED)
    plan = await window.plan()
    assert [one.forecast.note for one in plan.items] == [note("document_is", status="ERASED")]


async def test_another_record_in_its_place_is_not_sent(window: Window) -> None:
    window.add()
    plan = await window.plan()
    await window.batches.confirm(WHO, WINDOW, Confirmation(plan_hash=plan.hash, reason="INC-1"))
    window.records.clear()
    window.add()  # the topic was made anew
    await window.runner.run_once()
    assert window.site.database.dead_letters() == []


async def test_one_document_alone(window: Window) -> None:
    window.add()
    wanted = window.add()
    request = ActRequest(act=Act.REPLAY, consumer="renditions", document=UUID(wanted.key))
    assert [one.name.rsplit("/", 1)[1] for one in (await window.plan(request)).items] == [str(wanted.event_id)]


async def test_what_selects_nothing_that_can_be_is_refused(window: Window) -> None:
    with pytest.raises(ParameterInvalid):
        await window.plan(replace(WINDOW, since=None))
    with pytest.raises(ParameterInvalid):
        await window.plan(replace(WINDOW, until=WINDOW.since))
    with pytest.raises(ParameterInvalid):
        await window.plan(replace(WINDOW, consumer=None))
    with pytest.raises(ConsumerUnknown):
        await window.plan(replace(WINDOW, consumer="nobody"))
    with pytest.raises(OperatorBound):
        await window.batches.plan(Operator(actor="p:b", tenants=("acme",)), WINDOW)


async def test_names_that_are_none_are_not_there(window: Window) -> None:
    request = replace(WINDOW, items=("x", f"{TOPIC}/0/0/nothing", f"dpj.audit/0/0/{uuid4()}"))
    assert {one.forecast.note for one in (await window.plan(request)).items} == {note("gone")}
