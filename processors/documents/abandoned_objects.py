"""Removing what an upload that was given up has left in the object store."""

from __future__ import annotations

from typing import Protocol

from processors.ports.content import UnfinishedPuts


class Objects(UnfinishedPuts, Protocol):
    async def delete(self, key: str) -> None: ...


class Leftovers:
    """The object of a key, and whatever was begun under it."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def delete(self, object_key: str) -> None:
        """In this order, so that nothing begun can become an object afterwards. Raises ObjectStoreUnavailable."""
        for put in [put async for put in self._objects.unfinished(object_key)]:
            await self._objects.abort(put)
        await self._objects.delete(object_key)
