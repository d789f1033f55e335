"""A span, as whoever takes it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SentSpan:
    """What a collector is told of a span; ids in hex, times in seconds since the epoch."""

    process: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, Any]
    began: float
    ended: float
    failed: bool
