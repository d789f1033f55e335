"""From the outbox to Kafka: one leader publishes, at least once, a document's rows in their own order.

The rows are always ``published_at IS NULL`` in id order, never a cursor: sequences do not commit in order. A document's
rows get their ids under its row lock, so id order is its order. A row is marked only after the broker confirmed it; when the
leader dies in between, its successor publishes again and consumers drop the event by its id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol
from uuid import UUID

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from domain.crash_points import reach
from domain.errors import BrokerUnavailable, DPJError
from streams.waiting import pause

log = structlog.get_logger()

LEADER_POLL_SECONDS = 1.0
IDLE_POLL_SECONDS = 1.0
FLUSH_SLICE_SECONDS = 0.5
RETRY_SECONDS = 1.0
PRUNE_EVERY_SECONDS = 60.0
PRODUCER_QUEUE_MESSAGES = 20_000


class OutboxRow(Protocol):
    """A row to publish: framed Avro ``body``, text ``headers``."""

    @property
    def id(self) -> int: ...
    @property
    def topic(self) -> str: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def event_id(self) -> UUID | None: ...


class OutboxReader(Protocol):
    """The relay's own database connection. Raises DatabaseUnavailable; after that it is closed and a new one is opened."""

    async def lead(self) -> bool:
        """Take, or confirm that we still hold, the leader lock."""
        ...

    async def fetch_unpublished(self, limit: int) -> Sequence[OutboxRow]: ...

    async def mark_published(self, ids: Sequence[int]) -> None: ...

    async def wait(self, timeout: float) -> None:
        """Until a writer notifies, or ``timeout`` seconds passed."""
        ...

    async def prune(self, older_than_hours: float) -> int: ...

    async def close(self) -> None: ...


class OutboxSource(Protocol):
    async def open_reader(self) -> OutboxReader: ...


class RelayMetrics(Protocol):
    def published(self, count: int) -> None: ...

    def leading(self, *, leader: bool) -> None: ...


def create_producer(bootstrap: str) -> Producer:
    """Idempotent, acks from all replicas, no message given up by time; keys land where Java's partitioner puts them."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "message.timeout.ms": 0,
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": PRODUCER_QUEUE_MESSAGES,
            "log_level": 2,
        }
    )


class OutboxRelay:
    """Publishes until told to stop. ``state`` is one of connecting, standby, leading, waiting_for_broker, stopped."""

    def __init__(
        self,
        source: OutboxSource,
        new_producer: Callable[[], Producer],
        metrics: RelayMetrics,
        *,
        batch: int = 500,
        keep_hours: float = 24.0,
    ) -> None:
        self._source = source
        self._new_producer = new_producer
        self._metrics = metrics
        self._batch: Final = batch
        self._keep_hours: Final = keep_hours
        self._pruned_at = time.monotonic()
        self.state = "connecting"

    async def run(self, stopping: asyncio.Event) -> None:
        """Lead whenever we can; any failure ends the term, and the next starts from the oldest unpublished row."""
        while not stopping.is_set():
            self.state = "connecting"
            try:
                reader = await self._source.open_reader()
            except DPJError as error:
                log.warning("relay_waiting", waiting_for="postgresql", error=type(error).__name__)
                await pause(stopping, RETRY_SECONDS)
                continue
            try:
                await self._term(reader, stopping)
            except (DPJError, KafkaException) as error:
                log.warning("relay_term_ended", error=type(error).__name__)
                await pause(stopping, RETRY_SECONDS)
            finally:
                self._metrics.leading(leader=False)
                with suppress(DPJError):
                    await reader.close()
        self.state = "stopped"

    async def _term(self, reader: OutboxReader, stopping: asyncio.Event) -> None:
        while not await reader.lead():
            self.state = "standby"
            await pause(stopping, LEADER_POLL_SECONDS)
            if stopping.is_set():
                return
        log.info("relay_leading")
        self._metrics.leading(leader=True)
        producer = self._new_producer()
        try:
            while not stopping.is_set() and await reader.lead():
                self.state = "leading"
                rows = await reader.fetch_unpublished(self._batch)
                if rows:
                    reach("relay.fetched")
                    await self._publish(reader, producer, rows, stopping)
                else:
                    await self._prune(reader)
                    await reader.wait(IDLE_POLL_SECONDS)
        finally:
            # Whatever is still queued must not be sent after a successor took over.
            producer.purge(in_queue=True, in_flight=True, blocking=False)
            await asyncio.to_thread(producer.flush, FLUSH_SLICE_SECONDS)

    async def _publish(
        self, reader: OutboxReader, producer: Producer, rows: Sequence[OutboxRow], stopping: asyncio.Event
    ) -> None:
        """Publish ``rows`` and mark them once the broker confirmed each. Raises BrokerUnavailable when a row is refused."""
        confirmed: list[int] = []
        refused: list[KafkaError] = []

        def on_delivery(row_id: int) -> Callable[[KafkaError | None, Message], None]:
            def report(error: KafkaError | None, _: Message) -> None:
                if error is None:
                    confirmed.append(row_id)
                else:
                    refused.append(error)

            return report

        for row in rows:
            refused.extend(_produce(producer, row, on_delivery(row.id)))
        reach("relay.produced")
        while len(confirmed) + len(refused) < len(rows):
            if await asyncio.to_thread(producer.flush, FLUSH_SLICE_SECONDS) == 0:
                break
            self.state = "waiting_for_broker"
            if stopping.is_set() or not await reader.lead():
                break
        if confirmed:
            reach("relay.confirmed")
            await reader.mark_published(confirmed)
            reach("relay.marked")
            self._metrics.published(len(confirmed))
        if refused:
            log.error("relay_row_refused", code=refused[0].name(), rows=len(refused))
            raise BrokerUnavailable

    async def _prune(self, reader: OutboxReader) -> None:
        if time.monotonic() - self._pruned_at >= PRUNE_EVERY_SECONDS:
            self._pruned_at = time.monotonic()
            await reader.prune(self._keep_hours)


def _produce(
    producer: Producer, row: OutboxRow, on_delivery: Callable[[KafkaError | None, Message], None]
) -> list[KafkaError]:
    """Queue a row; gives the refusal if it is too large to be sent, so that it does not keep back the others."""
    try:
        producer.produce(row.topic, **_record(row), on_delivery=on_delivery)
    except KafkaException as error:
        refusal: KafkaError = error.args[0]
        if refusal.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            raise
        return [refusal]
    return []


def _record(row: OutboxRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "value": row.body,
        "headers": [(name, value.encode()) for name, value in row.headers.items()],
    }
