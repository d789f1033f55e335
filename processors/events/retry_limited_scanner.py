"""Limits how often a document is scanned with which the antivirus fails: no limit while that may be the antivirus's fault, one
where it is the document's. Else one file that an engine takes too long for, or dies of, would hold its partition until a
person acts.

A failure counts against a document if the engine had been shown all of it and, just before, had found nothing in as many zero
bytes: so it was there, and neither its settings nor its disk forbid a stream of that length. Documents that failed are scanned one at a time:
one that ends the engine takes no other one with it. Counted in this process; a restart, or another process, begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final
from uuid import UUID

from domain.antivirus import ScanResult, ScanVerdict
from domain.documents import Document
from domain.errors import AntivirusLimitExceeded, AntivirusUnavailable
from processors.ports.antivirus import AntivirusEngine
from processors.resilience.closing_streams import closing_stream

#: Failures that count, until the document is unscannable: minutes, at the pace of an event that is held.
MAX_FAILURES: Final = 5
#: A limit that the engine names needs no more proof than that it is there again.
MAX_FAILURES_AT_LIMIT: Final = 1
#: Documents whose failures are counted; with more, the oldest begins anew.
MAX_TRACKED_DOCUMENTS: Final = 10_000
_PIECE: Final = bytes(1 << 18)


class RetryLimitedScanner:
    """See ``processors.events.antivirus.DocumentScanner``."""

    def __init__(self, engine: AntivirusEngine) -> None:
        self._engine = engine
        self._failures: dict[UUID, int] = {}
        self._retry_lock = asyncio.Lock()

    async def scan(self, content: AsyncIterable[bytes], document: Document) -> ScanVerdict:
        if document.id not in self._failures:
            return await self._scan_once(content, document.id)
        async with self._retry_lock:
            await self._probe_engine(document.size or 0)
            return await self._scan_once(content, document.id)

    async def _probe_engine(self, size: int) -> None:
        """Raises AntivirusUnavailable where the engine does not take so many zero bytes, or finds something in them."""
        async with closing_stream(_zeros(size)) as zeros:
            verdict = await self._engine.scan(zeros)
        if verdict.finding is not ScanResult.CLEAN:
            raise AntivirusUnavailable("The antivirus finds something in nothing.", outage=False)

    async def _scan_once(self, content: AsyncIterable[bytes], document_id: UUID) -> ScanVerdict:
        shown = False

        async def whole() -> AsyncIterator[bytes]:
            nonlocal shown
            async for piece in content:
                yield piece
            shown = True

        try:
            async with closing_stream(whole()) as passing:
                verdict = await self._engine.scan(passing)
        except AntivirusUnavailable as error:
            if shown and self._count_failure(document_id) >= _allowed_failures(error):
                del self._failures[document_id]
                return ScanVerdict(ScanResult.UNSCANNABLE, error.code)
            raise
        self._failures.pop(document_id, None)
        return verdict

    def _count_failure(self, document_id: UUID) -> int:
        """Failures that count, with this one; the first only begins the count."""
        count = self._failures.pop(document_id, -1) + 1
        if len(self._failures) >= MAX_TRACKED_DOCUMENTS:
            del self._failures[next(iter(self._failures))]
        self._failures[document_id] = count
        return count


def _allowed_failures(error: AntivirusUnavailable) -> int:
    return MAX_FAILURES_AT_LIMIT if isinstance(error, AntivirusLimitExceeded) else MAX_FAILURES


async def _zeros(size: int) -> AsyncIterator[bytes]:
    for sent in range(0, size, len(_PIECE)):
        yield _PIECE[: size - sent]
