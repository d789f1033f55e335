"""The antivirus as the integrity step needs it, and what stands in its place where a site has none."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Protocol

from domain.antivirus import ScanResult, ScanVerdict
from domain.documents import Document


class DocumentScanner(Protocol):
    async def scan(self, content: AsyncIterable[bytes], document: Document) -> ScanVerdict:
        """As an Engine's, of the ``content`` of that document."""
        ...


class NoAntivirus:
    """The switch for sites without one: every document goes through, and its timeline says that nobody looked."""

    async def scan(self, content: AsyncIterable[bytes], document: Document) -> ScanVerdict:  # noqa: ARG002 - the port's
        async for _ in content:
            pass
        return ScanVerdict(ScanResult.NOT_SCANNED)


class CountedScanner:
    """Tells ``on_verdict`` of every verdict."""

    def __init__(self, scanner: DocumentScanner, on_verdict: Callable[[ScanVerdict], None]) -> None:
        self._scanner = scanner
        self._on_verdict = on_verdict

    async def scan(self, content: AsyncIterable[bytes], document: Document) -> ScanVerdict:
        verdict = await self._scanner.scan(content, document)
        self._on_verdict(verdict)
        return verdict
