"""Contestants of the agents bench over aiokafka: the bare loop, and FastStream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer

from benchmarks.agents_workload import BenchProgress, Effects, Task, by_key, pool_of
from runtime.wiring.site import Site


async def bare(task: Task, site: Site, progress: BenchProgress) -> None:
    """getmany, the batch's work, then a commit of its offsets."""
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=site.settings.kafka_bootstrap,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=task.batch,
    )
    async with await pool_of(task) as pool:
        effects = Effects(site, task, pool)
        work = effects.by_batch if task.way == "batch" else effects.by_event
        await consumer.start()
        try:
            while not progress.ended:
                found = await consumer.getmany(timeout_ms=200, max_records=task.batch)
                records = [(record.key, record.value) for batch in found.values() for record in batch]
                if records:
                    progress.begin()
                    await work(by_key(records))
                    await consumer.commit()
                    progress.add(len(records))
        finally:
            await consumer.stop()


async def faststream(task: Task, site: Site, progress: BenchProgress) -> None:
    """A batch subscriber that acknowledges after its function has returned: one commit per batch."""
    from faststream import AckPolicy, Context
    from faststream.kafka import KafkaBroker

    broker: Any = KafkaBroker(site.settings.kafka_bootstrap, logger=None)
    async with await pool_of(task) as pool:
        effects = Effects(site, task, pool)
        work = effects.by_batch if task.way == "batch" else effects.by_event

        async def raw(message: Any) -> Any:
            return message.body

        async def handle(values: list[Any], message: Any = Context("message")) -> None:  # noqa: B008
            del values
            records: Sequence[Any] = message.raw_message
            progress.begin()
            await work(by_key([(record.key, record.value) for record in records]))
            progress.add(len(records))

        broker.subscriber(
            task.topic,
            group_id=task.group,
            batch=True,
            max_records=task.batch,
            max_poll_records=task.batch,
            batch_timeout_ms=200,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            decoder=raw,
        )(handle)
        await broker.start()
        await progress.done.wait()
        await asyncio.sleep(1)
        await broker.stop()
