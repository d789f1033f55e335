"""What the API says of itself. Labels are route templates, methods, statuses and codes: never an id."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_METHODS: Final = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})


class ApiMetrics:
    """Requests, their duration, errors by code, bytes taken in, requests under way."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "dpj_http_requests_total", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "dpj_http_request_seconds",
            "Seconds from a request's head to the end of its answer",
            ["route", "method"],
            buckets=SECONDS,
            registry=registry,
        )
        self._problems = Counter("dpj_http_problems_total", "Problem answers", ["route", "code"], registry=registry)
        self._in_flight = Gauge("dpj_http_in_flight", "Requests under way", registry=registry)
        self._uploaded = Counter("dpj_upload_bytes_total", "Clear bytes of documents taken in", registry=registry)
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def begun(self) -> None:
        self._in_flight.inc()

    def finished(self, route: str, method: str, status: int, seconds: float, code: str | None) -> None:
        label = method if method in _METHODS else "OTHER"
        self._in_flight.dec()
        # Looking a label up costs more than counting; labels are few.
        known = self._known.get((route, label, status))
        if known is None:
            known = self._requests.labels(route, label, str(status)), self._seconds.labels(route, label)
            self._known[route, label, status] = known
        known[0].inc()
        known[1].observe(seconds)
        if code:
            self._problems.labels(route, code).inc()

    def uploaded(self, size: int) -> None:
        self._uploaded.inc(size)
