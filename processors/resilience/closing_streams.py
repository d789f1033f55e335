"""Streams that are let go of at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def closed(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close a generator when we leave it, read to its end or not, and with it the file or connection under it."""
    try:
        yield stream
    finally:
        aclose = getattr(stream, "aclose", None)
        if aclose is not None:
            await aclose()
