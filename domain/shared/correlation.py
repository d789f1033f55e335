"""The W3C trace context of the work in hand, carried from request to outbox to Kafka header to processor.

Source of the format: https://www.w3.org/TR/trace-context/ (version 00).
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from typing import Final, TypeGuard

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

#: The flag of a trace that is recorded, in the last digit of the flags.
_RECORDED: Final = frozenset("13579bdf")

current_traceparent: ContextVar[str | None] = ContextVar("dpj_traceparent", default=None)


def new_traceparent() -> str:
    """A fresh trace context. Nobody has recorded anything of it."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def continue_trace(received: str | None) -> str:
    """The trace of a received header with a span of our own; a new trace when it is absent or malformed."""
    if not is_traceparent(received):
        return new_traceparent()
    version, trace_id, _, flags = received.split("-")
    return f"{version}-{trace_id}-{secrets.token_hex(8)}-{flags}"


def trace_id(traceparent: str | None) -> str:
    """The 32 hex digits that name the trace; empty without one."""
    return traceparent.split("-")[1] if traceparent else ""


def is_traceparent(received: str | None) -> TypeGuard[str]:
    """Whether a header is a trace context of the version that we know."""
    return received is not None and _TRACEPARENT.fullmatch(received) is not None


def is_recorded(traceparent: str) -> bool:
    """Whether whoever began the trace decided that it is recorded."""
    return traceparent[-1] in _RECORDED


def unrecorded(traceparent: str) -> str:
    """The same context in a trace that is not recorded."""
    return f"{traceparent[:-2]}00"
