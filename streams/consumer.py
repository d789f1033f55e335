"""Runs one consumer for as long as its process lives: waits for the broker, starts the app, rebuilds it when Faust gives up."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from domain.shared.waiting import pause, unless_stopped
from streams.agents import attach
from streams.apps import ConsumerFlow, ConsumerOffsets, ConsumerSettings, PartitionsUnassigned, create_app
from streams.consumer_thread import FetchUnreadable
from streams.delivery import Delivery, Flow
from streams.leases import error_location
from streams.librdkafka import log_tls_error

log = structlog.get_logger()

BROKER_POLL_SECONDS = 1.0
METADATA_TIMEOUT_SECONDS = 5.0
STOP_SECONDS = 10.0
#: So many crashes within ``CRASH_WINDOW_SECONDS`` are a loop. One may come with any trouble of the broker.
CRASHES: Final = 3
CRASH_WINDOW_SECONDS: Final = 60.0
#: A consumer that ran for so long without a crash has come out of its loop.
STEADY_SECONDS: Final = 30.0

#: Builds a consumer's delivery over the given flow and offset commit.
DeliveryFactory = Callable[[Flow, ConsumerOffsets], Delivery]


class CrashObserver(Protocol):
    def crashed(self, consumer: str) -> None: ...

    def watch(self, consumer: str, is_crashing: Callable[[], bool]) -> None: ...


class _NoObserver:
    def crashed(self, consumer: str) -> None: ...

    def watch(self, consumer: str, is_crashing: Callable[[], bool]) -> None: ...


@dataclass(frozen=True, slots=True)
class Crash:
    """Why a consumer crashed last: the class of its ``error``, the modules and lines it came through, and the ``record`` (topic,
    partition, offset) where that is known. Never the error's message, which may quote a document."""

    error: str
    where: tuple[str, ...]
    record: str | None

    @classmethod
    def of(cls, error: Exception) -> Crash:
        unreadable = isinstance(error, FetchUnreadable)
        record = f"{error.topic}/{error.partition}/{error.offset}" if isinstance(error, FetchUnreadable) else None
        cause = error.__cause__ if unreadable and error.__cause__ is not None else error
        return cls(type(error).__name__, tuple(error_location(cause)), record)


class CrashLoop:
    """Tells a consumer that crashes again and again from one that crashed. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: deque[float] = deque(maxlen=CRASHES)
        self.total = 0
        self.last: Crash | None = None

    def add(self, crash: Crash) -> None:
        self._times.append(self._clock())
        self.total += 1
        self.last = crash

    @property
    def is_on(self) -> bool:
        """The last crashes came soon after one another, and the last of them not long ago."""
        if len(self._times) < CRASHES:
            return False
        now = self._clock()
        return self._times[-1] - self._times[0] < CRASH_WINDOW_SECONDS and now - self._times[-1] < STEADY_SECONDS


class ConsumerRunner:
    """One consumer group member. ``state`` is one of starting, waiting_for_broker, waiting_for_topics, running, crashing, stopped."""

    def __init__(
        self,
        consumer: str,
        topics: tuple[str, ...],
        settings: ConsumerSettings,
        create_delivery: DeliveryFactory,
        *,
        observer: CrashObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._topics = topics
        self._settings = settings
        self._create_delivery = create_delivery
        self._observer: Final = observer or _NoObserver()
        self._crashes: Final = CrashLoop(clock)
        self._phase = "starting"
        self._app: Any = None
        self._observer.watch(consumer, lambda: self.state == "crashing")

    @property
    def state(self) -> str:
        """A consumer that crashes again and again is ``crashing``, whatever it does in between; but one that waits says for what."""
        looping = self._crashes.is_on and self._phase in {"asking_broker", "starting", "running"}
        if looping:
            return "crashing"
        return "waiting_for_broker" if self._phase == "asking_broker" else self._phase

    @property
    def crash(self) -> dict[str, object] | None:
        """The last crash of a consumer that is ``crashing``, and how many there were since the process started; else None."""
        if self.state != "crashing" or self._crashes.last is None:
            return None
        return {"crashes": self._crashes.total, **asdict(self._crashes.last)}

    @property
    def owned(self) -> list[str]:
        """Partitions that the group has given to this member (``topic/number``); none while it does not run."""
        if self._phase == "running" and self._app is not None:
            with suppress(Exception):  # an app that is just being stopped has no client any more
                return sorted(f"{tp.topic}/{tp.partition}" for tp in self._app.consumer.assignment())
        return []

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until ``stopping`` is set. A Faust app that crashed is thrown away and built anew."""
        while not stopping.is_set():
            self._phase = "asking_broker"  # until its first answer, which may take seconds
            await self._wait_for_topics(stopping)
            if stopping.is_set():
                break
            self._phase = "starting"
            incomplete = asyncio.Event()
            noted = partial(asyncio.get_running_loop().call_soon_threadsafe, incomplete.set)
            app = self._app = create_app(self._consumer, self._settings, noted)
            delivery = self._create_delivery(ConsumerFlow(app), ConsumerOffsets(app))
            attach(app, self._topics, delivery)
            try:
                await self._run_app(app, delivery, incomplete, stopping)
            except Exception as error:  # noqa: BLE001 - Faust's crashes come in all classes; none may end the worker
                self._note_crash(error)
                await pause(stopping, BROKER_POLL_SECONDS)
        self._phase = "stopped"

    def _note_crash(self, error: Exception) -> None:
        crash = Crash.of(error)
        self._crashes.add(crash)
        self._observer.crashed(self._consumer)
        log.error("consumer_crashed", consumer=self._consumer, **asdict(crash), crashes=self._crashes.total)

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
                self._phase = "running"
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
                self._phase = "waiting_for_broker"
            else:
                if all(topic in known for topic in self._topics):
                    return
                self._phase = "waiting_for_topics"
            if self._phase != announced:
                announced = self._phase
                log.warning(announced, consumer=self._consumer)
            await pause(stopping, BROKER_POLL_SECONDS)
