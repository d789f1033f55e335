"""A transport whose close comes to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

Bytes = bytes | bytearray | memoryview


class ClosingTransport(asyncio.Transport):
    """``inner``, with a deadline for ``close``: a transport closes once what was written is sent, and who reads nothing
    would keep it open for ever. After ``seconds`` ``expired`` is called, and what is left is thrown away.

    ``lingering`` says for how many seconds a close waits for the client to have sent what it is sending: closed with bytes unread, TCP
    resets the connection, and the client's system may throw the answer away. Our side is ended at once (not over TLS, which can't).
    """

    def __init__(
        self,
        inner: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        expired: Callable[[], None],
        lingering: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__()
        self._inner = inner
        self._loop = loop
        self._seconds = seconds
        self._expired = expired
        self._deadline: asyncio.TimerHandle | None = None
        self._lingering_for = lingering
        self._linger: asyncio.TimerHandle | None = None

    @property
    def lingering(self) -> bool:
        """Closed for whoever writes; what the client sends still comes, to be thrown away."""
        return self._linger is not None and not self._inner.is_closing()

    def close(self) -> None:
        if self._linger is not None or self._inner.is_closing():
            return
        seconds = self._lingering_for()
        if seconds <= 0:
            self.finish()
            return
        self._linger = self._loop.call_later(seconds, self.finish)
        if self._inner.can_write_eof():
            self._inner.write_eof()
        self._inner.resume_reading()

    def finish(self) -> None:
        """Close without waiting for the client."""
        if self._linger is not None:
            self._linger.cancel()
        if self._deadline is None and not self._inner.is_closing():
            self._deadline = self._loop.call_later(self._seconds, self._cut)
        self._inner.close()

    def lost(self) -> None:
        """The connection is gone: nothing is left to wait for."""
        if self._linger is not None:
            self._linger.cancel()
        if self._deadline is not None:
            self._deadline.cancel()

    def abort(self) -> None:
        self._inner.abort()

    def is_closing(self) -> bool:
        return self._linger is not None or self._inner.is_closing()

    def write(self, data: Bytes) -> None:
        if self._linger is None:
            self._inner.write(data)

    def writelines(self, list_of_data: Iterable[Bytes]) -> None:
        if self._linger is None:
            self._inner.writelines(list_of_data)

    def pause_reading(self) -> None:
        if self._linger is None:
            self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    def _cut(self) -> None:
        self._expired()
        self._inner.abort()
