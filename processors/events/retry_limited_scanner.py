"""Documents with which the antivirus has failed: tried again as long as it takes while that may be the antivirus's fault, and not
for ever where it is the document's. Else one file that an engine takes too long for, or dies of, would hold its partition until a
person acts.

A failure counts against a document if the engine had been shown all of it and, just before, had found nothing in as many zero
bytes: so it was there, and neither its settings nor its disk forbid a stream of that length. Suspects are tried one at a time:
one that ends the engine takes no other one with it. Counted in this process; a restart, or another process, begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final
from uuid import UUID

from domain.antivirus import Finding, Verdict
from domain.documents import Document
from domain.errors import AntivirusLimitExceeded, AntivirusUnavailable
from processors.ports.antivirus import Engine
from processors.resilience.closing_streams import closed

#: Failures that count, until the document is unscannable: minutes, at the pace of an event that is held.
TRIES: Final = 5
#: A limit that the engine names needs no more proof than that it is there again.
TRIES_AT_A_LIMIT: Final = 1
#: The oldest of more suspects than these begins anew.
SUSPECTS: Final = 10_000
_PIECE: Final = bytes(1 << 18)


class SuspectsScanner:
    """See ``processors.events.antivirus.Scanner``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._failures: dict[UUID, int] = {}
        self._one_at_a_time = asyncio.Lock()

    async def scan(self, content: AsyncIterable[bytes], document: Document) -> Verdict:
        if document.id not in self._failures:
            return await self._try(content, document.id)
        async with self._one_at_a_time:
            await self._do_well(document.size or 0)
            return await self._try(content, document.id)

    async def _do_well(self, size: int) -> None:
        """Raises AntivirusUnavailable where the engine does not take so many zero bytes, or finds something in them."""
        async with closed(_zeros(size)) as zeros:
            verdict = await self._engine.scan(zeros)
        if verdict.finding is not Finding.CLEAN:
            raise AntivirusUnavailable("The antivirus finds something in nothing.", outage=False)

    async def _try(self, content: AsyncIterable[bytes], document_id: UUID) -> Verdict:
        shown = False

        async def whole() -> AsyncIterator[bytes]:
            nonlocal shown
            async for piece in content:
                yield piece
            shown = True

        try:
            async with closed(whole()) as passing:
                verdict = await self._engine.scan(passing)
        except AntivirusUnavailable as error:
            if shown and self._counted(document_id) >= _enough(error):
                del self._failures[document_id]
                return Verdict(Finding.UNSCANNABLE, error.code)
            raise
        self._failures.pop(document_id, None)
        return verdict

    def _counted(self, document_id: UUID) -> int:
        """Failures that count, with this one; the first makes it a suspect, no more."""
        count = self._failures.pop(document_id, -1) + 1
        if len(self._failures) >= SUSPECTS:
            del self._failures[next(iter(self._failures))]
        self._failures[document_id] = count
        return count


def _enough(error: AntivirusUnavailable) -> int:
    return TRIES_AT_A_LIMIT if isinstance(error, AntivirusLimitExceeded) else TRIES


async def _zeros(size: int) -> AsyncIterator[bytes]:
    for sent in range(0, size, len(_PIECE)):
        yield _PIECE[: size - sent]
