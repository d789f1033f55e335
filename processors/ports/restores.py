"""Restores that are being looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from domain.restores import RestoredStore, RestoreState


class Restores(Protocol):
    """Restores on record in the database. Raises DatabaseUnavailable."""

    async def state(self) -> RestoreState: ...

    async def open(self, store: RestoredStore, by: str, reason: str) -> bool:
        """False if one of that store is open: then it stays, but erasures are to be done again once more."""
        ...

    async def mark_erasures_done(self) -> None:
        """Of all that are open now."""
        ...

    async def close(self, by: str) -> int:
        """End all that are open; gives how many."""
        ...


#: Awaited before something is deleted. Raises RestoreUnderWay where nothing may be now, and whatever keeps that from being known.
MayDelete = Callable[[], Awaitable[None]]


async def unguarded() -> None:
    """Nothing keeps anything from being deleted."""
