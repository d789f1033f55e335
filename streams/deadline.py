"""The longest that one try of an event may take. Whatever it waits for has a deadline of its own; this one is for what forgot it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from traceback import walk_tb

import structlog

from domain.errors import WorkStuck

#: Frames that are logged, the innermost last.
FRAMES = 6

log = structlog.get_logger()


@asynccontextmanager
async def deadline(seconds: float, consumer: str) -> AsyncIterator[None]:
    """Cancel the block after ``seconds``, log where it stood, and raise WorkStuck: the event is tried again."""
    try:
        async with asyncio.timeout(seconds) as bound:
            yield
    except TimeoutError as error:
        if not bound.expired():
            raise
        cause = error.__cause__
        log.error("event_stuck", consumer=consumer, where=where(cause))
        raise WorkStuck("Work on this event came to no end in time.") from error


def where(error: BaseException | None) -> list[str]:
    """Modules and lines that an error came through; neither its message nor values, which may be a document's."""
    trace = error.__traceback__ if error else None
    return [f"{frame.f_globals.get('__name__', '?')}:{line}" for frame, line in walk_tb(trace)][-FRAMES:]
