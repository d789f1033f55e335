"""Events that are held for long: operators see them, and may order one to be given up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Protocol
from uuid import UUID

import structlog

from domain.dead_letters import HeldEvent
from domain.errors import DPJError

#: An event is noted once it was held for so long, and then at most as often.
NOTE_SECONDS: Final = 5.0


log = structlog.get_logger()


class HeldEventList(Protocol):
    """The list of held events. Raises DatabaseUnavailable."""

    async def note(self, held: HeldEvent) -> bool:
        """Put the event on the list, or bring its entry up to date; whether an operator ordered it to be given up."""
        ...

    async def forget(self, consumer: str, event_id: UUID) -> None:
        """Take the event off the list."""
        ...


class NoHeldEventList:
    """No list: nothing is noted, nobody orders."""

    async def note(self, held: HeldEvent) -> bool:  # noqa: ARG002 - a list that forgets at once
        return False

    async def forget(self, consumer: str, event_id: UUID) -> None: ...


class HeldEventEntry:
    """One event's entry on the list, as long as a worker has the event."""

    def __init__(self, held: HeldEventList, *, every: float = NOTE_SECONDS) -> None:
        self._held = held
        self._every: Final = every
        self._due = asyncio.get_running_loop().time() + every
        self._noted: HeldEvent | None = None

    async def ordered(self, event: HeldEvent) -> bool:
        """Note the event if it is time; whether it is to be given up. The list being away changes nothing."""
        now = asyncio.get_running_loop().time()
        if now < self._due:
            return False
        self._due = now + self._every
        self._noted = event
        try:
            return await self._held.note(event)
        except DPJError:
            return False
        except Exception as error:  # noqa: BLE001 - whatever ails the list, the event is worked on
            log.error("held_event_not_noted", consumer=event.consumer, error=type(error).__name__)
            return False

    async def forget(self) -> None:
        """The event is finished. An entry that can't be removed now grows old and leaves the list by itself."""
        if self._noted is not None:
            with suppress(Exception):
                await self._held.forget(self._noted.consumer, self._noted.event_id)
