"""The antivirus as the integrity step needs it, and what stands in its place where a site has none."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Protocol

from domain.antivirus import Finding, Verdict
from domain.documents import Document


class Scanner(Protocol):
    async def scan(self, content: AsyncIterable[bytes], document: Document) -> Verdict:
        """As an Engine's, of the ``content`` of that document."""
        ...


class NoAntivirus:
    """The switch for sites without one: every document goes through, and its timeline says that nobody looked."""

    async def scan(self, content: AsyncIterable[bytes], document: Document) -> Verdict:  # noqa: ARG002 - the port's
        async for _ in content:
            pass
        return Verdict(Finding.NOT_SCANNED)


class CountedScanner:
    """Tells ``on_verdict`` of every verdict."""

    def __init__(self, scanner: Scanner, on_verdict: Callable[[Verdict], None]) -> None:
        self._scanner = scanner
        self._on_verdict = on_verdict

    async def scan(self, content: AsyncIterable[bytes], document: Document) -> Verdict:
        verdict = await self._scanner.scan(content, document)
        self._on_verdict(verdict)
        return verdict
