"""The agents bench's contestant over Quix Streams, whose functions are synchronous and see one message after the other."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import psycopg
from quixstreams import Application
from quixstreams.sinks.base.batch import SinkBatch
from quixstreams.sinks.base.sink import BatchingSink

from benchmarks.agents_workload import BenchProgress, Effects, Task, pool_of, site_of

INSERT = "INSERT INTO bench_done (consumer, event_id) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING true"
INSERT_MANY = """
    INSERT INTO bench_done (consumer, event_id) SELECT %s, event_id FROM unnest(%s::uuid[]) AS new (event_id)
    ON CONFLICT DO NOTHING RETURNING event_id
"""


class Aside:
    """An event loop in a thread: our codec and the integrity processor are asynchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


def step(coroutine: Any) -> Any:
    """The result of a coroutine that never waits, without a loop: our codec's decode, once its schema is known."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waited")


def batch_insert(connection: psycopg.Connection[Any], task: Task, progress: BenchProgress) -> Any:
    """Quix's own way to write many: a batch per partition when a checkpoint is committed."""

    def setup(_: Any) -> None: ...

    def write(_: Any, batch: SinkBatch) -> None:
        events = [item.value.event_id for item in batch]
        connection.execute(INSERT_MANY, (task.group, events)).fetchall()
        progress.add(len(events))

    return type("BatchInsert", (BatchingSink,), {"setup": setup, "write": write})()


def quix(task: Task, progress: BenchProgress) -> None:
    """An application of one dataframe; offsets are committed at checkpoints."""
    aside = Aside()
    site = site_of(task)
    aside.run(site.codec.check())
    pool = aside.run(pool_of(task))
    effects = Effects(site, task, pool)
    app = Application(
        site.settings.kafka_bootstrap,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        commit_every=task.batch,
        commit_interval=1.0,
        processing_guarantee="at-least-once",
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="ERROR",
    )
    topic = app.topic(task.topic, value_deserializer="bytes", key_deserializer="bytes")
    frame = app.dataframe(topic)
    with psycopg.connect(task.dsn, autocommit=True) as connection:

        def decoded(value: bytes) -> Any:
            progress.begin()
            return step(effects.decode(value))

        def noop(value: bytes) -> None:
            event = decoded(value)
            connection.execute(INSERT, (task.group, event.event_id)).fetchone()
            finish()

        def integrity(value: bytes) -> None:
            progress.begin()
            aside.run(effects.one(value))
            finish()

        def finish() -> None:
            progress.add()
            if progress.ended:
                app.stop()

        if task.way == "batch":
            frame = frame.apply(decoded)
            frame.sink(batch_insert(connection, task, progress))
        else:
            frame.update(noop if task.work == "noop" else integrity)
        threading.Thread(target=_stop_at_end, args=(app, progress), daemon=True).start()
        app.run()
    aside.run(pool.close())
    aside.run(site.aclose())


def _stop_at_end(app: Any, progress: BenchProgress) -> None:
    """A sink writes while a checkpoint is committed, where the application can't be stopped."""
    while not progress.ended:
        time.sleep(0.1)
    app.stop()
