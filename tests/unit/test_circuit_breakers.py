"""Circuit breakers: what counts, when they open, that one probe goes, and how they close."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from domain.errors import GedUnavailable, MailRefused, MailUnavailable, ObjectMissing
from domain.refusals import StateChanged
from processors.resilience.circuit_breakers import BreakerPolicy, CircuitBreaker, CircuitState

POLICY = BreakerPolicy(failures=3, burst=0.2, open_first=0.5, growth=2.0, open_cap=1.5, probe=0.05)


class Bench:
    """A breaker before a dependency that does as it is told; time passes by ``now``."""

    def __init__(self) -> None:
        self.now = 100.0
        self.fails: BaseException | None = None
        self.probe_fails: BaseException | None = None
        self.calls = 0
        self.probes = 0
        self.hold: asyncio.Event | None = None
        self.changes: list[tuple[CircuitState, CircuitState]] = []
        self.breaker = CircuitBreaker(
            MailUnavailable,
            self._check,
            clock=lambda: self.now,
            policy=POLICY,
            on_change=lambda breaker, previous: self.changes.append((previous, breaker.state)),
        )

    def now_is(self, state: CircuitState) -> bool:
        return self.breaker.state is state

    async def _check(self) -> None:
        self.probes += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.probe_fails is not None:
            raise self.probe_fails

    async def send(self, word: str = "x") -> str:
        self.calls += 1
        if self.fails is not None:
            raise self.fails
        return word

    async def pieces(self, count: int) -> AsyncIterator[bytes]:
        self.calls += 1
        for _ in range(count):
            yield b"piece"
        if self.fails is not None:
            raise self.fails

    async def try_call(self) -> str:
        try:
            return await self.breaker.call(self.send)
        except MailUnavailable as error:
            return "refused" if not error.outage else "failed"

    async def open(self) -> None:
        self.fails = MailUnavailable()
        while self.breaker.state is CircuitState.CLOSED:
            await self.try_call()
            self.now += 0.2
        self.now -= 0.2
        self.probe_fails = MailUnavailable()
        self.calls = 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_passes_is_handed_on(bench: Bench) -> None:
    assert await bench.breaker.call(bench.send, "word") == "word"
    assert await bench.breaker.transfer(bench.send, "word") == "word"
    assert [piece async for piece in bench.breaker.stream(lambda: bench.pieces(2))] == [b"piece"] * 2
    assert (bench.breaker.state, bench.breaker.retry_in, bench.changes) == (CircuitState.CLOSED, 0.0, [])


async def test_failures_in_a_row_open_it_and_calls_then_fail_at_once_with_the_same_error(bench: Bench) -> None:
    bench.fails = MailUnavailable()
    for _ in range(3):
        assert await bench.try_call() == "failed"
        bench.now += 0.15
    assert bench.now_is(CircuitState.OPEN)
    assert bench.changes == [(CircuitState.CLOSED, CircuitState.OPEN)]
    assert await bench.try_call() == "refused"
    with pytest.raises(MailUnavailable):
        await bench.breaker.transfer(bench.send)
    with pytest.raises(MailUnavailable):
        async for _ in bench.breaker.stream(lambda: bench.pieces(1)):
            pass
    assert (bench.calls, bench.probes) == (3, 0)


async def test_many_failures_at_one_moment_are_one_incident(bench: Bench) -> None:
    bench.fails = MailUnavailable()
    for _ in range(10):
        await bench.try_call()
    assert bench.now_is(CircuitState.CLOSED)
    bench.now += 0.2
    await bench.try_call()
    assert bench.now_is(CircuitState.OPEN)


@pytest.mark.parametrize("answer", [None, MailRefused(), ObjectMissing()])
async def test_an_answer_between_failures_keeps_it_closed(bench: Bench, answer: Exception | None) -> None:
    for _ in range(8):
        bench.fails = MailUnavailable()
        await bench.try_call()
        await bench.try_call()
        bench.now += 1
        bench.fails = answer
        with suppress(MailRefused, ObjectMissing):
            await bench.breaker.call(bench.send)
    assert bench.changes == []


@pytest.mark.parametrize(
    "neither",
    [MailUnavailable(outage=False), GedUnavailable(), StateChanged(), RuntimeError(), asyncio.CancelledError()],
)
async def test_what_says_nothing_of_the_dependency_counts_as_neither(bench: Bench, neither: BaseException) -> None:
    for failure in (MailUnavailable(), MailUnavailable(), neither):
        for call in (bench.breaker.call, bench.breaker.transfer):
            bench.fails = failure
            if call == bench.breaker.transfer and isinstance(failure, MailUnavailable) and failure.outage:
                continue
            with pytest.raises(type(failure)):
                await call(bench.send)
        bench.now += 1
    assert bench.now_is(CircuitState.CLOSED)
    bench.fails = MailUnavailable()
    await bench.try_call()
    assert bench.now_is(CircuitState.OPEN)  # the third failure: the two before were not forgotten


async def test_what_the_callers_own_stream_raises_is_no_answer(bench: Bench) -> None:
    bench.fails = MailUnavailable()
    await bench.try_call()
    await bench.try_call()
    bench.now += 1
    bench.fails = ObjectMissing()
    with pytest.raises(ObjectMissing):
        await bench.breaker.transfer(bench.send)
    bench.fails = MailUnavailable()
    with pytest.raises(MailUnavailable):
        await bench.breaker.transfer(bench.send)
    assert bench.now_is(CircuitState.OPEN)


async def test_a_stream_counts_once_at_its_end_and_not_at_all_if_its_reader_leaves(bench: Bench) -> None:
    bench.fails = MailUnavailable()
    for _ in range(5):
        reading = bench.breaker.stream(lambda: bench.pieces(2))
        assert await anext(reading) == b"piece"
        await reading.aclose()
        bench.now += 1
    assert bench.now_is(CircuitState.CLOSED)
    for _ in range(3):
        with pytest.raises(MailUnavailable):
            assert [piece async for piece in bench.breaker.stream(lambda: bench.pieces(1))]
        bench.now += 1
    assert bench.now_is(CircuitState.OPEN)


async def test_one_probe_goes_once_the_time_is_over_and_its_success_lets_all_through(bench: Bench) -> None:
    await bench.open()
    assert bench.breaker.retry_in == pytest.approx(0.5)
    bench.now += 0.5
    bench.fails = bench.probe_fails = None
    bench.hold = asyncio.Event()
    first = asyncio.create_task(bench.try_call())
    await asyncio.sleep(0)
    assert bench.now_is(CircuitState.HALF_OPEN)
    assert [await bench.try_call() for _ in range(3)] == ["refused"] * 3
    with pytest.raises(MailUnavailable):
        await bench.breaker.check()
    bench.hold.set()
    assert await first == "x"
    assert (bench.probes, bench.calls) == (1, 1)
    assert await bench.try_call() == "x"
    assert bench.changes[1:] == [
        (CircuitState.OPEN, CircuitState.HALF_OPEN),
        (CircuitState.HALF_OPEN, CircuitState.CLOSED),
    ]


async def test_the_open_time_grows_to_its_cap_and_begins_anew_after_a_recovery(bench: Bench) -> None:
    await bench.open()
    seen = []
    for _ in range(4):
        seen.append(round(bench.breaker.retry_in, 3))
        bench.now += bench.breaker.retry_in
        assert await bench.try_call() == "refused"
    assert seen == [0.5, 1.0, 1.5, 1.5]
    assert (bench.probes, bench.calls) == (4, 0)
    bench.probe_fails = None
    await bench.breaker.check()  # not due, but asked for
    assert bench.now_is(CircuitState.CLOSED)
    await bench.open()
    assert bench.breaker.retry_in == pytest.approx(0.5)


async def test_a_probe_that_hangs_counts_as_failed(bench: Bench) -> None:
    await bench.open()
    bench.hold = asyncio.Event()
    with pytest.raises(MailUnavailable):
        await bench.breaker.check()
    assert bench.breaker.retry_in == pytest.approx(1.0)


async def test_a_probe_that_is_cancelled_leaves_the_next_one_free_to_ask(bench: Bench) -> None:
    await bench.open()
    bench.now += 0.5
    bench.hold = asyncio.Event()
    probing = asyncio.create_task(bench.try_call())
    await asyncio.sleep(0)
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert (bench.breaker.state, bench.breaker.retry_in) == (CircuitState.OPEN, 0.0)
    bench.hold = bench.fails = bench.probe_fails = None
    assert await bench.try_call() == "x"


async def test_a_probes_permanent_answer_proves_life_and_a_defect_of_ours_does_not(bench: Bench) -> None:
    await bench.open()
    bench.probe_fails = RuntimeError("defect")
    with pytest.raises(RuntimeError):
        await bench.breaker.check()
    assert bench.breaker.retry_in == pytest.approx(1.0)
    bench.probe_fails = MailRefused()
    await bench.breaker.check()
    assert bench.now_is(CircuitState.CLOSED)


async def test_what_began_before_it_opened_says_nothing_about_now(bench: Bench) -> None:
    release = asyncio.Event()
    outcomes: list[Exception | None] = [None, MailUnavailable()]

    async def slow(outcome: Exception | None) -> None:
        await release.wait()
        if outcome is not None:
            raise outcome

    begun = [asyncio.create_task(bench.breaker.call(slow, outcome)) for outcome in outcomes]
    await asyncio.sleep(0)
    await bench.open()
    release.set()
    await asyncio.gather(*begun, return_exceptions=True)
    assert bench.now_is(CircuitState.OPEN)
    assert bench.breaker.retry_in == pytest.approx(0.5)


async def test_the_check_of_a_closed_circuit_counts_as_a_call(bench: Bench) -> None:
    bench.probe_fails = MailUnavailable()
    for _ in range(3):
        with pytest.raises(MailUnavailable):
            await bench.breaker.check()
        bench.now += 0.2
    assert (bench.breaker.state, bench.probes) == (CircuitState.OPEN, 3)


def test_by_default_nobody_is_told() -> None:
    breaker = CircuitBreaker(
        MailUnavailable, Bench()._check, clock=lambda: 0.0, policy=BreakerPolicy(failures=1, burst=0)
    )
    asyncio.run(_fail(breaker))
    assert breaker.state is CircuitState.OPEN
    assert breaker.dependency == "smtp"


async def _fail(breaker: CircuitBreaker) -> None:
    async def fails() -> None:
        raise MailUnavailable

    with pytest.raises(MailUnavailable):
        await breaker.call(fails)
