"""Documents that the antivirus fails with come to an end; an antivirus that is away, or too small, condemns none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable

import pytest

from domain.antivirus import ScanResult, ScanVerdict
from domain.documents import Document
from domain.errors import AntivirusLimitExceeded, AntivirusUnavailable, ObjectStoreUnavailable
from processors.events import retry_limited_scanner
from processors.events.retry_limited_scanner import MAX_FAILURES, RetryLimitedScanner
from tests.support.builders import a_document
from tests.support.fakes_content import pieces

CLEAN = ScanVerdict(ScanResult.CLEAN)
HOSTILE, HARMLESS = b"hostile", b"harmless"


class Engine:
    """Fails with what is not of zero bytes as told, after ``reads`` pieces of it."""

    def __init__(self, fails: Callable[[bytes], Exception | None], *, reads: int | None = None) -> None:
        self.fails = fails
        self.reads = reads
        self.seen: list[bytes] = []
        self.under_way = self.most_under_way = 0

    async def scan(self, content: AsyncIterable[bytes]) -> ScanVerdict:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            said, number = b"", 0
            async for piece in content:
                said, number = said + piece, number + 1
                if number == self.reads:
                    break
            await asyncio.sleep(0)
            self.seen.append(said)
            if (error := self.fails(said)) is not None:
                raise error
            return CLEAN
        finally:
            self.under_way -= 1


def fails_with(error: type[AntivirusUnavailable]) -> Callable[[bytes], Exception | None]:
    return lambda said: error() if said == HOSTILE else None


async def scan(scanner: RetryLimitedScanner, document: Document, content: bytes = HOSTILE) -> ScanVerdict:
    return await scanner.scan(pieces(content), document)


def hostile() -> Document:
    return a_document(size=len(HOSTILE))


@pytest.mark.parametrize(
    ("error", "tries", "code"),
    [
        (AntivirusUnavailable, MAX_FAILURES, "antivirus_unavailable"),
        (AntivirusLimitExceeded, 1, "antivirus_limit_exceeded"),
    ],
)
async def test_a_document_that_the_engine_fails_with_each_time_is_unscannable(
    error: type[AntivirusUnavailable], tries: int, code: str
) -> None:
    engine, document = Engine(fails_with(error)), hostile()
    scanner = RetryLimitedScanner(engine)
    for _ in range(tries):
        with pytest.raises(error):
            await scan(scanner, document)
    assert await scan(scanner, document) == ScanVerdict(ScanResult.UNSCANNABLE, code)
    # Before each try that counts the engine did well with as many zeros.
    assert engine.seen == [HOSTILE, *[bytes(len(HOSTILE)), HOSTILE] * tries]
    with pytest.raises(error):
        await scan(scanner, document)  # a verdict ends the count


async def test_an_engine_that_fails_with_zeros_too_condemns_nothing() -> None:
    for error in (AntivirusUnavailable, AntivirusLimitExceeded):
        scanner, document = RetryLimitedScanner(Engine(lambda _, error=error: error())), hostile()
        for _ in range(4 * MAX_FAILURES):
            with pytest.raises(error):
                await scan(scanner, document)


async def test_an_engine_that_finds_something_in_zeros_condemns_nothing() -> None:
    class Odd(Engine):
        async def scan(self, content: AsyncIterable[bytes]) -> ScanVerdict:
            await super().scan(content)
            return ScanVerdict(ScanResult.INFECTED, "Zeros")

    scanner, document = RetryLimitedScanner(Odd(fails_with(AntivirusUnavailable))), hostile()
    for _ in range(4 * MAX_FAILURES):
        with pytest.raises(AntivirusUnavailable):
            await scan(scanner, document)


async def test_a_failure_before_the_documents_end_does_not_count() -> None:
    engine = Engine(lambda said: AntivirusUnavailable() if said and any(said) else None, reads=1)
    scanner, document = RetryLimitedScanner(engine), hostile()
    for _ in range(4 * MAX_FAILURES):
        with pytest.raises(AntivirusUnavailable):
            await scanner.scan(pieces(HOSTILE, b"more"), document)


async def test_what_the_source_raises_does_not_count() -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield HOSTILE
        raise ObjectStoreUnavailable

    scanner, document = RetryLimitedScanner(Engine(fails_with(AntivirusUnavailable))), hostile()
    for _ in range(4 * MAX_FAILURES):
        with pytest.raises(ObjectStoreUnavailable):
            await scanner.scan(breaks(), document)


async def test_one_success_begins_anew_and_documents_count_apart() -> None:
    scanner, document, other = RetryLimitedScanner(Engine(fails_with(AntivirusUnavailable))), hostile(), hostile()
    for _ in range(MAX_FAILURES):
        for one in (document, other):
            with pytest.raises(AntivirusUnavailable):
                await scan(scanner, one)
    assert await scan(scanner, other, HARMLESS) == CLEAN
    assert (await scan(scanner, document)).finding is ScanResult.UNSCANNABLE
    for _ in range(MAX_FAILURES):
        with pytest.raises(AntivirusUnavailable):
            await scan(scanner, other)


async def test_suspects_are_tried_one_at_a_time_and_others_meanwhile() -> None:
    engine = Engine(fails_with(AntivirusUnavailable))
    scanner, documents = RetryLimitedScanner(engine), [hostile() for _ in range(5)]
    first = await asyncio.gather(*(scan(scanner, one) for one in documents), return_exceptions=True)
    assert [type(one) for one in first] == [AntivirusUnavailable] * 5
    assert engine.most_under_way == 5
    engine.most_under_way = 0
    await asyncio.gather(*(scan(scanner, one, HARMLESS) for one in documents))
    assert engine.most_under_way == 1


async def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_limited_scanner, "MAX_TRACKED_DOCUMENTS", 3)
    scanner = RetryLimitedScanner(Engine(fails_with(AntivirusUnavailable)))
    for _ in range(10):
        with pytest.raises(AntivirusUnavailable):
            await scan(scanner, hostile())
    assert len(scanner._failures) == 3
