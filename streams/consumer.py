"""Runs one consumer for as long as its process lives: waits for the broker, starts the app, rebuilds it when Faust gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from domain.shared.waiting import pause, unless_stopped
from streams.agents import attach
from streams.apps import ConsumerFlow, ConsumerOffsets, ConsumerSettings, PartitionsUnassigned, create_app
from streams.delivery import Delivery, Flow
from streams.librdkafka import log_tls_error

log = structlog.get_logger()

BROKER_POLL_SECONDS = 1.0
METADATA_TIMEOUT_SECONDS = 5.0
STOP_SECONDS = 10.0

#: Builds a consumer's delivery over the given flow and offset commit.
DeliveryFactory = Callable[[Flow, ConsumerOffsets], Delivery]


class ConsumerRunner:
    """One consumer group member. ``state`` is one of starting, waiting_for_broker, waiting_for_topics, running, stopped."""

    def __init__(
        self, consumer: str, topics: tuple[str, ...], settings: ConsumerSettings, create_delivery: DeliveryFactory
    ) -> None:
        self._consumer = consumer
        self._topics = topics
        self._settings = settings
        self._create_delivery = create_delivery
        self.state = "starting"

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until ``stopping`` is set. A Faust app that crashed is thrown away and built anew."""
        while not stopping.is_set():
            self.state = "waiting_for_broker"  # until its first answer, which may take seconds
            await self._wait_for_topics(stopping)
            if stopping.is_set():
                break
            self.state = "starting"
            incomplete = asyncio.Event()
            noted = partial(asyncio.get_running_loop().call_soon_threadsafe, incomplete.set)
            app = create_app(self._consumer, self._settings, noted)
            delivery = self._create_delivery(ConsumerFlow(app), ConsumerOffsets(app))
            attach(app, self._topics, delivery)
            try:
                await self._run_app(app, delivery, incomplete, stopping)
            except Exception as error:  # noqa: BLE001 - Faust's crashes come in all classes; none may end the worker
                log.error("consumer_crashed", consumer=self._consumer, error=type(error).__name__)
                await pause(stopping, BROKER_POLL_SECONDS)
        self.state = "stopped"

    async def _run_app(self, app: Any, delivery: Delivery, incomplete: asyncio.Event, stopping: asyncio.Event) -> None:
        acknowledging = asyncio.create_task(delivery.keep_acknowledging())
        stopped = asyncio.create_task(stopping.wait())
        crashed = asyncio.create_task(app._crashed.wait())  # noqa: SLF001 - mode offers no public way to await a crash
        started = asyncio.create_task(app.start())
        unowned = asyncio.create_task(incomplete.wait())
        try:
            ends = {acknowledging, stopped, crashed, unowned}
            await asyncio.wait({started, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                started.result()
                self.state = "running"
                log.info("consumer_running", consumer=self._consumer)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if acknowledging.done():
                acknowledging.result()
            if unowned.done():
                raise PartitionsUnassigned
            if crashed.done():
                reason = app.crash_reason
                raise reason if isinstance(reason, Exception) else RuntimeError("the consumer's service crashed")
        finally:
            acknowledging.cancel()
            unowned.cancel()
            stopped.cancel()
            if stopping.is_set() and not crashed.done():
                await delivery.drain(self._settings.drain)
            await delivery.revoke()
            crashed.cancel()
            started.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(app.stop(), STOP_SECONDS)
            # What the app handed over while it stopped would be worked on beside its successor.
            await delivery.revoke()

    async def _wait_for_topics(self, stopping: asyncio.Event) -> None:
        """Faust exits when the broker is away at its start, and idles for ever on a topic made later: so wait first."""
        client_settings: dict[str, Any] = {
            "bootstrap.servers": self._settings.bootstrap,
            "log_level": 0,
            "error_cb": log_tls_error,
        }
        client = AdminClient(client_settings | dict(self._settings.security))
        list_topics = partial(client.list_topics, timeout=METADATA_TIMEOUT_SECONDS)
        announced = ""
        while not stopping.is_set():
            try:
                found = await unless_stopped(stopping, asyncio.to_thread(list_topics))
                if found is None:
                    return
                known = found.topics
            except KafkaException:
                client.poll(0)  # what librdkafka said meanwhile
                self.state = "waiting_for_broker"
            else:
                if all(topic in known for topic in self._topics):
                    return
                self.state = "waiting_for_topics"
            if self.state != announced:
                announced = self.state
                log.warning(announced, consumer=self._consumer)
            await pause(stopping, BROKER_POLL_SECONDS)
