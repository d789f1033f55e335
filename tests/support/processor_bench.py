"""One processor over a database in memory, run as delivery runs it: its effects first, then its one transaction."""

from __future__ import annotations

from domain.documents import Document
from domain.events import Event
from processors.ports.processor import Processor
from tests.support.memory import MemoryDatabase


class ProcessorBench:
    """A test's own bench adds the processor and what it works on."""

    database: MemoryDatabase
    processor: Processor

    async def run(self, event: Event) -> None:
        commit = await self.processor.process(event)
        async with self.database.transaction() as work:
            await commit(work)

    async def give_up(self, event: Event, code: str) -> None:
        """As delivery does after a permanent failure of this ``code``."""
        commit = await self.processor.give_up(event, code)
        async with self.database.transaction() as work:
            await commit(work)


class DocumentBench(ProcessorBench):
    """The processor changes the state of one document, whose row was ``first``."""

    first: Document

    @property
    def document(self) -> Document:
        """The row as it is now."""
        return self.database.rows.documents[self.first.id]
