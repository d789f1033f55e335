"""The engine that reads a document for harm."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Protocol

from domain.antivirus import ScanVerdict


class AntivirusEngine(Protocol):
    async def scan(self, content: AsyncIterable[bytes]) -> ScanVerdict:
        """Read ``content`` once, to its end. Raises AntivirusUnavailable, and what ``content`` raises; never skips."""
        ...
