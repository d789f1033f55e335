"""What becomes of clamd's answers, of its silences, and of its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antivirus import clamd
from antivirus.clamd import ClamdScanner
from domain.antivirus import ScanResult, ScanVerdict
from domain.errors import AntivirusLimitExceeded, AntivirusUnavailable, ObjectStoreUnavailable
from tests.support.fake_clamd import Session, a_clamd, answering
from tests.support.fakes_content import cut, pieces

CONTENT = bytes(range(256)) * 4096


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (b"stream: OK", ScanVerdict(ScanResult.CLEAN)),
        (b"stream: Win.Test.EICAR_HDB-1 FOUND", ScanVerdict(ScanResult.INFECTED, "Win.Test.EICAR_HDB-1")),
        (b"stream: \x1b[31mB\xffad 'one' FOUND", ScanVerdict(ScanResult.INFECTED, "-31mB-ad-one-")),
        (b"stream: Heuristics.Limits.Exceeded.MaxRecursion FOUND", None),
        (b"stream: Heuristics.Limits.Exceeded.MaxScanSize FOUND", None),
        (b"stream: Heuristics.Encrypted.PDF FOUND", None),
    ],
)
async def test_answers_are_verdicts(tmp_path: Path, reply: bytes, verdict: ScanVerdict | None) -> None:
    async with a_clamd(tmp_path, answering(reply)) as (address, sessions):
        found = await ClamdScanner(address).scan(cut(CONTENT, 300_000))
    assert found == verdict if verdict is not None else found.finding is ScanResult.UNSCANNABLE
    assert bytes(sessions[0].received) == CONTENT
    assert max(sessions[0].pieces) <= clamd.PIECE_BYTES


async def test_an_empty_stream_is_shown_too(tmp_path: Path) -> None:
    async with a_clamd(tmp_path, answering(b"stream: OK")) as (address, _):
        assert (await ClamdScanner(address).scan(pieces())).finding is ScanResult.CLEAN


@pytest.mark.parametrize(
    "reply",
    [
        b"INSTREAM size limit exceeded. ERROR",
        b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND",
        b"stream: Heuristics.Limits.Exceeded.MaxScanTime FOUND",
    ],
)
async def test_its_own_limits_are_no_verdict(tmp_path: Path, reply: bytes) -> None:
    async with a_clamd(tmp_path, answering(reply)) as (address, _):
        with pytest.raises(AntivirusLimitExceeded) as raised:
            await ClamdScanner(address).scan(pieces(CONTENT))
    assert not raised.value.outage


@pytest.mark.parametrize(
    "reply",
    [
        b"stream: Can't allocate memory ERROR",
        b"COMMAND READ TIMED OUT",
        b"",
        b"UNKNOWN COMMAND",
        b"OK",
        b"stream: OK FOUND x",
    ],
)
async def test_any_other_answer_is_no_verdict(tmp_path: Path, reply: bytes) -> None:
    async with a_clamd(tmp_path, answering(reply)) as (address, _):
        with pytest.raises(AntivirusUnavailable):
            await ClamdScanner(address).scan(pieces(CONTENT))


@pytest.mark.parametrize("reply", [b"INSTREAM size limit exceeded. ERROR", b"stream: OK", b"stream: X FOUND"])
async def test_an_answer_before_the_end_is_never_a_verdict(tmp_path: Path, reply: bytes) -> None:
    async def talk(session: Session) -> None:
        await session.command()
        await session.stream(at_most=100_000)
        await session.say(reply)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)
            await asyncio.sleep(0)

    async with a_clamd(tmp_path, talk) as (address, _):
        with pytest.raises(AntivirusUnavailable) as raised:
            await ClamdScanner(address, piece_seconds=2).scan(endless())
    assert isinstance(raised.value, AntivirusLimitExceeded) is (b"limit" in reply)


async def test_away_slow_or_gone_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AntivirusUnavailable):
        await ClamdScanner(f"unix:{tmp_path}/nobody").scan(pieces(CONTENT))

    async def deaf(session: Session) -> None:
        await asyncio.sleep(5)

    async def mute(session: Session) -> None:
        await session.command()
        await session.stream()
        await asyncio.sleep(5)

    async def gone(session: Session) -> None:
        await session.command()

    for number, talk in enumerate((deaf, mute, gone)):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with a_clamd(folder, talk) as (address, sessions):
            scanner = ClamdScanner(address, piece_seconds=0.1, verdict_seconds=0.1)
            with pytest.raises(AntivirusUnavailable):
                await scanner.scan(cut(CONTENT * 8, 1 << 20))
            assert len(sessions) == 1


async def test_what_the_source_raises_comes_through_and_nothing_is_judged(tmp_path: Path) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ObjectStoreUnavailable

    async with a_clamd(tmp_path, answering(b"stream: OK")) as (address, sessions):
        with pytest.raises(ObjectStoreUnavailable):
            await ClamdScanner(address).scan(breaks())
        assert len(sessions) == 1


async def test_only_so_many_at_once_and_none_is_read_before_its_turn(tmp_path: Path) -> None:
    gate = asyncio.Event()
    reading = 0

    async def talk(session: Session) -> None:
        await session.command()
        await session.stream()
        await gate.wait()
        await session.say(b"stream: OK")

    async def content() -> AsyncIterator[bytes]:
        nonlocal reading
        reading += 1
        yield b"x"

    async with a_clamd(tmp_path, talk) as (address, sessions):
        scanner = ClamdScanner(address, connections=2)
        scans = [asyncio.create_task(scanner.scan(content())) for _ in range(5)]
        async with asyncio.timeout(5):
            while len(sessions) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert (len(sessions), reading) == (2, 2)
        gate.set()
        assert [verdict.finding for verdict in await asyncio.gather(*scans)] == [ScanResult.CLEAN] * 5


async def test_the_check_is_a_ping(tmp_path: Path) -> None:
    async def talk(session: Session) -> None:
        assert await session.command() == b"zPING\0"
        await session.say(b"PONG")

    async with a_clamd(tmp_path, talk) as (address, _):
        await ClamdScanner(address).check()
    with pytest.raises(AntivirusUnavailable):
        await ClamdScanner(f"unix:{tmp_path}/nobody").check()
