"""The agents bench's first contestant: our own delivery, wired as in a worker."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace

from benchmarks.agents_workload import TOPIC, BenchProgress, Task
from domain.events import DocumentUploaded, Event
from processors.documents.transitions import NOTHING_TO_COMMIT
from processors.ports.processor import Processor
from processors.ports.work import Commit
from runtime.observability.telemetry import DeliveryMetrics
from runtime.wiring.site import Site
from storage.postgres.delivery.inbox import PostgresInbox
from streams.apps import ConsumerOffsets, ConsumerSettings
from streams.consumer import ConsumerRunner
from streams.delivery import Delivery, Flow


class Noop:
    """Owes nothing for any event."""

    consumer = "noop"
    handles: tuple[type[Event], ...] = (DocumentUploaded,)

    async def process(self, event: Event) -> Commit:  # noqa: ARG002
        return NOTHING_TO_COMMIT

    async def give_up(self, event: Event, code: str) -> Commit:  # noqa: ARG002
        return NOTHING_TO_COMMIT


class CountingMetrics(DeliveryMetrics):
    """Delivery's metrics, which also count for the bench."""

    progress: BenchProgress

    def finished(self, consumer: str, outcome: str, code: str, seconds: float) -> None:
        super().finished(consumer, outcome, code, seconds)
        if outcome != "done":
            raise SystemExit(f"an event ended as {outcome} ({code})")
        self.progress.add()


async def ours(task: Task, site: Site, progress: BenchProgress) -> None:
    """Delivery over Faust, inbox and transactions in PostgreSQL."""
    processor: Processor = Noop() if task.work == "noop" else site.processor("integrity")
    metrics = CountingMetrics(site.metrics)
    metrics.progress = progress
    inbox = PostgresInbox(site.postgres)

    async def decode(_: str, value: bytes, __: str | None = None) -> Event:
        progress.begin()
        return await site.codec.decode(TOPIC, value)

    def create(flow: Flow, offsets: ConsumerOffsets) -> Delivery:
        return Delivery(
            processor,
            decode=decode,
            inbox=inbox,
            database=site.database,
            commit_offsets=offsets.commit,
            flow=flow,
            metrics=metrics,
            policy=site.policy("audit" if task.work == "noop" else "integrity"),
        )

    stopping = asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="bench-faust-") as scratch:
        settings = ConsumerSettings(bootstrap=site.settings.kafka_bootstrap, scratch=scratch)
        runner = ConsumerRunner(task.group, (task.topic,), replace(settings, fetch_records=task.batch), create)
        running = asyncio.create_task(runner.run(stopping))
        await progress.done.wait()
        await asyncio.sleep(1)  # the last offsets
        stopping.set()
        await running
