"""The relay against a Kafka that refuses: what is set aside, what waits, what goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from domain.errors import DatabaseUnavailable
from streams import outbox_relay
from streams.librdkafka import create_producer
from streams.outbox_relay import OutboxRelay
from tests.support.simulated_time import SimulatedTimeLoop


def a_row(number: int, key: bytes | None = b"k", size: int = 10, topic: str = "t") -> Any:
    return SimpleNamespace(
        id=number, topic=topic, key=key, body=b"x" * size, headers={}, event_id=None, waiting_since=None
    )


class Reader:
    """The table in memory. Stops the relay when nothing is left to publish; raises ``failures`` first."""

    def __init__(self, rows: Sequence[Any], stopping: asyncio.Event) -> None:
        self.rows = list(rows)
        self.marked: list[int] = []
        self.places: list[tuple[int, int]] = []
        self.refused: dict[int, str] = {}
        self.fetches: list[int] = []
        self.leads = 0
        self.failures: list[Exception] = []
        self.woken = False
        self._stopping = stopping

    async def lead(self) -> bool:
        self.leads += 1
        return True

    async def fetch_unpublished(
        self, limit: int, max_bytes: int, known: Collection[int] = (), away: Collection[str] = ()
    ) -> Sequence[Any]:
        if self.failures:
            raise self.failures.pop(0)
        self.fetches.append(len(known))
        return [row for row in self._open(away) if row.id not in known][:limit]

    def _open(self, away: Collection[str] = ()) -> list[Any]:
        found: list[Any] = []
        behind: set[bytes] = set()
        for row in self.rows:
            if row.id in self.marked or row.key in behind:
                continue
            if row.id not in self.refused and row.topic not in away:
                found.append(row)
            elif row.key is not None:
                behind.add(row.key)
        return found

    async def mark_published(self, placed: Sequence[Any]) -> None:
        self.marked += [row.id for row in placed]
        self.places += [(row.partition, row.offset) for row in placed]

    async def refuse(self, row_id: int, code: str) -> None:
        self.refused[row_id] = code

    async def count_refused(self) -> int:
        return len(self.refused)

    async def wait(self, timeout: float) -> None:
        if not self._open():
            self._stopping.set()
        await asyncio.sleep(0.01)

    async def close(self) -> None: ...


class Broker:
    """A producer whose broker answers at the next poll: ``answers`` by row body's topic, else it confirms."""

    def __init__(self, room: int = 10_000) -> None:
        self._real = create_producer("127.0.0.1:9")
        self._waiting: list[tuple[str, Callable[[KafkaError | None, Any], None]]] = []
        self.answers: dict[str, list[KafkaError | None]] = {}
        self.batches: list[list[str]] = []
        self.room = room
        self.most = 0
        self.missing: dict[str, int] = {}
        self.values: list[bytes | None] = []
        self._offset = 0

    def produce(self, topic: str, *, on_delivery: Callable[[KafkaError | None, Any], None], **record: Any) -> None:
        if len(self._waiting) >= self.room:
            raise BufferError
        self.values.append(record["value"])
        self._real.produce(topic, **record)  # refuses on the spot what the real one refuses
        self._real.purge(in_queue=True)
        self._waiting.append((topic, on_delivery))
        self.most = max(self.most, len(self._waiting))

    def list_topics(self, topic: str, timeout: float) -> Any:
        """Topics are ``missing`` for so many looks."""
        self.missing[topic] = left = self.missing.get(topic, 0) - 1
        error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART) if left >= 0 else None
        return SimpleNamespace(topics={topic: SimpleNamespace(error=error)})

    def purge(self, **how: bool) -> None:
        self._real.purge(**how)

    def flush(self, _: float) -> int:
        return 0

    def poll(self, _: float) -> int:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.batches.append([topic for topic, _ in waiting])
        for topic, on_delivery in waiting:
            self._offset += 1
            placed = SimpleNamespace(partition=lambda: 7, offset=partial(int, self._offset))
            on_delivery(self.answers[topic].pop(0) if self.answers.get(topic) else None, placed)
        return len(waiting)


class Metrics:
    def __init__(self) -> None:
        self.count = 0
        self.aside: list[int] = []

    def published(self, count: int) -> None:
        self.count += count

    def refused(self, rows: int) -> None:
        self.aside.append(rows)

    def leading(self, *, leader: bool) -> None: ...


class Bench:
    def __init__(self, *rows: Any, batch: int = 500, room: int = 10_000) -> None:
        self.stopping = asyncio.Event()
        self.reader = Reader(rows, self.stopping)
        self.broker = Broker(room)
        self.metrics = Metrics()
        self.terms = 0

        async def open_reader() -> Reader:
            self.terms += 1
            return self.reader

        source: Any = SimpleNamespace(open_reader=open_reader)
        producer: Any = self.broker
        self.relay = OutboxRelay(source, lambda: producer, self.metrics, batch=batch)

    async def run(self) -> Bench:
        async with asyncio.timeout(10):
            await self.relay.run(self.stopping)
        return self


@pytest.fixture(autouse=True)
async def _one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay's clock is that of its loop."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(outbox_relay, "time", SimpleNamespace(monotonic=loop.time))


TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)


async def test_an_oversized_row_is_set_aside_with_what_follows_of_its_document_and_others_go_on() -> None:
    bench = await Bench(a_row(1), a_row(2, size=1_000_000), a_row(3), a_row(4, b"other"), a_row(5, b"other")).run()
    assert bench.reader.refused == {2: "MSG_SIZE_TOO_LARGE"}
    assert sorted(bench.reader.marked) == [1, 4, 5]
    assert bench.terms == 1
    assert bench.metrics.aside[-1] == 1
    assert bench.metrics.count == 3


async def test_rows_of_one_document_are_under_way_one_by_one_and_others_beside_them() -> None:
    bench = await Bench(*(a_row(number, topic=f"t{number}") for number in (1, 2, 3)), a_row(4, b"b", topic="b")).run()
    assert bench.reader.marked == [1, 4, 2, 3] or bench.reader.marked == [4, 1, 2, 3]
    assert [sorted(batch) for batch in bench.broker.batches] == [["b", "t1"], ["t2"], ["t3"]]


async def test_rows_without_a_key_wait_for_nothing() -> None:
    bench = await Bench(a_row(1, None, 1_000_000), a_row(2, None), a_row(3, None)).run()
    assert bench.reader.refused == {1: "MSG_SIZE_TOO_LARGE"}
    assert bench.reader.marked == [2, 3]
    assert bench.broker.most == 2


async def test_of_a_batch_that_kafka_refuses_only_the_guilty_row_is_set_aside() -> None:
    bench = Bench(a_row(1, b"a", topic="innocent"), a_row(2, b"b", topic="guilty"), a_row(3, b"c", topic="other"))
    bench.broker.answers = {"innocent": [TOO_LARGE], "guilty": [TOO_LARGE, TOO_LARGE]}
    await bench.run()
    assert bench.reader.refused == {2: "MSG_SIZE_TOO_LARGE"}
    assert sorted(bench.reader.marked) == [1, 3]
    assert bench.broker.batches[1:] == [["innocent"], ["guilty"]]


MISSING = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


async def test_a_row_not_taken_through_no_fault_of_its_own_is_tried_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox_relay, "RETRY_SECONDS", 0.05)
    bench = Bench(a_row(1, topic="missing"), a_row(2, topic="missing"), a_row(3, b"b"))
    bench.broker.answers = {"missing": [MISSING, MISSING]}
    await bench.run()
    assert bench.reader.marked == [3, 1, 2]
    assert (bench.reader.refused, bench.terms) == ({}, 1)


async def test_a_topic_that_is_missing_stops_no_other_however_many_rows_it_has(monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox_relay, "RETRY_SECONDS", 0.02)
    missing = [a_row(number, b"%d" % number, topic="missing") for number in range(1, 41)]
    behind = [a_row(number + 100, b"%d" % number, topic="behind") for number in range(1, 41)]
    others = [a_row(number, b"%d" % number) for number in range(500, 540)]
    bench = Bench(*missing, *behind, *others, batch=10)
    bench.broker.answers = {"missing": [MISSING] * 10}
    bench.broker.missing = {"missing": 5}
    await bench.run()
    assert (bench.reader.refused, bench.terms) == ({}, 1)
    assert sorted(bench.reader.marked[:40]) == [row.id for row in others]
    assert sorted(bench.reader.marked) == sorted(row.id for row in bench.reader.rows)
    places = {number: place for place, number in enumerate(bench.reader.marked)}
    assert all(places[number] < places[number + 100] for number in range(1, 41))


async def test_a_fatal_error_of_the_producer_ends_the_term(monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox_relay, "RETRY_SECONDS", 0.01)
    bench = Bench(a_row(1))
    bench.broker.answers = {"t": [KafkaError(KafkaError._FATAL, "fenced", fatal=True)]}
    await bench.run()
    assert bench.terms == 2
    assert bench.reader.marked == [1]


async def test_an_error_while_queueing_that_is_not_the_rows_ends_the_term(monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox_relay, "RETRY_SECONDS", 0.01)
    bench = Bench(a_row(1))
    produce, failures = bench.broker.produce, [KafkaException(KafkaError(KafkaError._STATE))]

    def failing(topic: str, **record: Any) -> None:
        if failures:
            raise failures.pop()
        produce(topic, **record)

    bench.broker.produce = failing  # type: ignore[method-assign]
    await bench.run()
    assert (bench.terms, bench.reader.marked) == (2, [1])


async def test_a_producer_without_room_is_no_failure() -> None:
    bench = await Bench(*(a_row(number, b"%d" % number) for number in range(10)), room=3).run()
    assert sorted(bench.reader.marked) == list(range(10))
    assert bench.broker.most == 3


async def test_what_is_in_hand_is_bounded_and_fetched_ahead() -> None:
    bench = await Bench(*(a_row(number, b"%d" % (number % 7)) for number in range(100)), batch=8).run()
    assert sorted(bench.reader.marked) == list(range(100))
    assert max(bench.reader.fetches) <= 4
    for key in range(7):
        mine = [row for row in bench.reader.marked if row % 7 == key]
        assert mine == sorted(mine)
    assert max(Counter(bench.reader.marked).values()) == 1


async def test_a_lost_database_ends_the_term_and_the_next_goes_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox_relay, "RETRY_SECONDS", 0.01)
    bench = Bench(a_row(1))
    bench.reader.failures = [DatabaseUnavailable()]
    await bench.run()
    assert (bench.terms, bench.reader.marked) == (2, [1])


async def test_a_row_is_sent_with_the_body_that_it_has_now() -> None:
    bench = Bench(a_row(1, b"a"))
    bench.relay._rewrite = lambda body, headers: b"today" if body == b"x" * 10 and not headers else body
    await bench.run()
    assert bench.broker.values == [b"today"]


async def test_where_kafka_put_a_row_is_noted_with_it() -> None:
    bench = await Bench(a_row(1, b"a"), a_row(2, b"b"), a_row(3, b"c")).run()
    assert sorted(zip(bench.reader.marked, bench.reader.places, strict=True)) == [(1, (7, 1)), (2, (7, 2)), (3, (7, 3))]


async def test_the_session_is_used_at_every_heartbeat(monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox_relay, "HEARTBEAT_SECONDS", 0.0)
    bench = await Bench(a_row(1), a_row(2)).run()
    assert bench.reader.leads >= 3


async def test_a_broker_that_says_nothing_is_waited_for(monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox_relay, "SILENCE_SECONDS", 0.02)
    bench = Bench(a_row(1))
    polls = 0
    poll = bench.broker.poll
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedTimeLoop)
    seen: list[str] = []

    def silent(timeout: float) -> int:
        nonlocal polls
        polls += 1
        if polls < 5:
            loop.suspend(0.03)
            seen.append(bench.relay.state)
            return 0
        return poll(timeout)

    bench.broker.poll = silent  # type: ignore[method-assign]
    await bench.run()
    assert "waiting_for_broker" in seen
    assert bench.reader.marked == [1]
