"""A claim's lease, renewed while its owner works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, cast

from domain.errors import ClaimLost


class RenewedLease:
    """``async with RenewedLease(renew, every=seconds): ...`` calls ``renew`` as long as the block runs.

    Once that says False, the block is cancelled where it waits, and ClaimLost raised; so it is when the block cancels itself.
    """

    def __init__(self, renew: Callable[[], Awaitable[bool]], *, every: float) -> None:
        self._renew = renew
        self._every: Final = every
        self._lost = False
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancellations = self._task.cancelling()
        # Most blocks end long before their lease must be renewed: a timer costs less than a task.
        self._timer = asyncio.get_running_loop().call_later(self._every, self._begin)

    def _begin(self) -> None:
        self._renewing = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            if not await self._renew():
                self._lost = True
                self._task.cancel()
                return
            await asyncio.sleep(self._every)

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
        cancellations = self._task.uncancel() if self._lost else self._task.cancelling()
        if isinstance(error, asyncio.CancelledError) and cancellations <= self._cancellations:
            raise ClaimLost from error
