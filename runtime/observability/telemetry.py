"""Logs and metrics. Log events have static names and carry ids only; metric labels come from enums, never from ids."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from domain.reconciliation import DiscrepancyKind
from domain.shared.correlation import current_traceparent, trace_id
from processors.reconcile.run import ReconcileReport
from processors.resilience.circuit_breakers import CircuitState
from runtime.observability.masking import mask_personal

QUIET = ("faust", "mode", "aiokafka", "kafka", "httpx", "httpcore", "urllib3", "hvac", "uvicorn", "uvicorn.error")
#: What adapters and loops say at every try.
REPEATED = frozenset(
    {
        *("object_store_failed", "object_store_refused", "vault_call_failed", "jwks_not_refreshed", "relay_waiting"),
        *("kafka_tls_failed", "spans_not_exported", "span_failed"),
    }
)
REPEAT_AFTER_SECONDS = 60.0
#: Different lines of libraries that are remembered; beyond it the oldest may be said again early.
REMEMBERED = 500
_CIRCUIT_VALUES = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def _add_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    current = current_traceparent.get()
    if current and "trace_id" not in event:
        event["trace_id"] = trace_id(current)
    return event


class _RepeatedEvents:
    """Drops a line of REPEATED that says the same as one of the last minute: an outage is told once, not at every try."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[tuple[str, ...], float] = {}

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("event") not in REPEATED:
            return event
        now = self._clock()
        self._said = {line: at for line, at in self._said.items() if now - at < REPEAT_AFTER_SECONDS}
        line = (str(event["event"]), str(event.get("error")), str(event.get("code")))
        if line in self._said:
            raise structlog.DropEvent
        self._said[line] = now
        return event


class RepeatedLines(logging.Filter):
    """Drops what a library said within the last minute, numbers aside: without its broker one consumer says 76 lines a second.

    A line that comes again after that minute ends with how often it was dropped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        line = (record.name, re.sub(r"\d+", "#", text))
        now = self._clock()
        at, dropped = self._said.get(line, (None, 0))
        if at is not None and now - at < REPEAT_AFTER_SECONDS:
            self._said[line] = (at, dropped + 1)
            return False
        self._said.pop(line, None)
        if len(self._said) >= REMEMBERED:
            del self._said[next(iter(self._said))]
        self._said[line] = (now, 0)
        if dropped:
            record.msg, record.args = f"{text} (and {dropped} times in between)", ()
        return True


def configure_logging(process: str, *, log_format: str = "json", level: str = "INFO") -> None:
    """One line per event on stderr: JSON, or coloured text for a person. Libraries speak from WARNING on."""
    loggers: Any
    lines: Any  # ours are bytes from the serializer to the file: two of them come with every upload
    if log_format == "console":
        renderer: Any = structlog.dev.ConsoleRenderer()
        lines, loggers = renderer, structlog.PrintLoggerFactory(sys.stderr)
    else:
        renderer = structlog.processors.JSONRenderer()
        lines = structlog.processors.JSONRenderer(serializer=orjson.dumps)
        loggers = structlog.BytesLoggerFactory(sys.stderr.buffer)
    shared: list[Any] = [
        _RepeatedEvents(),
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    structlog.configure(
        processors=[*shared, mask_personal, lines],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=loggers,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _only_class_of_exception,
                mask_personal,
                renderer,
            ],
        )
    )
    handler.addFilter(RepeatedLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(
        logging.ERROR
    )  # it tells of every retry; our line tells of the end


def _only_class_of_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A library's traceback may quote what is not ours to log: keep the class."""
    exception = event.pop("exc_info", None)
    if isinstance(exception, tuple) and exception[0] is not None:
        event["error"] = exception[0].__name__
    return event


class PauseMetrics:
    """Which of a worker's consumers an operator has paused: what stands still for that is no alarm."""

    def __init__(
        self, registry: CollectorRegistry, consumers: Sequence[str], paused: Callable[[str], object | None]
    ) -> None:
        gauge = Gauge(
            "dpj_consumer_paused", "1 while an operator has paused a consumer", ["consumer"], registry=registry
        )
        for consumer in consumers:
            gauge.labels(consumer).set_function(partial(_is_set, paused, consumer))


def _is_set(paused: Callable[[str], object | None], consumer: str) -> float:
    return float(paused(consumer) is not None)


class DeliveryMetrics:
    """What delivery says of itself; labels: consumer, outcome, code, dependency."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._finished = Counter(
            "dpj_events_finished_total", "Events finished", ["consumer", "outcome", "code"], registry=registry
        )
        self._seconds = Histogram(
            "dpj_event_seconds",
            "Seconds from a lane's take to the event's end",
            ["consumer"],
            buckets=SECONDS,
            registry=registry,
        )
        self._waiting = Gauge(
            "dpj_events_waiting", "Events held, by what they wait for", ["consumer", "dependency"], registry=registry
        )
        self._retried = Counter(
            "dpj_event_retries_total", "Tries that failed and were repeated", ["consumer", "code"], registry=registry
        )
        self._crashes = Counter(
            "dpj_consumer_crashes_total", "Times a consumer crashed and was built anew", ["consumer"], registry=registry
        )
        self._crashing = Gauge(
            "dpj_consumer_crashing", "1 while a consumer crashes again and again", ["consumer"], registry=registry
        )
        self._known: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self.waiting_now: dict[str, int] = {}

    def finished(self, consumer: str, outcome: str, code: str, seconds: float) -> None:
        # Looking a label up costs more than counting; labels are few.
        known = self._known.get((consumer, outcome, code))
        if known is None:
            known = self._finished.labels(consumer, outcome, code), self._seconds.labels(consumer)
            self._known[consumer, outcome, code] = known
        known[0].inc()
        known[1].observe(seconds)

    def waiting(self, consumer: str, dependency: str, delta: int) -> None:
        self._waiting.labels(consumer, dependency).inc(delta)
        self.waiting_now[dependency] = self.waiting_now.get(dependency, 0) + delta

    def retried(self, consumer: str, code: str) -> None:
        self._retried.labels(consumer, code).inc()

    def crashed(self, consumer: str) -> None:
        self._crashes.labels(consumer).inc()

    def watch(self, consumer: str, is_crashing: Callable[[], bool]) -> None:
        """Show whether a consumer is crashing, asked whenever metrics are read."""
        self._crashes.labels(consumer)
        self._crashing.labels(consumer).set_function(is_crashing)


class RelayMetrics:
    """What the outbox relay says of itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._published = Counter("dpj_outbox_published_total", "Outbox rows published", registry=registry)
        self._refused = Gauge(
            "dpj_outbox_refused", "Outbox rows that Kafka refuses, waiting for an operator", registry=registry
        )
        self._leader = Gauge("dpj_outbox_leader", "1 while this relay leads", registry=registry)

    def published(self, count: int) -> None:
        self._published.inc(count)

    def refused(self, rows: int) -> None:
        self._refused.set(rows)

    def leading(self, *, leader: bool) -> None:
        self._leader.set(int(leader))


class AuditStepMetrics:
    """Whether a step of the audit log stands until an operator has looked; label: step. ``needs_operator``: asked at each scrape."""

    def __init__(self, registry: CollectorRegistry, needs_operator: Mapping[str, Callable[[], bool]]) -> None:
        stopped = Gauge("dpj_audit_stopped", "1 while audit lines wait for an operator", ["step"], registry=registry)
        for step, needs in needs_operator.items():
            stopped.labels(step).set_function(needs)


class WatchdogMetrics:
    """What the stall watchdog says; labels: consumer, topic, partition."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._stalled = Gauge(
            "dpj_stalled",
            "1 while a partition has a lag and no progress",
            ["consumer", "topic", "partition"],
            registry=registry,
        )
        self._restarts = Counter(
            "dpj_watchdog_restarts_total", "Stalled workers restarted", ["consumer"], registry=registry
        )

    def stalled(self, place: tuple[str, str, int], *, stalled: bool) -> None:
        self._stalled.labels(*map(str, place)).set(int(stalled))

    def restarted(self, consumer: str) -> None:
        self._restarts.labels(consumer).inc()


class CircuitMetrics:
    """What the circuit breakers of this process say; label: dependency."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._state = Gauge("dpj_circuit_state", "0 closed, 1 half open, 2 open", ["dependency"], registry=registry)
        self._opened = Counter("dpj_circuit_opened_total", "Times a circuit opened", ["dependency"], registry=registry)

    def known(self, dependency: str) -> None:
        """Show a circuit that has not changed yet."""
        self._state.labels(dependency).set(0)
        self._opened.labels(dependency)

    def changed(self, dependency: str, state: CircuitState, previous: CircuitState) -> None:
        """A probe that fails does not count as another opening."""
        self._state.labels(dependency).set(_CIRCUIT_VALUES[state])
        if previous is CircuitState.CLOSED:
            self._opened.labels(dependency).inc()


class ReconcileMetrics:
    """What the last run of reconciling found; label: fault."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._findings = Gauge("dpj_reconcile_findings", "Faults that the last run left", ["fault"], registry=registry)
        self._repaired = Counter("dpj_reconcile_repaired_total", "Faults repaired", ["fault"], registry=registry)
        self._finished = Gauge(
            "dpj_reconcile_finished_timestamp_seconds", "When the last run looked at everything", registry=registry
        )
        for fault in DiscrepancyKind:
            self._findings.labels(fault.value)
            self._repaired.labels(fault.value)

    def finished(self, report: ReconcileReport) -> None:
        for fault in DiscrepancyKind:
            self._findings.labels(fault.value).set(report.found[fault] - report.repaired[fault])
            self._repaired.labels(fault.value).inc(report.repaired[fault])
        if not report.failed_parts:
            self._finished.set_to_current_time()
