"""A tracer that keeps its spans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from domain.shared import tracing
from domain.shared.correlation import new_traceparent
from domain.shared.tracing import Attributes, SpanKind

RECORDED = f"00-{'a' * 32}-{'b' * 16}-01"
NOT_RECORDED = f"00-{'a' * 32}-{'b' * 16}-00"


@dataclass
class KeptSpan:
    """See ``domain.shared.tracing.Span``. ``ends``: the code of each end, None for a good one."""

    name: str
    kind: SpanKind
    parent: str | None
    links: tuple[str, ...]
    attributes: dict[str, Any]
    at: float | None
    traceparent: str
    ends: list[str | None] = field(default_factory=list)
    ended_at: float | None = None

    def rename(self, name: str) -> None:
        self.name = name

    def annotate(self, attributes: Attributes) -> None:
        self.attributes |= attributes

    def end(self, error: str | None = None, at: float | None = None) -> None:
        self.ends.append(error)
        self.ended_at = at


class KeepingTracer:
    """See ``domain.shared.tracing.Tracer``. Traces that begin here are recorded where ``records`` is true."""

    def __init__(self) -> None:
        self.spans: list[KeptSpan] = []
        self.records = True
        self._numbers = count(1)

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        *,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
        at: float | None = None,
    ) -> KeptSpan | None:
        if parent is None and not self.records:
            return None
        trace = (parent or new_traceparent()).split("-")[1]
        own = f"00-{trace}-{next(self._numbers):016x}-01"
        span = KeptSpan(name, kind, parent, tuple(links), dict(attributes or {}), at, own)
        self.spans.append(span)
        return span

    def start_request(self, name: str, caller: str | None) -> KeptSpan | None:
        return self.start(name, SpanKind.SERVER, caller)

    def named(self, name: str) -> list[KeptSpan]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def kept_spans() -> Iterator[KeepingTracer]:
    """While it lasts, what this process records is kept."""
    tracer = KeepingTracer()
    tracing.install(tracer)
    try:
        yield tracer
    finally:
        tracing.install(None)
