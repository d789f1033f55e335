"""Each branch of delivery's six steps, with collaborators that misbehave on purpose."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import structlog

from domain.dead_letters import REDRIVEN_FOR
from domain.errors import ArchiveRefused, DatabaseUnavailable, EventUndecodable, GedUnavailable, RegistryUnavailable
from domain.refusals import DocumentNotFound
from domain.shared.correlation import current_traceparent
from streams.dead_letter_headers import record_id
from streams.delivery import ClaimOutcome, Policy
from streams.lanes import Partition, Record
from streams.librdkafka import create_producer
from tests.support.fakes_streams import FAST, PARTITION, DeliveryBench, an_event


async def until_finished(bench: DeliveryBench, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while len(bench.metrics.outcomes) < count:
            await asyncio.sleep(0.001)


@pytest.fixture
async def bench() -> AsyncIterator[DeliveryBench]:
    bench = DeliveryBench()
    yield bench
    await bench.delivery.revoke()


async def acknowledged(bench: DeliveryBench) -> int | None:
    await asyncio.sleep(0)
    await bench.delivery.acknowledge()
    return bench.committed[-1][PARTITION] if bench.committed else None


async def test_an_event_is_processed_written_and_acknowledged(bench: DeliveryBench) -> None:
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert bench.database.written == [event.event_id]
    assert bench.inbox.rows["scripted", event.event_id][0] == "DONE"
    assert bench.metrics.outcomes == [("done", "none")]
    assert await acknowledged(bench) == 1
    assert bench.delivery.depth == 0


async def test_a_redelivered_event_is_acknowledged_without_effect(bench: DeliveryBench) -> None:
    event = an_event()
    bench.send(event)
    bench.send(event)
    await until_finished(bench, 2)
    assert bench.processor.seen == [event.event_id]
    assert bench.metrics.outcomes == [("done", "none"), ("duplicate", "none")]
    assert await acknowledged(bench) == 2


async def test_a_transient_failure_holds_as_long_as_it_takes(bench: DeliveryBench) -> None:
    bench.processor.steps = [GedUnavailable() for _ in range(20)]
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert len(bench.processor.seen) == 21
    assert bench.metrics.outcomes == [("done", "none")]
    assert bench.database.dead_letters == []
    assert "ged" in bench.metrics.waited_for
    assert bench.metrics.waits["ged"] == 0


async def test_nothing_is_acknowledged_while_an_event_is_held(bench: DeliveryBench) -> None:
    bench.processor.steps = [GedUnavailable() for _ in range(10_000)]
    bench.send(an_event())
    await asyncio.sleep(0.05)
    assert await acknowledged(bench) is None
    assert bench.metrics.outcomes == []


@pytest.mark.parametrize("where", ["claim", "transaction", "decode"])
async def test_an_outage_anywhere_is_survived(bench: DeliveryBench, where: str) -> None:
    if where == "claim":
        bench.inbox.answers = [DatabaseUnavailable(), DatabaseUnavailable()]
    elif where == "transaction":
        bench.database.failures = [DatabaseUnavailable(), DatabaseUnavailable()]
    else:
        bench.decode_failures = [RegistryUnavailable(), RegistryUnavailable()]
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert bench.database.written == [event.event_id]


async def test_a_permanent_failure_becomes_state_dead_row_and_dead_letter_at_once(bench: DeliveryBench) -> None:
    bench.processor.steps = [ArchiveRefused()]
    event = an_event()
    bench.send(event, headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "other": "x"})
    await until_finished(bench)
    assert len(bench.processor.seen) == 1
    assert bench.processor.given_up == ["archive_refused"]
    assert bench.database.written == ["archive_refused"]
    assert bench.inbox.rows["scripted", event.event_id][0] == "DEAD"
    assert bench.metrics.outcomes == [("dead_letter", "archive_refused")]
    consumer, key, value, headers = bench.database.dead_letters[0]
    assert (consumer, key, value) == ("scripted", event.key.encode(), str(event.event_id).encode())
    assert headers["dpj-origin-topic"] == PARTITION.topic
    assert headers["dpj-origin-partition"] == "0"
    assert headers["dpj-origin-offset"] == "0"
    assert headers["dpj-origin-timestamp"] == "12500"
    assert headers["dpj-code"] == "archive_refused"
    assert headers["dpj-error-class"] == "ArchiveRefused"
    assert headers["dpj-attempts"] == "1"
    assert headers["dpj-event-id"] == str(event.event_id)
    assert headers["traceparent"].startswith("00-" + "a" * 32)
    assert "other" not in headers
    assert await acknowledged(bench) == 1


async def test_a_defect_is_retried_a_bounded_number_of_times(bench: DeliveryBench) -> None:
    bench.processor.steps = [ZeroDivisionError(), ZeroDivisionError()]
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert bench.database.written == [event.event_id]
    assert bench.database.dead_letters == []


async def test_a_lasting_defect_becomes_a_dead_letter_without_its_message(bench: DeliveryBench) -> None:
    bench.processor.steps = [ValueError("jean.dupont@example.org") for _ in range(3)]
    bench.send(an_event())
    await until_finished(bench)
    assert len(bench.processor.seen) == 3
    assert bench.processor.given_up == ["unexpected_failure"]
    headers = bench.database.dead_letters[0][3]
    assert headers["dpj-error-class"] == "ValueError"
    assert "jean" not in str(headers)


async def test_a_refusal_by_our_own_rules_is_retried_then_dead(bench: DeliveryBench) -> None:
    bench.processor.steps = [DocumentNotFound() for _ in range(3)]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.metrics.outcomes == [("dead_letter", "document_not_found")]


async def test_an_undecodable_record_is_a_dead_letter_once(bench: DeliveryBench) -> None:
    bench.send(None)
    await until_finished(bench)
    assert bench.metrics.outcomes == [("dead_letter", "event_undecodable")]
    assert bench.processor.given_up == []
    assert len(bench.inbox.rows) == 1
    bench.offset = 0
    await bench.delivery.revoke()
    bench.send(None)
    await until_finished(bench, 2)
    assert bench.metrics.outcomes[1] == ("duplicate", "event_undecodable")
    assert len(bench.database.dead_letters) == 1


async def test_a_record_without_value_is_undecodable(bench: DeliveryBench) -> None:
    bench.decode_failures = [EventUndecodable(), EventUndecodable()]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.database.dead_letters[0][3]["dpj-code"] == "event_undecodable"


async def test_a_damaged_record_is_a_letter_of_its_place_whatever_it_says(bench: DeliveryBench) -> None:
    event = an_event()
    value = str(event.event_id).encode()
    bench.events[value] = event
    bench.database.failures = [KeyError(), DatabaseUnavailable()]
    for_another = {REDRIVEN_FOR: "another"}
    damaged = Record(PARTITION, 0, b"key", value, for_another, damage="ChecksumMismatch")
    bench.delivery.accept(damaged)
    bench.delivery.accept(Record(PARTITION, 1, b"key", value))
    await until_finished(bench, 2)
    assert sorted(bench.metrics.outcomes) == [("dead_letter", "record_damaged"), ("done", "none")]
    ((_, key, kept, headers),) = bench.database.dead_letters
    assert (key, kept) == (b"key", value)
    assert (headers["dpj-code"], headers["dpj-error-class"]) == ("record_damaged", "ChecksumMismatch")
    assert headers["dpj-event-id"] == str(record_id(damaged))
    assert bench.processor.given_up == []
    assert bench.database.written == [event.event_id]


async def test_a_gap_is_acknowledged_with_nothing_done(bench: DeliveryBench) -> None:
    bench.send(an_event())
    bench.delivery.accept(Record(PARTITION, 7, None, None, gap=True))
    await until_finished(bench)
    await asyncio.sleep(0.05)
    await bench.delivery.acknowledge()
    assert bench.committed[-1] == {PARTITION: 8}
    assert bench.metrics.outcomes == [("done", "none")]


async def test_when_giving_up_fails_too_the_dead_letter_is_still_written(bench: DeliveryBench) -> None:
    bench.processor.steps = [ArchiveRefused()]
    bench.processor.give_up_failures = [KeyError() for _ in range(3)]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.processor.given_up == []
    assert len(bench.database.dead_letters) == 1
    assert bench.metrics.outcomes == [("dead_letter", "unexpected_failure")]


async def test_an_outage_while_giving_up_is_survived(bench: DeliveryBench) -> None:
    bench.processor.steps = [ArchiveRefused()]
    bench.database.failures = [DatabaseUnavailable()]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.database.written == ["archive_refused"]
    assert len(bench.database.dead_letters) == 1


async def test_an_event_held_by_another_worker_is_waited_for(bench: DeliveryBench) -> None:
    bench.inbox.answers = [ClaimOutcome.BUSY, ClaimOutcome.BUSY]
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert bench.database.written == [event.event_id]
    assert "other_worker" in bench.metrics.waited_for


async def test_the_lease_is_renewed_while_the_processor_works(bench: DeliveryBench) -> None:
    async def slow() -> None:
        await asyncio.sleep(0.35)

    bench.processor.steps = [slow]
    bench.inbox.renewals = [True, DatabaseUnavailable()]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.inbox.renewed >= 2
    assert len(bench.processor.seen) == 1


async def test_a_lost_lease_stops_the_work_before_it_is_written(bench: DeliveryBench) -> None:
    stopped = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise

    bench.processor.steps = [slow]
    bench.inbox.renewals = [False]
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert stopped.is_set()
    assert bench.database.written == [event.event_id]
    assert len(bench.processor.seen) == 2


async def test_work_that_cancels_itself_is_tried_again(bench: DeliveryBench) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    bench.processor.steps = [cancelled]
    event = an_event()
    bench.send(event)
    await until_finished(bench)
    assert bench.database.written == [event.event_id]


async def test_losing_the_claim_at_the_last_moment_writes_nothing_twice(bench: DeliveryBench) -> None:
    event = an_event()

    async def steal() -> None:
        bench.inbox.rows["scripted", event.event_id] = ("DONE", uuid4())

    bench.processor.steps = [steal]
    bench.send(event)
    await until_finished(bench)
    assert bench.database.written == []
    assert bench.metrics.outcomes == [("duplicate", "none")]


async def test_revoking_cancels_work_and_frees_its_claim(bench: DeliveryBench) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    bench.processor.steps = [forever]
    event = an_event()
    bench.send(event)
    await asyncio.sleep(0.02)
    await bench.delivery.revoke({PARTITION, Partition("unknown", 3)})
    assert bench.delivery.depth == 0
    assert bench.inbox.rows == {}
    assert await acknowledged(bench) is None
    assert bench.metrics.outcomes == []


async def test_a_release_that_fails_does_not_matter(bench: DeliveryBench) -> None:
    bench.processor.steps = [GedUnavailable()]

    async def broken(*_: object) -> None:
        raise DatabaseUnavailable

    bench.inbox.release = broken  # type: ignore[method-assign]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.metrics.outcomes == [("done", "none")]


async def test_full_lanes_push_back_and_drained_ones_resume(bench: DeliveryBench) -> None:
    gate = asyncio.Event()
    bench.processor.steps = [gate.wait for _ in range(6)]  # type: ignore[misc]
    for _ in range(6):
        bench.send(an_event())
    assert bench.flow.calls[0] == ("hold", PARTITION)
    await bench.delivery.acknowledge()
    assert ("resume", PARTITION) not in bench.flow.calls
    gate.set()
    await until_finished(bench, 6)
    await asyncio.sleep(0)
    await bench.delivery.acknowledge()
    assert bench.flow.calls[-1] == ("resume", PARTITION)


@pytest.mark.parametrize("answer", [False, RuntimeError()])
async def test_a_refused_offset_commit_is_repeated(bench: DeliveryBench, answer: bool | Exception) -> None:
    bench.commit_answers = [answer]
    bench.send(an_event())
    await until_finished(bench)
    assert await acknowledged(bench) is None
    assert await acknowledged(bench) == 1


async def test_a_lane_revoked_during_a_failing_commit_is_forgotten(bench: DeliveryBench) -> None:
    bench.send(an_event())
    await until_finished(bench)

    async def revoke_then_fail(_: object) -> bool:
        await bench.delivery.revoke()
        return False

    bench.delivery._commit_offsets = revoke_then_fail  # type: ignore[assignment]
    await asyncio.sleep(0)
    await bench.delivery.acknowledge()
    assert bench.delivery.depth == 0


async def test_acknowledging_goes_on_by_itself(bench: DeliveryBench) -> None:
    task = asyncio.create_task(bench.delivery.keep_acknowledging())
    bench.send(an_event())
    async with asyncio.timeout(5):
        while not bench.committed:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_document_in_order_two_documents_at_once(bench: DeliveryBench) -> None:
    running: list[int] = []
    most = 0

    async def step() -> None:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        await asyncio.sleep(0.01)
        running.pop()

    document = uuid4()
    first, second, other = an_event(document), an_event(document), an_event()
    bench.processor.steps = [step, step, step]  # type: ignore[list-item]
    for event in (first, second, other):
        bench.send(event)
    await until_finished(bench, 3)
    assert bench.processor.seen.index(first.event_id) < bench.processor.seen.index(second.event_id)
    assert bench.database.written.index(first.event_id) < bench.database.written.index(second.event_id)
    assert most == 2


async def test_the_trace_of_the_event_is_that_of_the_work(bench: DeliveryBench) -> None:
    seen: list[str | None] = []

    async def look() -> None:
        seen.append(current_traceparent.get())

    bench.processor.steps = [look]
    bench.send(an_event(), headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})
    await until_finished(bench)
    assert seen[0] is not None
    assert seen[0].split("-")[1] == "a" * 32


def test_pauses_grow_to_their_cap_with_jitter() -> None:
    policy = Policy(retry_base=0.1)
    assert 0.05 <= policy.pause(0, 30) <= 0.1
    assert 15 <= policy.pause(60, 30) <= 30


async def test_a_decoder_s_lasting_defect_becomes_a_dead_letter_too(bench: DeliveryBench) -> None:
    bench.decode_failures = [ValueError("a defect") for _ in range(1_000)]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.metrics.outcomes == [("dead_letter", "unexpected_failure")]
    assert len(bench.database.dead_letters) == 1


async def test_the_registry_away_while_giving_up_is_waited_for(bench: DeliveryBench) -> None:
    bench.decode_failures = [EventUndecodable(), RegistryUnavailable()]
    bench.send()
    await until_finished(bench)
    assert bench.metrics.outcomes == [("dead_letter", "event_undecodable")]
    assert "schema_registry" in bench.metrics.waited_for


async def test_a_dead_letter_is_never_larger_than_what_the_relay_can_send(bench: DeliveryBench) -> None:
    bench.delivery.accept(Record(PARTITION, 0, b"k", b"x" * 1_000_000, {"traceparent": "y" * 100_000}))
    await until_finished(bench)
    _, key, value, headers = bench.database.dead_letters[0]
    # Refused at once where it is too large, broker or no broker: the relay would then publish nothing any more.
    producer = create_producer("127.0.0.1:9")
    producer.produce("dpj.dlq.scripted", key=key, value=value, headers=[(n, v.encode()) for n, v in headers.items()])
    producer.purge(in_queue=True, in_flight=True)
    assert headers["dpj-origin-offset"] == "0"


async def test_a_claim_whose_answer_was_lost_is_ours_at_the_next_try(bench: DeliveryBench) -> None:
    owners, claim = [], bench.inbox.claim

    async def losing(consumer: str, event_id: UUID, key: str, owner: UUID, lease: float) -> ClaimOutcome:
        owners.append(owner)
        answer = await claim(consumer, event_id, key, owner, lease)
        if len(owners) == 1:
            raise DatabaseUnavailable("The answer was lost.")
        return answer

    vars(bench.inbox)["claim"] = losing
    bench.send(an_event())
    await until_finished(bench)
    assert len(owners) == 2
    assert len(set(owners)) == 1


async def test_a_claim_that_comes_while_its_taker_is_cancelled_is_given_back(bench: DeliveryBench) -> None:
    event, claimed, claim = an_event(), asyncio.Event(), bench.inbox.claim

    async def slow(consumer: str, event_id: UUID, key: str, owner: UUID, lease: float) -> ClaimOutcome:
        answer = await claim(consumer, event_id, key, owner, lease)
        claimed.set()
        await asyncio.sleep(60)
        return answer

    vars(bench.inbox)["claim"] = slow
    bench.send(event)
    await asyncio.wait_for(claimed.wait(), 2)
    await bench.delivery.revoke()
    assert bench.inbox.rows == {}


async def test_work_stops_once_its_lease_can_t_have_survived(bench: DeliveryBench) -> None:
    stopped = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    bench.inbox.renewals = [DatabaseUnavailable("away")] * 20
    bench.processor.steps = [long]
    bench.send(an_event())
    await until_finished(bench)
    assert stopped == [True]
    assert bench.metrics.outcomes == [("done", "none")]


async def test_a_defect_while_burying_does_not_cost_the_document_its_state(bench: DeliveryBench) -> None:
    bench.processor.steps = [ValueError("a defect")] * 3
    bench.processor.give_up_failures = [OSError("a passing one")]
    bench.send(an_event())
    await until_finished(bench)
    assert bench.processor.given_up == ["unexpected_failure"]
    assert bench.metrics.outcomes == [("dead_letter", "unexpected_failure")]


async def test_work_that_waits_for_ever_is_stopped_told_of_and_tried_again() -> None:
    bench = DeliveryBench(replace(FAST, deadline=0.05))

    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def late() -> None:
        raise TimeoutError  # the processor's own: a defect like any other

    bench.processor.steps = [forgotten, late]
    event = an_event()
    with structlog.testing.capture_logs() as lines:
        bench.send(event)
        await until_finished(bench)
    await bench.delivery.revoke()
    assert bench.metrics.outcomes == [("done", "none")]
    assert bench.database.written == [event.event_id]
    stuck, defect = [line for line in lines if line["event"] in {"event_stuck", "event_failed"}]
    assert (stuck["event"], defect["event"], defect["error"]) == ("event_stuck", "event_failed", "TimeoutError")
    for line in (stuck, defect):
        assert any("test_delivery:" in place for place in line["where"]), line
