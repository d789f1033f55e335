"""Spans of distributed traces, as those know them who make them. Without a tracer in this process nothing is made: one look at None.

Whether a trace is recorded was decided where it began, and stands in the flags of its W3C trace context (``domain.shared.correlation``):
of one that is not recorded no span is made in any process. Names and attributes follow OpenTelemetry's conventions for messaging
(https://opentelemetry.io/docs/specs/semconv/messaging/), HTTP and databases; ours begin with ``dpj.``. Their values are ids, codes and
numbers, never a person's text.

What a span is about never depends on it: a tracer raises nothing, waits for nobody and holds a bounded number of spans.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import TracebackType
from typing import Final, Protocol

from domain.shared.correlation import (
    continue_trace,
    current_traceparent,
    is_recorded,
    is_traceparent,
    trace_id,
    unrecorded,
)

Attributes = Mapping[str, str | int | float | bool]


class SpanKind(Enum):
    """OpenTelemetry's kinds, by their names there."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span(Protocol):
    """Work that is recorded. What is never ended is never exported."""

    @property
    def traceparent(self) -> str:
        """Its context, for what follows from it, in this process or another."""
        ...

    def rename(self, name: str) -> None: ...

    def annotate(self, attributes: Attributes) -> None: ...

    def end(self, error: str | None = None, at: float | None = None) -> None:
        """``error``: the code of what went wrong. ``at``: seconds since the epoch, if not now."""
        ...


class Tracer(Protocol):
    """Makes spans. Raises nothing."""

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        *,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
        at: float | None = None,
    ) -> Span | None:
        """None if the trace is not recorded. ``parent`` and ``links``: trace contexts; without a parent a trace begins, and whether it is
        recorded is decided here. ``at``: when it began, in seconds since the epoch, if not now."""
        ...

    def start_request(self, name: str, caller: str | None) -> Span | None:
        """As ``start`` of kind SERVER, where the parent is a stranger's."""
        ...


_tracer: Tracer | None = None


def install(tracer: Tracer | None) -> None:
    """From now on spans of this process are made by ``tracer``; by nobody with None."""
    global _tracer  # noqa: PLW0603 - one per process, as its log: what makes spans is called from everywhere
    _tracer = tracer


def is_on() -> bool:
    """Whether this process makes spans."""
    return _tracer is not None


def start(
    name: str,
    kind: SpanKind,
    parent: str | None,
    *,
    links: Sequence[str] = (),
    attributes: Attributes | None = None,
    at: float | None = None,
) -> Span | None:
    """See ``Tracer.start``."""
    if _tracer is None or (parent is not None and not is_recorded(parent)):
        return None
    return _tracer.start(name, kind, parent, links=links, attributes=attributes, at=at)


def recorded_trace() -> bytes | None:
    """The id (16 bytes) of the trace that the work in hand is recorded in; None if nobody records it."""
    current = current_traceparent.get() if _tracer is not None else None
    return bytes.fromhex(trace_id(current)) if current is not None and is_recorded(current) else None


def start_request(name: str, received: str | None) -> tuple[Span | None, str]:
    """The span of a caller's request, if it is recorded, and the trace context of the work on it. ``received``: the caller's
    ``traceparent`` header."""
    caller = received if is_traceparent(received) else None
    if _tracer is None:
        return None, continue_trace(caller)
    span = _tracer.start_request(name, caller)
    return (span, span.traceparent) if span is not None else (None, unrecorded(continue_trace(caller)))


def waited(name: str, parent: str, since: float, until: float, attributes: Attributes) -> None:
    """Record a time that something lay waiting, as a span of its own. ``since`` is another machine's clock: it may be ahead of ours."""
    span = start(name, SpanKind.INTERNAL, parent, attributes=attributes, at=min(since, until))
    if span is not None:
        span.end(at=until)


class SpanBlock:
    """A span for the length of a block, which ends with the code of what leaves it. Gives the span, or None where nothing is recorded."""

    __slots__ = ("_span",)

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def __enter__(self) -> Span | None:
        return self._span

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """For whoever can't have a block. That a reader wanted no more of a stream is no error."""
        if self._span is not None:
            self._span.end(None if error is None or isinstance(error, GeneratorExit) else code_of(error))


#: Where nothing is recorded.
NOTHING: Final = SpanBlock(None)


def block(name: str, kind: SpanKind, *, attributes: Attributes | None = None) -> SpanBlock:
    """A block of the work in hand: a child of what ``current_traceparent`` names. Nothing where that names nothing."""
    if _tracer is None:
        return NOTHING
    current = current_traceparent.get()
    if current is None or not is_recorded(current):
        return NOTHING
    return SpanBlock(_tracer.start(name, kind, current, attributes=attributes))


def call(dependency: str, operation: str | Callable[..., object]) -> SpanBlock:
    """A call of a server: ``dependency`` as errors and metrics name it (``Transient.waiting_for``), and what is asked of it."""
    if _tracer is None:
        return NOTHING
    current = current_traceparent.get()
    if current is None or not is_recorded(current):  # before anything is made of it: most work is not recorded
        return NOTHING
    asked = operation if isinstance(operation, str) else getattr(operation, "__name__", "call")
    attributes = {"peer.service": dependency, "dpj.operation": asked}
    return SpanBlock(_tracer.start(f"{dependency} {asked}", SpanKind.CLIENT, current, attributes=attributes))


def detached() -> contextvars.Context | None:
    """For a task that works for many, or for longer than whoever happens to start it: a context that belongs to no trace. None, which
    tasks take for a copy of the present one, where that makes no difference."""
    if _tracer is None or current_traceparent.get() is None:
        return None
    context = contextvars.copy_context()
    context.run(current_traceparent.set, None)
    return context


def code_of(error: BaseException) -> str:
    """An error's stable code, else its class; never its words."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else type(error).__name__
