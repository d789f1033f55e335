"""Having something happen at the place that a crash point names, while whoever gets there waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest

Act = Callable[[], Awaitable[None]]

#: Crash point -> the part and its method beside which it stands, and on which side of it.
PLACES: Final = {
    "erasure.claimed": ("objects", "purge", "before"),
    "erasure.objects": ("objects", "purge", "after"),
    "erasure.copies": ("facts", "delete", "before"),
    "erasure.metadata": ("facts", "delete", "after"),
    "erasure.signed": ("signer", "sign", "after"),
    "archiving.locked": ("ged", "find", "before"),
    "archiving.attempted": ("ged", "create", "before"),
    "archiving.created": ("ged", "create", "after"),
    "archiving.compared": ("ged", "read", "after"),
    "archiving.copied": ("copies", "put", "after"),
}


def at(bench: Any, point: str, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    """Await ``act`` once, when the part of ``bench`` that ``point`` stands beside gets there."""
    name, method, side = PLACES[point]
    part = getattr(bench, name)
    original = getattr(part, method)
    due = [act]

    async def once() -> None:
        if due:
            await due.pop()()

    async def called(*given: Any, **named: Any) -> Any:
        if side == "before" and (method != "find" or str(given[0][-1]).endswith(".pdf")):
            await once()
        answer = await original(*given, **named)
        if side == "after":
            await once()
        return answer

    async def streamed(*given: Any, **named: Any) -> AsyncIterator[bytes]:
        async for piece in original(*given, **named):
            yield piece
        await once()

    monkeypatch.setattr(part, method, streamed if method == "read" else called)
