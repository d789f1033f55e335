"""Removing the objects of abandoned uploads."""

from __future__ import annotations

from typing import Protocol

from processors.ports.content import UnfinishedPuts


class AbandonableObjects(UnfinishedPuts, Protocol):
    async def delete(self, key: str) -> None: ...


class AbandonedObjects:
    """The object of a key, and whatever was begun under it."""

    def __init__(self, objects: AbandonableObjects) -> None:
        self._objects = objects

    async def delete(self, object_key: str) -> None:
        """In this order, so that nothing begun can become an object afterwards. Raises ObjectStoreUnavailable."""
        for put in [put async for put in self._objects.unfinished(object_key)]:
            await self._objects.abort(put)
        await self._objects.delete(object_key)
