"""Whether what a process needs is there: watched in the background, told on /readyz, one log line per change.

The watch is also what probes an open circuit while nobody calls, and what wakes held events as soon as the dependency that
they wait for is back: a held lane goes on within seconds, however long its own pause has grown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog

from domain.errors import DPJError
from domain.shared.tracing import detached
from domain.shared.waiting import pause
from processors.resilience.circuit_breakers import CircuitBreaker, CircuitState
from runtime.config.certificate_errors import certificate_error

log = structlog.get_logger()

CHECK_SECONDS: Final = 5.0
UNAVAILABLE_SECONDS: Final = 1.0
AVAILABLE_SECONDS: Final = 30.0

UNKNOWN, AVAILABLE, UNAVAILABLE = "unknown", "ok", "away"

Check = Callable[[], Awaitable[None]]


class Dependencies:
    """``checks`` by dependency (named as ``Transient.waiting_for``); a check raises if the dependency can't serve. Those
    with a breaker, added by ``add_breaker``, have the breaker's own check here."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._breakers: dict[str, CircuitBreaker] = {}
        self._states: dict[str, str] = {}
        self._away_since: dict[str, datetime] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._recovered: dict[str, asyncio.Event] = {}
        self._watches: list[asyncio.Task[None]] | None = None

    def add(self, name: str, check: Check) -> None:
        """Watch a dependency that has no breaker."""
        self._checks[name] = check
        self._states[name] = UNKNOWN
        self._changed[name] = asyncio.Event()
        self._recovered[name] = asyncio.Event()
        if self._watches is not None:
            self._watches.append(asyncio.create_task(self._watch(name), context=detached()))

    def add_breaker(self, breaker: CircuitBreaker) -> None:
        """Watch a dependency behind its breaker."""
        self._breakers[breaker.dependency] = breaker
        self.add(breaker.dependency, breaker.check)

    def breaker_changed(self, breaker: CircuitBreaker, previous: CircuitState) -> None:
        """What breakers call at a change: a circuit that opens or closes is looked at at once."""
        changed = self._changed.get(breaker.dependency)
        if changed is not None and (previous is CircuitState.CLOSED or breaker.state is CircuitState.CLOSED):
            changed.set()

    @property
    def states(self) -> Mapping[str, str]:
        """``unknown`` (not asked yet), ``ok`` or ``away`` by dependency."""
        return dict(self._states)

    @property
    def away_since(self) -> Mapping[str, str]:
        """When those that are away were found to be, in ISO 8601."""
        return {name: at.isoformat(timespec="seconds") for name, at in self._away_since.items()}

    @property
    def circuits(self) -> Mapping[str, str]:
        """``closed``, ``open`` or ``half_open`` by dependency."""
        return {name: breaker.state.value for name, breaker in self._breakers.items()}

    @property
    def away(self) -> list[str]:
        """Those not known to be there."""
        return [name for name, state in self._states.items() if state != AVAILABLE]

    async def run(self, stopping: asyncio.Event) -> None:
        """Watch until ``stopping`` is set; a check under way is then cut short."""
        self._watches = [asyncio.create_task(self._watch(name)) for name in self._checks]
        await stopping.wait()
        watches, self._watches = self._watches, None
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def pause(self, name: str, seconds: float) -> None:
        """Until ``seconds`` have passed, or the dependency was away and is back."""
        back = self._recovered.get(name)
        if back is None:
            await asyncio.sleep(seconds)
            return
        await pause(back, seconds)

    async def _watch(self, name: str) -> None:
        breaker, changed, seconds = self._breakers.get(name), self._changed[name], 0.0
        while True:
            await pause(changed, seconds)
            changed.clear()  # before looking: what changes meanwhile is looked at next
            if breaker is not None and breaker.retry_in > 0:
                self._note(name, UNAVAILABLE, "circuit_open")
                seconds = breaker.retry_in
            else:
                state, code, certificate = await self._run_check(name)
                self._note(name, state, code, certificate)
                seconds = (
                    AVAILABLE_SECONDS
                    if state == AVAILABLE
                    else (breaker.retry_in if breaker else 0.0) or UNAVAILABLE_SECONDS
                )

    async def _run_check(self, name: str) -> tuple[str, str, str]:
        """State, code, and what is wrong with the server's certificate if that is why."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._checks[name]()
        except DPJError as error:
            return UNAVAILABLE, error.code, certificate_error(error)
        except Exception as error:  # noqa: BLE001 - whatever a check raises, the dependency is not there
            return UNAVAILABLE, type(error).__name__, certificate_error(error)
        return AVAILABLE, "", ""

    def _note(self, name: str, state: str, code: str, certificate: str = "") -> None:
        previous, self._states[name] = self._states[name], state
        if state == previous:
            return
        if state == UNAVAILABLE:
            self._away_since[name] = datetime.now(UTC)
            why = {"certificate": certificate} if certificate else {}
            log.warning("dependency_away", dependency=name, code=code, **why)
        elif previous == UNAVAILABLE:
            self._away_since.pop(name, None)
            log.info("dependency_back", dependency=name)
            # Whoever waits on the old event goes on; whoever comes later waits for the next outage's end.
            back, self._recovered[name] = self._recovered[name], asyncio.Event()
            back.set()
