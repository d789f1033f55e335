"""Conditional and range requests on content (RFC 9110, sections 13 and 14): one range, strong entity tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from domain.refusals import RangeNotSatisfiable

_RANGE: Final = re.compile(r"bytes=\s*(\d{0,15})\s*-\s*(\d{0,15})\s*", re.ASCII | re.IGNORECASE)


def is_current(headers: Mapping[str, str], etag: str) -> bool:
    """Whether If-None-Match names what the client has already; the comparison is the weak one, as the RFC wants it."""
    wanted = headers.get("if-none-match")
    if wanted is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in wanted.split(",")]
    return "*" in tags or etag in tags


def requested_span(headers: Mapping[str, str], size: int, etag: str) -> tuple[int, int] | None:
    """Start and end (exclusive) of the range asked for; None for the whole content.

    Several ranges, other units and malformed headers are ignored, as the RFC allows; so is a range whose If-Range is not
    met. Raises RangeNotSatisfiable.
    """
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        return None
    if start >= end:
        raise RangeNotSatisfiable(size)
    return start, end
