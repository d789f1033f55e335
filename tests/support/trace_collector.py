"""The real OpenTelemetry Collector, as a stack has it, and what it was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deploy.native import files, site, stack
from deploy.native.launch import Launch
from deploy.native.parts.collector import Collector, spans_file
from deploy.native.report import Silent
from deploy.native.site import StackSite
from deploy.native.supervisor import Supervisor
from tests.support.sent_spans import SentSpan

_ERROR = 2  # STATUS_CODE_ERROR
#: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: enumerations are numbers.
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


class TraceCollector:
    """A collector that runs."""

    def __init__(self, here: StackSite) -> None:
        self.url = Collector().url(here)
        self._file = spans_file(here)

    def content(self) -> bytes:
        """All that was sent, as the collector keeps it."""
        return self._file.read_bytes()

    def spans(self, trace: str) -> list[SentSpan]:
        """Those of one trace, whose id is given in hex."""
        whole = [line for line in self.content().split(b"\n")[:-1] if trace.encode() in line]
        return [span for line in whole for span in _read(json.loads(line)) if span.trace == trace]


@contextmanager
def collecting(name: str) -> Iterator[TraceCollector]:
    """A collector in a stack of that name, which has nothing else."""
    here = site.load_or_create(name, "embedded")
    files.private_folder(files.home() / ".locks")
    stack._assign_ports(here, [], None)
    launch = Launch(here, Supervisor(here.folder), Silent(), [Collector()], frozenset())
    try:
        launch.run()
        yield TraceCollector(here)
    finally:
        launch.undo()


def _read(request: dict[str, Any]) -> Iterator[SentSpan]:
    for resource in request["resourceSpans"]:
        process = str(_attributes(resource["resource"])["service.name"])
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield SentSpan(
                    process=process,
                    name=span["name"],
                    kind=_KINDS[span["kind"]],
                    trace=span["traceId"],
                    id=span["spanId"],
                    parent=span.get("parentSpanId", ""),
                    links=tuple(link["spanId"] for link in span.get("links", ())),
                    attributes=_attributes(span),
                    began=int(span["startTimeUnixNano"]) / 1e9,
                    ended=int(span["endTimeUnixNano"]) / 1e9,
                    failed=span.get("status", {}).get("code") == _ERROR,
                )


def _attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: _value(one["value"]) for one in of.get("attributes", ())}


def _value(value: dict[str, Any]) -> Any:
    ((kind, found),) = value.items()
    return int(found) if kind == "intValue" else found
