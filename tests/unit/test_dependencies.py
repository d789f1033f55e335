"""The watch over dependencies: states, one log line per change, probes of open circuits, and waking who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from domain.errors import GedUnavailable
from processors.resilience.circuit_breakers import BreakerPolicy, CircuitBreaker, CircuitState
from runtime.observability import dependencies
from runtime.observability.dependencies import Dependencies


class Remote:
    """A dependency that is there, or raises what it is told."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.asked = 0
        self.hangs = False

    async def check(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(60)
        if self.fails is not None:
            raise self.fails


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "UNAVAILABLE_SECONDS", 0.01)
    monkeypatch.setattr(dependencies, "AVAILABLE_SECONDS", 0.02)
    monkeypatch.setattr(dependencies, "CHECK_SECONDS", 0.1)


@asynccontextmanager
async def watching(watched: Dependencies) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    run = asyncio.create_task(watched.run(stopping))
    yield
    stopping.set()
    await asyncio.wait_for(run, 1)


async def reaches(watched: Dependencies, name: str, state: str) -> None:
    async with asyncio.timeout(3):
        while watched.states[name] != state:
            await asyncio.sleep(0.005)


async def test_states_follow_the_dependency_with_one_log_line_per_change() -> None:
    remote, watched = Remote(), Dependencies()
    watched.add("postgresql", remote.check)
    assert (watched.states, watched.away, watched.circuits) == ({"postgresql": "unknown"}, ["postgresql"], {})
    remote.fails = OSError("s3cret")
    with capture_logs() as logs:
        async with watching(watched):
            await reaches(watched, "postgresql", "away")
            await asyncio.sleep(0.05)
            remote.fails = None
            await reaches(watched, "postgresql", "ok")
            assert watched.away == []
            remote.fails = GedUnavailable()
            await reaches(watched, "postgresql", "away")
    assert remote.asked >= 5
    assert [(line["event"], line.get("code")) for line in logs] == [
        ("dependency_away", "OSError"),
        ("dependency_back", None),
        ("dependency_away", "ged_unavailable"),
    ]


async def test_what_turns_out_to_be_needed_later_is_watched_too() -> None:
    watched = Dependencies()
    async with watching(watched):
        await asyncio.sleep(0)
        watched.add("ged", Remote().check)
        await reaches(watched, "ged", "ok")


async def test_a_check_that_hangs_counts_as_away_and_does_not_hold_up_the_stop() -> None:
    remote, watched = Remote(), Dependencies()
    remote.hangs = True
    watched.add("postgresql", remote.check)
    async with watching(watched):
        await reaches(watched, "postgresql", "away")


async def test_who_waits_goes_on_when_the_dependency_is_back() -> None:
    remote, watched = Remote(), Dependencies()
    watched.add("postgresql", remote.check)
    remote.fails = OSError()
    loop = asyncio.get_running_loop()
    async with watching(watched):
        await reaches(watched, "postgresql", "away")
        waiting = asyncio.create_task(watched.pause("postgresql", 30))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        remote.fails = None
        await asyncio.wait_for(waiting, 2)
        started = loop.time()
        await watched.pause("postgresql", 0.05)  # it is there: the pause is a pause
        await watched.pause("other_worker", 0.05)  # nobody watches this
        assert loop.time() - started >= 0.099


def guarded(remote: Remote, watched: Dependencies) -> CircuitBreaker:
    breaker = CircuitBreaker(
        GedUnavailable,
        remote.check,
        clock=asyncio.get_running_loop().time,
        policy=BreakerPolicy(failures=1, burst=0, open_first=0.15, open_cap=0.2),
        on_change=watched.breaker_changed,
    )
    watched.add_breaker(breaker)
    return breaker


async def test_an_open_circuit_is_told_at_once_and_probed_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dependencies, "AVAILABLE_SECONDS", 60)
    remote, watched = Remote(), Dependencies()
    breaker = guarded(remote, watched)
    loop = asyncio.get_running_loop()
    async with watching(watched):
        await reaches(watched, "ged", "ok")
        assert watched.circuits == {"ged": "closed"}
        remote.fails = GedUnavailable()
        with pytest.raises(GedUnavailable):
            await breaker.check()
        opened, asked = loop.time(), remote.asked
        await reaches(watched, "ged", "away")
        assert watched.circuits == {"ged": "open"}
        remote.fails = None
        await reaches(watched, "ged", "ok")
        assert loop.time() - opened >= 0.14
        assert remote.asked <= asked + 2
        assert breaker.state is CircuitState.CLOSED


async def test_a_circuit_that_a_call_closes_is_seen_at_once() -> None:
    remote, watched = Remote(), Dependencies()
    breaker = guarded(remote, watched)
    remote.fails = GedUnavailable()
    async with watching(watched):
        await reaches(watched, "ged", "away")
        remote.fails = None
        await breaker.check()
        async with asyncio.timeout(0.1):
            await reaches(watched, "ged", "ok")


async def test_a_breaker_may_change_before_anybody_watches_it() -> None:
    watched = Dependencies()
    breaker = CircuitBreaker(GedUnavailable, Remote().check, clock=lambda: 0.0)
    watched.breaker_changed(breaker, CircuitState.CLOSED)
    assert watched.states == {}


async def test_a_cancellation_is_not_lost_when_the_dependency_comes_back_at_that_moment() -> None:
    remote, watched = Remote(), Dependencies()
    watched.add("ged", remote.check)
    pausing = asyncio.create_task(watched.pause("ged", 60))
    await asyncio.sleep(0)
    watched._note("ged", dependencies.UNAVAILABLE, "x")
    watched._note("ged", dependencies.AVAILABLE, "")
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing


async def test_a_circuit_that_opens_during_the_watch_s_own_look_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "AVAILABLE_SECONDS", 30.0)
    watched, looked, go_on = Dependencies(), asyncio.Event(), asyncio.Event()

    async def check() -> None:
        looked.set()
        await go_on.wait()

    watched.add("ged", check)
    async with watching(watched):
        await asyncio.wait_for(looked.wait(), 1)
        looked.clear()
        watched._changed["ged"].set()
        go_on.set()
        await asyncio.wait_for(looked.wait(), 5)
