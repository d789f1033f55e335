"""Whether what the API needs is there, for as many as may ask: nobody who asks decides how often dependencies are asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

#: Returns if a dependency can serve, raises otherwise.
Check = Callable[[], Awaitable[None]]

CHECK_SECONDS: Final = 3.0
#: How long what was found is told, in seconds.
KEEP_SECONDS: Final = 1.0

_CLOSED: Final = "closed"

_log = structlog.get_logger()


class Readiness:
    """``checks`` and ``circuits`` (breakers' states) by dependency; ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        circuits: Callable[[], Mapping[str, str]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = checks
        self._circuits = circuits
        self._clock = clock
        self._lock = asyncio.Lock()
        self._found: Mapping[str, bool] | None = None
        self._found_at = 0.0

    async def status(self) -> Mapping[str, bool]:
        """By dependency, whether it can serve, as found at most ``KEEP_SECONDS`` ago. One look at a time: who comes meanwhile
        is told the same. A dependency whose circuit is not closed can't serve, and is not asked: its breaker decides when."""
        async with self._lock:
            if self._found is None or self._clock() - self._found_at >= KEEP_SECONDS:
                circuits = self._circuits()
                outcomes = await asyncio.gather(
                    *(
                        self._passes(name, check, circuits.get(name, _CLOSED) == _CLOSED)
                        for name, check in self._checks.items()
                    )
                )
                self._found = dict(zip(self._checks, outcomes, strict=True))
                self._found_at = self._clock()
            return self._found

    @staticmethod
    async def _passes(name: str, check: Check, may_be_asked: bool) -> bool:
        if not may_be_asked:
            return False
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except Exception as error:  # noqa: BLE001 - whatever a check raises, the dependency is not ready
            _log.debug("not_ready", dependency=name, error=type(error).__name__)
            return False
        return True
