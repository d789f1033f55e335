"""From the outbox to Kafka: one leader publishes, at least once, a document's rows in their own order.

The rows are always those unpublished, in id order, never a cursor: sequences do not commit in order. A document's rows get
their ids under its row lock, so id order is its order; ``streams.in_flight_rows`` keeps it on the way. A row is marked only after
the broker confirmed it; when the leader dies in between, its successor publishes again and consumers drop the event by its id.

A row that Kafka refuses for its own sake (too large, invalid) is set aside in the table, with the error's name, and the later
rows of its document wait behind it for an operator; all others go on. So they do while a topic is missing or forbidden to us: its
rows, and what follows them of their documents, stay in the table until Kafka knows the topic.

While rows are on their way, the next are fetched: what is in hand is bounded by ``batch`` rows and ``batch_bytes``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from domain.errors import DPJError
from domain.shared.crash_points import reach
from domain.shared.waiting import pause, until_stopped
from streams.in_flight_rows import InFlightRows, OutboxRow
from streams.spans import PublishSpans

log = structlog.get_logger()

LEADER_POLL_SECONDS: Final = 0.5
IDLE_POLL_SECONDS: Final = 1.0
#: The session is used at least so often: the server ends one that is silent for longer than its leader may be frozen.
HEARTBEAT_SECONDS: Final = 1.0
#: How long one wait for confirmations takes at most, and how long what comes in bit by bit is gathered.
POLL_SECONDS: Final = 0.2
REPORT_WAIT_SECONDS: Final = 0.01
FLUSH_SLICE_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 1.0
METADATA_SECONDS: Final = 2.0
#: Without a confirmation for so long, we are waiting for the broker.
SILENCE_SECONDS: Final = 2.0
#: How often refused rows are counted anew: operators settle some.
RECOUNT_SECONDS: Final = 60.0

#: Errors that are about the row, and stay however often it is sent.
ROW_ERRORS: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.POLICY_VIOLATION,
        KafkaError._BAD_MSG,  # noqa: SLF001 - the client's own names for its own findings
        KafkaError._INVALID_ARG,  # noqa: SLF001
    }
)


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row that Kafka confirmed, by its id, and where it stands in its topic, as far as Kafka told."""

    id: int
    partition: int | None
    offset: int | None


#: ``message`` says where the row was put, if it was.
DeliveryReport = tuple[OutboxRow, KafkaError | None, Message]


class LeaderSession(Protocol):
    """The relay's own database connection. Raises DatabaseUnavailable; after that it is closed and a new one is opened."""

    async def lead(self) -> bool:
        """Take, or confirm that we still hold, the leader lock."""
        ...

    @property
    def woken(self) -> bool:
        """Whether a writer notified since the last fetch."""
        ...

    async def wait(self, timeout: float) -> None:
        """Until a writer notifies, or ``timeout`` seconds passed."""
        ...

    async def close(self) -> None: ...


class UnpublishedRows(Protocol):
    """The outbox. Raises DatabaseUnavailable."""

    async def fetch_unpublished(
        self, limit: int, max_bytes: int, known: Collection[int] = (), away: Collection[str] = ()
    ) -> Sequence[OutboxRow]:
        """The oldest rows to publish but those ``known`` and those of topics ``away``; none that waits behind a refused one, or
        behind one of a topic away. At least one, if there is one."""
        ...

    async def mark_published(self, placed: Sequence[PlacedRow]) -> None:
        """Kafka has them, and where."""
        ...

    async def refuse(self, row_id: int, code: str) -> None:
        """Set a row aside for an operator; the later ones of its key wait behind it."""
        ...

    async def count_refused(self) -> int: ...


class OutboxReader(LeaderSession, UnpublishedRows, Protocol):
    """The outbox, over the leader's own connection: whoever has lost the lead can't write there."""


class OutboxSource(Protocol):
    async def open_reader(self) -> OutboxReader: ...


class RelayObserver(Protocol):
    def published(self, count: int) -> None: ...

    def refused(self, rows: int) -> None:
        """So many rows are set aside now."""
        ...

    def leading(self, *, leader: bool) -> None: ...


#: The body that a row is sent with, by the one that it was written with and its headers.
Rewrite = Callable[[bytes | None, Mapping[str, str]], bytes | None]


def _as_it_is(body: bytes | None, _: Mapping[str, str]) -> bytes | None:
    return body


class OutboxRelay:
    """Publishes until told to stop. ``rewrite`` has the last word on a body, as schema ids may be others by then.

    ``state`` is one of connecting, standby, leading, waiting_for_broker, stopped.
    """

    def __init__(
        self,
        source: OutboxSource,
        new_producer: Callable[[], Producer],
        metrics: RelayObserver,
        *,
        batch: int = 500,
        batch_bytes: int = 4 << 20,
        rewrite: Rewrite = _as_it_is,
    ) -> None:
        self._source = source
        self._new_producer = new_producer
        self._metrics = metrics
        self._batch: Final = batch
        self._batch_bytes: Final = batch_bytes
        self._rewrite = rewrite
        self._recount_at = 0.0
        self.state = "connecting"

    async def run(self, stopping: asyncio.Event) -> None:
        """Lead whenever we can; any failure ends the term, and the next starts from the oldest unpublished row."""
        await until_stopped(stopping, partial(self._turn, stopping))
        self.state = "stopped"

    async def _turn(self, stopping: asyncio.Event) -> float:
        """One term, from the session's start to its end; gives the pause before the next."""
        self.state = "connecting"
        try:
            reader = await self._source.open_reader()
        except DPJError as error:
            log.warning("relay_waiting", waiting_for="postgresql", error=type(error).__name__)
            return RETRY_SECONDS
        try:
            await self._term(reader, stopping)
        except (DPJError, KafkaException) as error:
            log.warning("relay_term_ended", error=type(error).__name__)
            return RETRY_SECONDS
        finally:
            self._metrics.leading(leader=False)
            with suppress(DPJError):
                await reader.close()
        return 0.0

    async def _term(self, reader: OutboxReader, stopping: asyncio.Event) -> None:
        while not await reader.lead():
            self.state = "standby"
            await pause(stopping, LEADER_POLL_SECONDS)
            if stopping.is_set():
                return
        log.info("relay_leading")
        self._metrics.leading(leader=True)
        self._recount_at = 0.0
        producer = self._new_producer()
        spans = PublishSpans()
        try:
            await _Publishing(self, reader, producer, spans).run(stopping)
        finally:
            spans.close()
            # Whatever is still queued must not be sent after a successor took over.
            producer.purge(in_queue=True, in_flight=True, blocking=False)
            await asyncio.to_thread(producer.flush, FLUSH_SLICE_SECONDS)

    async def recount_if_due(self, reader: OutboxReader) -> None:
        """Tell how many rows are set aside, from time to time."""
        if time.monotonic() >= self._recount_at:
            self._recount_at = time.monotonic() + RECOUNT_SECONDS
            self._metrics.refused(await reader.count_refused())

    def record(self, row: OutboxRow, headers: Mapping[str, str]) -> dict[str, Any]:
        """What the producer is given."""
        return {
            "key": row.key,
            "value": self._rewrite(row.body, row.headers),
            "headers": [(name, value.encode()) for name, value in headers.items()],
        }

    @property
    def metrics(self) -> RelayObserver:
        return self._metrics

    @property
    def batch(self) -> tuple[int, int]:
        """Rows and bytes in hand at most."""
        return self._batch, self._batch_bytes


class _Publishing:
    """One term's work, from the first fetch to the stop or the loss of a server."""

    def __init__(self, relay: OutboxRelay, reader: OutboxReader, producer: Producer, spans: PublishSpans) -> None:
        self._relay = relay
        self._reader = reader
        self._producer = producer
        self._spans = spans
        self._rows = InFlightRows()
        #: Filled by the producer's callbacks, in the thread that polls.
        self._reports: list[DeliveryReport] = []
        #: Topics that Kafka does not take from us, and when it is asked again.
        self._unavailable_topics: dict[str, float] = {}
        self._exhausted_until = 0.0
        self._session_used_at = time.monotonic()
        self._last_confirmed_at = time.monotonic()

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await self._recheck_topics()
            await self._refill()
            await self._relay.recount_if_due(self._reader)
            if not await self._still_leading():
                return
            if len(self._rows):
                await self._publish()
            else:
                self._relay.state = "leading"
                await self._reader.wait(IDLE_POLL_SECONDS)

    async def _still_leading(self) -> bool:
        """An answer of the session proves that it still holds the lock: so it is asked only after a silence."""
        if time.monotonic() - self._session_used_at < HEARTBEAT_SECONDS:
            return True
        self._session_used_at = time.monotonic()
        return await self._reader.lead()

    async def _recheck_topics(self) -> None:
        """Whether those away are there again."""
        for topic in [topic for topic, again in self._unavailable_topics.items() if again <= time.monotonic()]:
            if await asyncio.to_thread(self._topic_exists, topic):
                del self._unavailable_topics[topic]
                self._exhausted_until = 0.0
            else:
                self._unavailable_topics[topic] = time.monotonic() + RETRY_SECONDS

    def _topic_exists(self, topic: str) -> bool:
        try:
            found = self._producer.list_topics(topic, timeout=METADATA_SECONDS).topics.get(topic)
        except KafkaException:
            return False
        return found is not None and found.error is None

    async def _refill(self) -> None:
        """Fetch once half of what may be in hand is gone, unless the last fetch showed that there is no more."""
        rows, size = self._relay.batch
        free = rows - len(self._rows)
        if free < rows / 2 or self._rows.size > size / 2:
            return
        if time.monotonic() < self._exhausted_until and not self._reader.woken:
            return
        asked_at = self._session_used_at = time.monotonic()
        known, away = self._rows.known, list(self._unavailable_topics)
        found = await self._reader.fetch_unpublished(free, size - self._rows.size, known, away)
        if found:
            reach("relay.fetched")
        self._rows.add(found)
        self._exhausted_until = 0.0 if found else asked_at + IDLE_POLL_SECONDS

    async def _publish(self) -> None:
        """Send what may be sent, then settle what was answered."""
        refused = self._send()
        reach("relay.produced")
        if self._rows.in_flight:
            await asyncio.to_thread(self._collect_reports)
        elif not refused and len(self._rows):
            await asyncio.sleep(POLL_SECONDS)  # the producer has no room
        refused += await self._settle()
        for row, error in refused:
            self._session_used_at = time.monotonic()
            await self._reader.refuse(row.id, error.name())
            self._rows.drop(row)
            log.error("relay_row_refused", row=row.id, code=error.name(), topic=row.topic)
        if refused:
            self._relay.metrics.refused(await self._reader.count_refused())

    def _send(self) -> list[tuple[OutboxRow, KafkaError]]:
        """Queue what may go now; gives the rows that are refused on the spot."""
        refused: list[tuple[OutboxRow, KafkaError]] = []
        while (row := self._rows.take()) is not None:
            if row.topic in self._unavailable_topics:
                self._rows.drop(row)
                continue
            try:
                record = self._relay.record(row, self._spans.begin(row))
                self._producer.produce(row.topic, **record, on_delivery=self._on_delivery(row))
            except BufferError:
                self._spans.fail(row, "no_room")
                self._rows.return_unsent(row)
                break
            except KafkaException as error:
                refusal: KafkaError = error.args[0]
                self._spans.fail(row, refusal.name())
                if refusal.code() not in ROW_ERRORS:
                    raise
                refused.append((row, refusal))
        return refused

    def _on_delivery(self, row: OutboxRow) -> Callable[[KafkaError | None, Message], None]:
        return lambda error, message: self._reports.append((row, error, message))

    def _collect_reports(self) -> None:
        """Wait for confirmations; those that come one by one are settled together."""
        enough = max(1, self._rows.in_flight // 2)
        self._producer.poll(POLL_SECONDS)
        ends = time.monotonic() + REPORT_WAIT_SECONDS
        while 0 < len(self._reports) < enough and (left := ends - time.monotonic()) > 0:
            self._producer.poll(left)

    async def _settle(self) -> list[tuple[OutboxRow, KafkaError]]:
        """Mark what is confirmed; gives what is refused for good. Raises KafkaException after a fatal error of the producer."""
        reports, self._reports = self._reports, []
        alone = self._rows.is_alone
        confirmed: list[PlacedRow] = []
        refused: list[tuple[OutboxRow, KafkaError]] = []
        for row, error, message in reports:
            if error is not None:
                self._spans.fail(row, error.name())
            if error is None:
                self._spans.confirm(row, message)
                self._rows.confirm(row)
                confirmed.append(PlacedRow(row.id, message.partition(), message.offset()))
            elif error.fatal():
                raise KafkaException(error)
            elif error.code() not in ROW_ERRORS:
                self._topic_unavailable(row, error)
            elif alone:
                refused.append((row, error))
            else:
                # Kafka refuses a batch as a whole: whose fault it is shows when each is sent alone.
                self._rows.send_alone(row)
        if confirmed:
            self._last_confirmed_at = self._session_used_at = time.monotonic()
            self._relay.state = "leading"
            reach("relay.confirmed")
            await self._reader.mark_published(confirmed)
            reach("relay.marked")
            self._rows.forget([placed.id for placed in confirmed])
            self._relay.metrics.published(len(confirmed))
        elif time.monotonic() - self._last_confirmed_at > SILENCE_SECONDS and not refused:
            self._relay.state = "waiting_for_broker"
        return refused

    def _topic_unavailable(self, row: OutboxRow, error: KafkaError) -> None:
        """Through no fault of the row: a topic that is missing, a right that we lack. It waits in the table, others go on."""
        log.warning("relay_row_not_taken", code=error.name(), topic=row.topic)
        self._unavailable_topics[row.topic] = time.monotonic() + RETRY_SECONDS
        self._rows.drop(row)
