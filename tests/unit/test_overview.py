"""One look at the whole pipeline: what is away is unknown, and everything else is told all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain import consumers
from domain.errors import BrokerUnavailable, DatabaseUnavailable
from domain.events import DocumentUploaded, DocumentValidated, DocumentVerified
from domain.lifecycle import Status
from domain.overview import (
    OUTBOX,
    Count,
    DocumentRow,
    ErasuresOverview,
    HeldGroup,
    Holder,
    NextStep,
    OutboxOverview,
    Sample,
    StateOverview,
    StoredNumbers,
    UnfinishedEvent,
)
from operations.kafka.lag import HeadRecord, PartitionLag
from operations.overview.look import KafkaNumbers, OverviewLook, drain_seconds, samples_of
from operations.overview.model import Overview, PartitionOwner
from operations.overview.processes import ProcessAnswers
from tests.support.builders import NOW, FixedClock

UPLOADED, VALIDATED, VERIFIED = DocumentUploaded.TOPIC, DocumentValidated.TOPIC, DocumentVerified.TOPIC
DAY = 86_400.0


def ago(**how: float) -> datetime:
    return NOW - timedelta(**how)


def a_row(status: Status = Status.STORED, deposited: datetime = NOW, decided: datetime | None = None) -> DocumentRow:
    return DocumentRow(document_id=uuid4(), tenant="acme", status=status, deposited_at=deposited, decided_at=decided)


def an_event(key: UUID, consumer: str = "integrity", topic: str = UPLOADED, **changes: Any) -> UnfinishedEvent:
    base: dict[str, Any] = {"holder": Holder.TOPIC, "written_at": ago(minutes=5), "since": ago(minutes=5)}
    base |= {"partition": 0, "offset": 7}
    return UnfinishedEvent(key=str(key), topic=topic, consumer=consumer, event_id=uuid4(), **{**base, **changes})


def numbers(**changes: Any) -> StoredNumbers:
    empty = Count(0)
    base: dict[str, Any] = {
        "outbox": OutboxOverview(waiting=empty, oldest=None, refused=empty, refused_since=None),
        "states": (StateOverview(status=Status.STORED, count=empty, oldest=None),),
        "held": {},
        "dead": {},
        "unfinished": (),
        "unfinished_whole": True,
        "oldest_stored": (),
        "checkpoints": None,
        "erasures": ErasuresOverview(waiting=empty, oldest=None),
        "restores": (),
        "history": {},
        "recorded": None,
    }
    return StoredNumbers(**{**base, **changes})


def lag_rows(*changed: PartitionLag) -> list[PartitionLag]:
    """One partition per consumer and topic, all consumed up to 10, but those given."""
    there = {(row.group, row.topic, row.partition): row for row in changed}
    for group, topics in consumers.groups().items():
        for topic in topics:
            there.setdefault((group, topic, 0), a_lag(group, topic, lag=0, behind=None))
    return list(there.values())


def a_lag(group: str, topic: str, *, lag: int, behind: float | None, **changes: Any) -> PartitionLag:
    base: dict[str, Any] = {"partition": 0, "start": 0, "end": 10, "committed": 10 - lag}
    return PartitionLag(group=group, topic=topic, lag=lag, behind=behind, **{**base, **changes})


class Stores:
    def __init__(self, stored: StoredNumbers | None, *rows: DocumentRow) -> None:
        self.stored = stored
        self.rows = {row.document_id: row for row in rows}

    async def numbers(self, new_since: datetime | None = None) -> StoredNumbers:
        if self.stored is None:
            raise DatabaseUnavailable("away")
        return self.stored

    async def documents(self, ids: Sequence[UUID]) -> Mapping[UUID, DocumentRow]:
        return {one: self.rows[one] for one in ids if one in self.rows}


async def look(
    stored: StoredNumbers | None = None,
    *rows: DocumentRow,
    lag: Sequence[PartitionLag] | None = None,
    answers: dict[str, dict[str, Any] | None] | None = None,
    retention: Mapping[str, float | None] | None = None,
) -> Overview:
    async def read_kafka() -> KafkaNumbers:
        if lag is None:
            raise BrokerUnavailable("away")
        return KafkaNumbers(lag, retention or {})

    async def ask() -> ProcessAnswers | None:
        return None if answers is None else ProcessAnswers(answers)

    return await OverviewLook(Stores(stored, *rows), read_kafka, ask, FixedClock()).look()


def consumer(found: Overview, name: str) -> Any:
    return next(one for one in found.consumers if one.consumer == name)


# --- what is unknown --------------------------------------------------------------------------------------------------


async def test_without_the_broker_the_database_still_speaks() -> None:
    held = HeldGroup(waiting_for="ged", code="ged_unavailable", count=3, since=ago(hours=1), attempts=9)
    found = await look(numbers(held={"archiving": (held,)}))
    archiving = consumer(found, "archiving")
    assert (archiving.lag, archiving.behind_seconds, archiving.known, archiving.partitions) == (None, None, False, None)
    assert archiving.held == (held,)
    assert found.outbox is not None
    assert not found.oldest_unknown  # the outbox was read whole, and every event is in it


async def test_without_the_database_the_broker_still_speaks() -> None:
    row = a_lag("dpj.integrity", UPLOADED, lag=2, behind=30.0)
    found = await look(None, lag=lag_rows(row))
    integrity = consumer(found, "integrity")
    assert (integrity.lag, integrity.behind_seconds, integrity.known) == (2, 30.0, True)
    assert (integrity.held, integrity.dead_open, integrity.trend) == (None, None, None)
    assert (found.outbox, found.states, found.erasures, found.oldest) == (None, None, None, None)
    assert found.oldest_unknown


async def test_with_nothing_there_everything_is_unknown_and_nothing_is_zero() -> None:
    found = await look()
    for one in found.consumers:
        for name in ("lag", "behind_seconds", "held", "waits_for", "stalled", "trend", "drain_seconds", "oldest"):
            assert getattr(one, name) is None
    for name in ("outbox", "states", "checkpoints", "erasures", "dependencies", "circuits", "watchdog_looked"):
        assert getattr(found, name) is None
    assert samples_of(found) == dict.fromkeys([*consumers.CONSUMERS, OUTBOX], (None, None))


async def test_a_head_that_could_not_be_read_makes_the_age_unknown_and_not_the_lag() -> None:
    row = a_lag("dpj.integrity", UPLOADED, lag=2, behind=None)
    found = consumer(await look(numbers(), lag=lag_rows(row)), "integrity")
    assert (found.lag, found.behind_seconds, found.known) == (2, None, False)


async def test_nothing_to_consume_is_known_and_zero() -> None:
    found = consumer(await look(numbers(), lag=lag_rows()), "integrity")
    assert (found.lag, found.behind_seconds, found.known, found.drain_seconds) == (0, 0.0, True, 0.0)


async def test_topics_that_do_not_exist_are_unknown() -> None:
    found = consumer(await look(numbers(), lag=[]), "integrity")
    assert (found.lag, found.behind_seconds, found.known) == (None, None, False)


# --- the oldest document ----------------------------------------------------------------------------------------------


async def test_a_frozen_relay_shows_as_the_outbox_holding_the_oldest_document() -> None:
    row = a_row(deposited=ago(minutes=20))
    waiting = an_event(row.document_id, holder=Holder.OUTBOX, partition=None, offset=None, since=ago(minutes=20))
    found = await look(numbers(unfinished=(waiting,)), row, lag=lag_rows())
    assert found.oldest is not None
    assert (found.oldest.document_id, found.oldest.held_by) == (row.document_id, Holder.OUTBOX)
    assert (found.oldest.next_step, found.oldest.waits_since) == (NextStep.RELAY_PUBLISHES, ago(minutes=20))
    assert found.oldest_deposit == ago(minutes=20)


async def test_the_head_of_a_partition_names_its_document_though_the_outbox_was_not_read_so_far() -> None:
    row = a_row(deposited=ago(hours=3))
    head = HeadRecord(written_at=ago(hours=3), key=str(row.document_id), event_id=uuid4())
    lag = a_lag("dpj.integrity", UPLOADED, lag=4, behind=3 * 3600.0, head=head)
    found = await look(numbers(unfinished_whole=False), row, lag=lag_rows(lag))
    assert found.oldest is not None
    assert (found.oldest.document_id, found.oldest.held_by) == (row.document_id, Holder.TOPIC)
    assert consumer(found, "integrity").oldest_deposit == ago(hours=3)
    assert consumer(found, "integrity").partitions[0].head == str(row.document_id)
    assert not found.oldest_unknown


async def test_a_key_that_is_no_documents_is_passed_over() -> None:
    head = HeadRecord(written_at=ago(hours=3), key="acme", event_id=None)
    found = await look(numbers(), lag=lag_rows(a_lag("dpj.audit", "dpj.audit.recorded", lag=1, behind=1.0, head=head)))
    assert found.oldest is None


async def test_the_time_that_a_person_took_to_decide_does_not_count() -> None:
    waited_for_a_person = a_row(Status.VALIDATED, deposited=ago(days=9), decided=ago(minutes=1))
    late = a_row(deposited=ago(hours=1))
    events = (
        an_event(waited_for_a_person.document_id, "archiving", VALIDATED, written_at=ago(minutes=1)),
        an_event(late.document_id),
    )
    found = await look(numbers(unfinished=events), waited_for_a_person, late)
    assert found.oldest is not None
    assert found.oldest.document_id == late.document_id
    archiving = consumer(found, "archiving").oldest
    assert (archiving.deposited_at, archiving.waits_since) == (ago(days=9), ago(minutes=1))


async def test_of_a_document_at_rest_only_the_event_is_late() -> None:
    viewed = a_row(Status.ARCHIVED, deposited=ago(days=700))
    found = await look(numbers(unfinished=(an_event(viewed.document_id, "audit", "dpj.audit.recorded"),)), viewed)
    assert found.oldest is not None
    assert found.oldest.waits_since == ago(minutes=5)


async def test_an_erasure_has_a_line_of_its_own() -> None:
    erased = a_row(Status.ERASING, deposited=ago(days=700))
    assert (await look(numbers(unfinished=(an_event(erased.document_id),)), erased)).oldest is None


async def test_a_stored_document_without_any_event_is_told_and_what_holds_it_is_unknown() -> None:
    row = a_row(deposited=ago(days=2))
    found = await look(numbers(oldest_stored=(row,)), row, lag=lag_rows())
    assert found.oldest is not None
    assert (found.oldest.document_id, found.oldest.held_by, found.oldest.next_step) == (row.document_id, None, None)


@pytest.mark.parametrize(
    ("changes", "holder", "step"),
    [
        ({"holder": Holder.GED, "waiting_for": "ged", "attempts": 4}, Holder.GED, NextStep.CONSUMER_TRIES_AGAIN),
        ({"holder": Holder.HOLD, "waiting_for": "smtp"}, Holder.HOLD, NextStep.CONSUMER_TRIES_AGAIN),
        ({"holder": Holder.HOLD, "giving_up": True}, Holder.HOLD, NextStep.CONSUMER_GIVES_UP),
        ({"holder": Holder.REFUSED}, Holder.REFUSED, NextStep.OPERATOR_SETTLES_REFUSED_ROW),
        ({"holder": Holder.DEAD_LETTER}, Holder.DEAD_LETTER, NextStep.OPERATOR_REDRIVES),
        ({"offset": 7}, Holder.TOPIC, NextStep.CONSUMER_READS),
        # Behind the committed offset, or beyond the end of a topic that was made anew: Kafka brings it no more.
        ({"offset": 3}, Holder.LOST, NextStep.RELAY_PUBLISHES_AGAIN),
        ({"offset": 12}, Holder.LOST, NextStep.RELAY_PUBLISHES_AGAIN),
        # Published after the offsets were read.
        ({"offset": 12, "since": ago(seconds=1)}, Holder.TOPIC, NextStep.CONSUMER_READS),
        # An earlier release did not note where it went.
        ({"partition": None, "offset": None}, Holder.TOPIC, NextStep.CONSUMER_READS),
    ],
)
async def test_what_holds_it_and_what_comes_next(changes: dict[str, Any], holder: Holder, step: NextStep) -> None:
    row = a_row(deposited=ago(minutes=9))
    lag = a_lag("dpj.integrity", UPLOADED, lag=5, behind=60.0)
    found = await look(numbers(unfinished=(an_event(row.document_id, **changes),)), row, lag=lag_rows(lag))
    assert found.oldest is not None
    assert (found.oldest.held_by, found.oldest.next_step) == (holder, step)
    assert sum(one.lost or 0 for one in found.consumers) == (holder is Holder.LOST)


# --- states, retention, trend -----------------------------------------------------------------------------------------


async def test_validated_counts_only_what_is_still_to_be_archived() -> None:
    waiting = a_row(Status.VALIDATED, deposited=ago(days=9), decided=ago(minutes=7))
    at_its_end = a_row(Status.VALIDATED, deposited=ago(days=90), decided=ago(days=80))
    events = (
        an_event(waiting.document_id, "archiving", VALIDATED),
        an_event(at_its_end.document_id, "audit", "dpj.audit.recorded"),
    )
    found = await look(numbers(unfinished=events), waiting, at_its_end)
    assert found.states is not None
    state = next(one for one in found.states if one.status is Status.VALIDATED)
    assert (state.count, state.oldest) == (Count(1), ago(minutes=7))


async def test_retention_leaves_what_the_topic_keeps_less_the_age_of_the_first_record() -> None:
    rows = lag_rows(
        a_lag("dpj.archiving", UPLOADED, lag=1, behind=2 * DAY), a_lag("dpj.archiving", VALIDATED, lag=1, behind=DAY)
    )
    kept = {UPLOADED: 30 * DAY, VALIDATED: 10 * DAY}
    found = consumer(await look(numbers(), lag=rows, retention=kept), "archiving")
    assert found.retention_margin_seconds == 9 * DAY
    endless = consumer(await look(numbers(), lag=rows, retention={UPLOADED: None, VALIDATED: None}), "archiving")
    assert endless.retention_margin_seconds is None
    over = consumer(await look(numbers(), lag=rows, retention={UPLOADED: DAY, VALIDATED: None}), "archiving")
    assert over.retention_margin_seconds == 0.0


@pytest.mark.parametrize(
    ("lags", "waiting", "seconds"),
    [
        ([100, 90], 80, 8 * 60.0),  # 20 in 2 minutes
        ([100], 100, None),
        ([100], 120, None),
        ([None, 100], 50, 60.0),
        ([100, 50], 0, 0.0),
        ([100, 50], None, None),
        ([], 50, None),
    ],
)
def test_how_long_a_lag_lasts(lags: list[int | None], waiting: int | None, seconds: float | None) -> None:
    trend = [Sample(at=ago(minutes=len(lags) - place), lag=lag, behind_seconds=None) for place, lag in enumerate(lags)]
    assert drain_seconds(trend, NOW, waiting) == seconds


def test_an_old_rate_is_none() -> None:
    assert drain_seconds([Sample(at=ago(minutes=30), lag=900, behind_seconds=None)], NOW, 10) is None


# --- processes --------------------------------------------------------------------------------------------------------


def answers(**changes: dict[str, Any] | None) -> dict[str, dict[str, Any] | None]:
    there: dict[str, dict[str, Any] | None] = {
        "relay": {"relay": "leading", "waiting_for": {}, "dependencies": {"postgresql": "ok"}},
        **{f"worker-{name}": {"consumers": {name: "running"}, "waiting_for": {}} for name in consumers.CONSUMERS},
        "watchdog": {"waiting_for": {}, "stalled": [], "looked": NOW.isoformat()},
    }
    return there | {name.replace("_", "-"): body for name, body in changes.items()}


async def test_a_worker_says_which_partitions_it_has() -> None:
    body = {
        "consumers": {"integrity": "running"},
        "owned": {"integrity": ["t/0", "t/2"]},
        "process": {"host": "node-3", "pid": 4711},
    }
    broken = {"consumers": {"archiving": "running"}, "owned": {"archiving": ["t/0"]}, "process": {"host": 7}}
    answered = ProcessAnswers(answers(worker_integrity=body, worker_archiving=broken, worker_audit=None))
    owner = PartitionOwner(process="worker-integrity", host="node-3", pid=4711)
    assert answered.owners("integrity") == {"t/0": owner, "t/2": owner}
    assert answered.owners("archiving") == answered.owners("audit") == {}


async def test_what_a_worker_waits_for_and_since_when() -> None:
    body = {
        "consumers": {"archiving": "running"},
        "waiting_for": {"ged": 3, "retry": 1, "other_worker": 2},
        "dependencies": {"ged": "away", "postgresql": "ok"},
        "dependencies_away_since": {"ged": ago(minutes=2).isoformat()},
        "circuits": {"ged": "open"},
    }
    held = HeldGroup(waiting_for="ged", code="ged_unavailable", count=3, since=ago(minutes=3), attempts=9)
    found = await look(numbers(held={"archiving": (held,)}), answers=answers(worker_archiving=body))
    archiving = consumer(found, "archiving")
    assert (archiving.waits_for, archiving.waits_since) == (("ged",), ago(minutes=3))
    assert consumer(found, "integrity").waits_for == ()
    assert found.dependencies is not None
    ged = next(one for one in found.dependencies if one.name == "ged")
    assert (ged.away, ged.away_since, ged.processes) == (True, ago(minutes=2), ("worker-archiving",))
    assert [(one.process, one.dependency, one.state) for one in found.circuits or ()] == [
        ("worker-archiving", "ged", "open")
    ]


async def test_a_process_that_does_not_answer_is_silent_and_what_it_would_say_is_unknown() -> None:
    found = await look(numbers(), answers=answers(worker_archiving=None, watchdog=None))
    assert found.silent == ("worker-archiving", "watchdog")
    assert (consumer(found, "archiving").waits_for, consumer(found, "archiving").stalled) == (None, None)


async def test_one_process_may_run_all_consumers() -> None:
    body = {"consumers": dict.fromkeys(consumers.CONSUMERS, "running"), "waiting_for": {"kafka": 0}}
    silent = {f"worker-{name}": None for name in consumers.CONSUMERS}
    found = await look(numbers(), answers={**silent, "worker-integrity": body})
    assert all(one.waits_for == ("kafka",) for one in found.consumers)


async def test_stalls_are_the_watchdogs_and_unknown_while_it_sees_nothing() -> None:
    stall = {"consumer": "archiving", "topic": VALIDATED, "partition": 2, "lag": 4, "seconds": 90.0}
    watching = {"waiting_for": {}, "stalled": [stall], "looked": NOW.isoformat()}
    found = await look(numbers(), answers=answers(watchdog=watching))
    assert [(one.topic, one.partition, one.seconds) for one in consumer(found, "archiving").stalled] == [
        (VALIDATED, 2, 90.0)
    ]
    assert found.watchdog_looked == NOW
    blind = await look(numbers(), answers=answers(watchdog=watching | {"waiting_for": {"kafka": 0}}))
    assert consumer(blind, "archiving").stalled is None


async def test_the_watchdogs_last_look_is_also_in_the_history() -> None:
    assert (await look(numbers(recorded=ago(minutes=1)))).watchdog_looked == ago(minutes=1)


async def test_malformed_answers_are_unknown() -> None:
    odd: dict[str, Any] = {
        "consumers": {"audit": "running"},
        "waiting_for": "kafka",
        "dependencies": ["ged"],
        "dependencies_away_since": {"ged": "yesterday"},
        "audit_stopped": 3,
    }
    watching = {"waiting_for": {}, "stalled": [{"consumer": "audit"}, 7], "looked": "soon"}
    found = await look(numbers(), answers=answers(worker_audit=odd, watchdog=watching, relay={"reconcile": 1}))
    assert (consumer(found, "audit").waits_for, consumer(found, "audit").stalled) == ((), ())
    assert (found.audit_steps_stopped, found.watchdog_looked, found.reconcile) == (None, None, None)


async def test_reconciling_and_stopped_audit_steps() -> None:
    run = {"finished_at": NOW.isoformat(), "findings": {"left_object": 2, "event_lost": 0}}
    audit = {"consumers": {"audit": "running"}, "waiting_for": {"audit flush: operator": 1}, "audit_stopped": ["flush"]}
    found = await look(numbers(), answers=answers(relay={"reconcile": run}, worker_audit=audit))
    assert found.reconcile is not None
    assert (found.reconcile.finished_at, found.reconcile.findings) == (NOW, {"left_object": 2})
    assert found.audit_steps_stopped == ("flush",)
    assert consumer(found, "audit").waits_for == ()


async def test_what_the_history_keeps() -> None:
    outbox = OutboxOverview(
        waiting=Count(10_000, more=True), oldest=ago(seconds=40), refused=Count(0), refused_since=None
    )
    row = a_lag("dpj.integrity", UPLOADED, lag=2, behind=30.0)
    found = await look(replace(numbers(), outbox=outbox), lag=lag_rows(row))
    samples = samples_of(found)
    assert (samples["integrity"], samples["audit"], samples[OUTBOX]) == ((2, 30.0), (0, 0.0), (10_000, 40.0))


async def test_what_is_lost_behind_the_outbox_s_front_is_told_by_the_relay() -> None:
    owed = {"relay": {"events_owed": {"notification": 51, "audit": "many"}}}
    lag = a_lag("dpj.integrity", UPLOADED, lag=0, behind=None)
    found = await look(numbers(unfinished=()), lag=lag_rows(lag), answers=owed)
    assert {one.consumer: one.lost for one in found.consumers if one.lost} == {"notification": 51}
