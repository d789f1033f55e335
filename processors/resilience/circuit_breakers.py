"""Circuit breakers: a dependency that is away is asked by one probe now and then, not by every call.

A breaker stands before one dependency. Its calls pass while it is CLOSED. After several outage-like failures with no
success between them it is OPEN: calls fail at once with the dependency's own transient error, so that whoever called holds
on as ever. Once the open time is over it is HALF_OPEN: one probe, the dependency's own short check, decides; all others
still fail at once. A probe is never somebody's upload, which may last as long as its sender likes.

What counts: a transient error of the dependency's class is a failure, unless it says that it is no outage; a permanent answer
("no such object") proves that somebody answers, and so is a success; cancellation, a stream that its reader left early, and
whatever the caller's own data raise count as neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

import structlog

from domain.errors import DPJError, ErrorKind, Transient
from domain.shared import tracing
from processors.resilience.closing_streams import closing_stream

T = TypeVar("T")

log = structlog.get_logger()


class CircuitState(Enum):
    """Of a breaker; the value is what /readyz says."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """Times in seconds. ``failures`` in a row open the circuit, but not within ``burst`` of the first: one lost request can
    fail many calls at once. The open time grows from ``open_first`` by ``growth`` to ``open_cap``."""

    failures: int = 5
    burst: float = 0.2
    open_first: float = 0.5
    growth: float = 2.0
    open_cap: float = 5.0
    probe: float = 4.0


class CircuitBreaker:
    """Of the dependency that ``unavailable`` is about. ``check`` raises that error if the dependency can't serve;
    ``clock`` gives monotonic seconds; ``on_change`` is told this breaker and its previous state at every change."""

    def __init__(
        self,
        unavailable: type[Transient],
        check: Callable[[], Awaitable[None]],
        *,
        clock: Callable[[], float],
        policy: BreakerPolicy | None = None,
        on_change: Callable[[CircuitBreaker, CircuitState], None] = lambda _breaker, _previous: None,
    ) -> None:
        self.dependency: Final = unavailable.waiting_for
        self._unavailable = unavailable
        self._check = check
        self._clock = clock
        self._policy: Final = policy or BreakerPolicy()
        self._on_change = on_change
        self._state = CircuitState.CLOSED
        self._term = 0
        self._failures = 0
        self._failing_since = 0.0
        self._open_for = 0.0
        self._retry_at = 0.0

    @property
    def state(self) -> CircuitState:
        return self._state

    @property
    def retry_in(self) -> float:
        """Seconds until the next probe may go; 0 while closed."""
        return 0.0 if self._state is CircuitState.CLOSED else max(0.0, self._retry_at - self._clock())

    async def call(self, operation: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """The operation's result. Raises what it raises, or the dependency's transient error at once while open."""
        return await self._counted(operation, arguments, answers=True)

    async def transfer(self, operation: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """As ``call``, for an operation that consumes a stream of ours: what that raises is no answer of the dependency."""
        return await self._counted(operation, arguments, answers=False)

    async def _counted(
        self, operation: Callable[..., Awaitable[T]], arguments: tuple[object, ...], *, answers: bool
    ) -> T:
        with tracing.call(self.dependency, operation):
            term = await self._admit()
            try:
                result = await operation(*arguments)
            except DPJError as error:
                self._judge(term, error, answers=answers)
                raise
            self._succeeded(term)
            return result

    async def stream(
        self, source: Callable[..., AsyncIterator[T]], *arguments: object, **options: object
    ) -> AsyncGenerator[T, None]:
        """What ``source`` gives; it is opened once the first piece is asked for, and closed with us."""
        with tracing.call(self.dependency, source):
            term = await self._admit()
            try:
                async with closing_stream(source(*arguments, **options)) as pieces:
                    async for piece in pieces:
                        yield piece
            except DPJError as error:
                self._judge(term, error, answers=True)
                raise
            self._succeeded(term)

    async def check(self) -> None:
        """The dependency's own check, and its outcome counts: while open it is the probe, due or not.

        Raises the dependency's transient error, also while another probe is under way.
        """
        if self._state is CircuitState.CLOSED:
            await self.call(self._check)
        elif self._state is CircuitState.HALF_OPEN:
            raise self._refusal()
        else:
            await self._probe()

    async def _admit(self) -> int:
        """The term in which the call runs; its outcome counts within that term only."""
        if self._state is not CircuitState.CLOSED:
            if self._state is CircuitState.HALF_OPEN or self._clock() < self._retry_at:
                raise self._refusal()
            await self._probe()
        return self._term

    async def _probe(self) -> None:
        self._become(CircuitState.HALF_OPEN)
        try:
            async with asyncio.timeout(self._policy.probe):
                await self._check()
        except (Transient, TimeoutError):
            self._open()
            raise self._refusal() from None
        except DPJError:
            self._close()  # an answer, if not the one hoped for
        except Exception:
            self._open()
            raise
        except BaseException:
            self._become(CircuitState.OPEN)  # cancelled: nothing is known, and the next one may ask at once
            raise
        else:
            self._close()

    def _judge(self, term: int, error: DPJError, *, answers: bool) -> None:
        if isinstance(error, self._unavailable):
            if error.outage:
                self._failed(term)
        elif answers and error.kind is ErrorKind.PERMANENT:
            self._succeeded(term)

    def _succeeded(self, term: int) -> None:
        if term == self._term:
            self._failures = 0

    def _failed(self, term: int) -> None:
        if term != self._term:
            return  # begun before the circuit opened: old news
        if self._failures == 0:
            self._failing_since = self._clock()
        self._failures += 1
        if self._failures >= self._policy.failures and self._clock() - self._failing_since >= self._policy.burst:
            self._term += 1
            self._open_for = 0.0
            log.warning("circuit_opened", dependency=self.dependency)
            self._open()

    def _open(self) -> None:
        policy = self._policy
        grown = self._open_for * policy.growth if self._open_for else policy.open_first
        self._open_for = min(grown, policy.open_cap)
        self._retry_at = self._clock() + self._open_for
        self._become(CircuitState.OPEN)

    def _close(self) -> None:
        self._failures = 0
        log.info("circuit_closed", dependency=self.dependency)
        self._become(CircuitState.CLOSED)

    def _become(self, state: CircuitState) -> None:
        previous, self._state = self._state, state
        self._on_change(self, previous)

    def _refusal(self) -> Transient:
        return self._unavailable("It did not answer just now; it is asked again within seconds.", outage=False)
