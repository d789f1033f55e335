"""Pauses of consumers inside a transaction; part of ``processors.ports.work.Work``."""

from __future__ import annotations

from typing import Protocol

from domain.pauses import Pause


class Pauses(Protocol):
    """Consumers that an operator has paused, each until a time."""

    async def pause(self, pause: Pause) -> bool:
        """Put a pause on record; False if the consumer is paused already."""
        ...

    async def resume(self, consumer: str, actor: str) -> Pause | None:
        """End a pause before its time; None if there is none."""
        ...
