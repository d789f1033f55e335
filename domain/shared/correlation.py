"""The W3C trace context of the work in hand, carried from request to outbox to Kafka header to processor.

Source of the format: https://www.w3.org/TR/trace-context/ (version 00).
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

current_traceparent: ContextVar[str | None] = ContextVar("dpj_traceparent", default=None)


def new_traceparent() -> str:
    """A fresh, sampled trace context."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def continue_trace(received: str | None) -> str:
    """The trace of a received header with a span of our own; a new trace when it is absent or malformed."""
    if received is None or not _TRACEPARENT.fullmatch(received):
        return new_traceparent()
    version, trace_id, _, flags = received.split("-")
    return f"{version}-{trace_id}-{secrets.token_hex(8)}-{flags}"


def trace_id(traceparent: str | None) -> str:
    """The 32 hex digits that name the trace; empty without one."""
    return traceparent.split("-")[1] if traceparent else ""
