"""What consumes events."""

from __future__ import annotations

from typing import Protocol

from domain.events import Event
from processors.ports.work import Commit


class Processor(Protocol):
    """One consumer group's work. External effects in ``process`` may happen twice after a crash: make them idempotent."""

    @property
    def consumer(self) -> str: ...

    @property
    def handles(self) -> tuple[type[Event], ...]: ...

    async def process(self, event: Event) -> Commit:
        """Do the external effects; return what to write. Raises domain errors; anything else counts as our defect."""
        ...

    async def give_up(self, event: Event, code: str) -> Commit:
        """What to write when the event can't be processed: the document's state has to say so."""
        ...
