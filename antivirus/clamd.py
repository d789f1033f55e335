"""ClamAV's daemon over its socket, command INSTREAM (clamd(8)): the stream goes in pieces, the verdict comes at the end.

What clamd must be set to, or it says OK of what it has not looked at: ``AlertExceedsMax yes``, ``AlertEncrypted yes``, ``StreamMaxLength`` and
``MaxFileSize`` of at least the largest document that any type allows. It keeps the clear stream in ``TemporaryDirectory`` while
it scans: that belongs on a file system in memory.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterable, Awaitable
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

import structlog

from domain.antivirus import ScanResult, ScanVerdict
from domain.errors import AntivirusLimitExceeded, AntivirusUnavailable

log = structlog.get_logger()

CONNECT_SECONDS: Final = 5.0
#: Longest piece in one go: what is on its way to clamd is never more than this and a socket's buffers.
PIECE_BYTES: Final = 1 << 18
REPLY_BYTES: Final = 4096
#: How long an answer may take that clamd gives before it hangs up on us.
FINAL_REPLY_SECONDS: Final = 1.0

_LENGTH: Final = struct.Struct(">I")
_UNIX: Final = "unix:"
_FOUND: Final = re.compile(r"stream: (.+) FOUND")
_UNCLEAN: Final = re.compile(r"[^A-Za-z0-9._:/+-]+")
_SIGNATURE_CHARACTERS: Final = 120
_TOO_LONG: Final = "INSTREAM size limit exceeded"
_LIMITS: Final = "Heuristics.Limits.Exceeded"
_ENCRYPTED: Final = "Heuristics.Encrypted"
#: Limits that say as much of the engine's settings and load as of the document.
_ITS_OWN_LIMITS: Final = (f"{_LIMITS}.MaxFileSize", f"{_LIMITS}.MaxScanTime")

_T = TypeVar("_T")


class ClamdScanner:
    """``address`` is ``host:port`` or ``unix:/path``. ``piece_seconds`` bound each piece, ``verdict_seconds`` the answer once all is
    sent; at most ``connections`` documents are under way at once, further ones wait before they are read."""

    def __init__(
        self, address: str, *, piece_seconds: float = 30.0, verdict_seconds: float = 180.0, connections: int = 8
    ) -> None:
        self._address = address
        self._piece_seconds = piece_seconds
        self._verdict_seconds = verdict_seconds
        self._slots = asyncio.Semaphore(connections)

    async def scan(self, content: AsyncIterable[bytes]) -> ScanVerdict:
        """Show ``content`` to clamd; it is read once, piece by piece, to its end.

        Raises AntivirusUnavailable (away, slow, or it can't answer), AntivirusLimitExceeded, and what ``content`` raises.
        """
        async with self._slots:
            line = await self._connect()
            answer = asyncio.create_task(line.answer())
            try:
                return await self._stream(content, line, answer)
            finally:
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
                line.close()

    async def check(self) -> None:
        """Raise AntivirusUnavailable if clamd does not answer now."""
        line = await self._connect()
        try:
            await self._within(CONNECT_SECONDS, line.send(b"zPING\0"))
            if await self._within(CONNECT_SECONDS, line.answer()) != b"PONG\0":
                raise AntivirusUnavailable("The antivirus does not answer as it should.")
        finally:
            line.close()

    async def _stream(
        self, content: AsyncIterable[bytes], line: _ClamdConnection, answer: asyncio.Task[bytes]
    ) -> ScanVerdict:
        try:
            await self._send(line, b"zINSTREAM\0")
            async for piece in content:
                view = memoryview(piece)
                for offset in range(0, len(view), PIECE_BYTES):
                    part = view[offset : offset + PIECE_BYTES]
                    if answer.done():
                        raise _refusal(await self._within(FINAL_REPLY_SECONDS, answer))
                    await self._send(line, _LENGTH.pack(len(part)), part)
            await self._send(line, _LENGTH.pack(0))
        except _ClosedByClamd:
            raise _refusal(await self._within(FINAL_REPLY_SECONDS, answer)) from None
        return _verdict(await self._within(self._verdict_seconds, answer))

    async def _connect(self) -> _ClamdConnection:
        if self._address.startswith(_UNIX):
            where: tuple[str, int] | str = self._address.removeprefix(_UNIX)
        else:
            host, _, port = self._address.rpartition(":")
            where = (host.strip("[]"), int(port))
        return await self._within(CONNECT_SECONDS, _ClamdConnection.to(where))

    async def _send(self, line: _ClamdConnection, *parts: bytes | memoryview) -> None:
        try:
            async with asyncio.timeout(self._piece_seconds):
                for part in parts:
                    await line.send(part)
        except TimeoutError:
            raise AntivirusUnavailable("The antivirus takes no more of the document.") from None
        except OSError:
            raise _ClosedByClamd from None

    @staticmethod
    async def _within(seconds: float, answer: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except (OSError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
            raise AntivirusUnavailable("The antivirus does not answer.") from None


class _ClamdConnection:
    """A connection as a bare socket. A stream's would be closed at the first piece that clamd does not take any more, and what it
    had said before would never be read."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def to(cls, where: tuple[str, int] | str) -> Self:
        """``where`` is host and port, or the path of a socket. Raises OSError."""
        loop = asyncio.get_running_loop()
        if isinstance(where, str):
            families: list[tuple[int, Any]] = [(socket.AF_UNIX, where)]
        else:
            found = await loop.getaddrinfo(*where, type=socket.SOCK_STREAM)
            families = [(family, address) for family, _, _, _, address in found]
        for number, (family, address) in enumerate(families, 1):
            made = socket.socket(family, socket.SOCK_STREAM)
            made.setblocking(False)  # noqa: FBT003 - its own name for it
            try:
                await loop.sock_connect(made, address)
                return cls(made)
            except BaseException as error:
                made.close()
                if not isinstance(error, OSError) or number == len(families):
                    raise
        raise OSError

    async def send(self, part: bytes | memoryview) -> None:
        """Returns once the kernel has all of it. Raises OSError."""
        await self._loop.sock_sendall(self._socket, part)

    async def answer(self) -> bytes:
        """What clamd says, up to its zero byte. Raises OSError, IncompleteReadError."""
        said = b""
        while not said.endswith(b"\0"):
            piece = await self._loop.sock_recv(self._socket, REPLY_BYTES)
            said += piece
            if not piece or len(said) > REPLY_BYTES:
                raise asyncio.IncompleteReadError(said, None)
        return said

    def close(self) -> None:
        self._socket.close()


class _ClosedByClamd(Exception):
    """clamd closed the connection while we were sending; what it said before tells why."""


def _refusal(reply: bytes) -> AntivirusUnavailable:
    """What an answer means that came before the document's end: never a verdict."""
    with suppress(AntivirusLimitExceeded):
        _verdict(reply)
        return AntivirusUnavailable("The antivirus answered before the document's end.")
    return _limit()


def _verdict(reply: bytes) -> ScanVerdict:
    """Raises AntivirusUnavailable for an answer that is none, AntivirusLimitExceeded."""
    text = reply.rstrip(b"\0\n").decode("utf-8", "replace")
    if text == "stream: OK":
        return ScanVerdict(ScanResult.CLEAN)
    if text.startswith(_TOO_LONG):
        raise _limit()
    found = _FOUND.fullmatch(text)
    if found is None:
        log.error("antivirus_can_not_answer", reply=_clean(text))
        # It says so of this document: another one may well be scanned.
        raise AntivirusUnavailable("The antivirus can't scan now.", outage=False)
    signature = _clean(found[1])
    if signature.startswith(_ITS_OWN_LIMITS):
        raise _limit()
    return ScanVerdict(
        ScanResult.UNSCANNABLE if signature.startswith((_LIMITS, _ENCRYPTED)) else ScanResult.INFECTED, signature
    )


def _limit() -> AntivirusLimitExceeded:
    return AntivirusLimitExceeded("The document is beyond the antivirus's limits.", outage=False)


def _clean(text: str) -> str:
    return _UNCLEAN.sub("-", text)[:_SIGNATURE_CHARACTERS]
