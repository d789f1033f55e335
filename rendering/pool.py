"""The worker's side of rendering: a bounded set of child processes that may die at any moment without harm.

A child parses one document at a time, each in a process that it forks for it; it gets the next one when that process has ended and has said
nothing but its answer. It is killed when it takes too long and replaced when it has died, has said what
the protocol has no place for, or has done its share of documents (a decoder's leaks end with it).
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final, TypeVar

import structlog

from domain.errors import RendererUnavailable
from domain.renderings import NoThumbnail, Rendered, Thumbnail
from rendering.confinement import Layer
from rendering.protocol import (
    ABORT,
    LENGTH,
    MARK_BYTES,
    PIECE_BYTES,
    THUMBNAIL_MIME_TYPE,
    VERSION,
    ProtocolViolated,
    check_answer,
    frame,
    frame_length,
    is_webp,
    parse_frame,
)

log = structlog.get_logger()

#: Loading the decoders takes a third of a second; a machine under load takes longer, but not this long.
START_SECONDS: Final = 30.0
#: A killed process is gone at once unless the kernel itself is stuck.
REAP_SECONDS: Final = 5.0
#: A child may take this many times its processor time by the clock: a busy machine says nothing about the document.
CLOCK_FACTOR: Final = 6
_READ_BUFFER: Final = 1 << 16
#: Of a process's memory: what a picture may take. The rest is for the file itself, up to 128 MB, and for the decoders.
PICTURE_SHARE: Final = 5 / 8

_CRASHES: Final = (signal.SIGSEGV, signal.SIGABRT, signal.SIGTRAP, signal.SIGILL, signal.SIGFPE, signal.SIGBUS)
#: What the signal that ended a child says of its document.
_DEATHS: Final[Mapping[int, NoThumbnail]] = {
    signal.SIGXCPU: NoThumbnail.LIMIT_TIME,
    signal.SIGSYS: NoThumbnail.FORBIDDEN_CALL,
    **dict.fromkeys(_CRASHES, NoThumbnail.PARSER_CRASHED),
}

_Heard = TypeVar("_Heard")


class _ChildLost(Exception):
    """The child is gone or can't be trusted any more; ``reason`` is what that says about the document."""

    def __init__(self, reason: NoThumbnail) -> None:
        super().__init__(reason.value)
        self.reason = reason


class _Child:
    """One process and its pipes. ``usable``: a process that has read nothing yet waits for a job, and no other is there."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise RuntimeError("a child has pipes")
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._stderr = process.stderr
        self._reading = asyncio.Lock()
        self.usable = False
        self.retired = False
        self.jobs = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def greet(self) -> frozenset[Layer]:
        """Wait until the child has confined itself and is ready: what confines it. Raises _ChildLost."""
        greeting = await self._read_within(START_SECONDS, self._greeting)
        try:
            held = frozenset(Layer(name) for name in greeting["confinement"])
        except (KeyError, TypeError, ValueError):
            raise _ChildLost(NoThumbnail.CHILD_DIED) from None
        if greeting["ready"] != VERSION:
            raise _ChildLost(NoThumbnail.CHILD_DIED)
        self.usable = True
        return held

    async def send(self, *parts: bytes | memoryview, patience: float) -> None:
        """Write, and wait until the pipe has taken it. Raises _ChildLost, also after ``patience`` seconds of no progress."""
        try:
            for part in parts:
                self._stdin.write(part)
            async with asyncio.timeout(patience):
                await self._stdin.drain()
        except TimeoutError as error:
            raise _ChildLost(NoThumbnail.LIMIT_TIME) from error
        except (ConnectionError, RuntimeError) as error:
            raise _ChildLost(await self._death()) from error

    async def answer(self, patience: float) -> Rendered:
        """The answer to the job that was sent, once the process that gave it has ended. Raises _ChildLost."""
        rendered = await self._read_within(patience, self._answer)
        self.usable = True
        return rendered

    async def aborted(self, patience: float) -> None:
        """Wait until the process has ended whose job was aborted. Raises _ChildLost."""
        await self._read_within(patience, self._mark)
        self.usable = True

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def reap(self) -> None:
        """Collect a killed process and let go of its pipes."""
        try:
            async with asyncio.timeout(REAP_SECONDS):
                self._stdin.close()
                async with self._reading:
                    for pipe in (self._stdout, self._stderr):
                        while await pipe.read(_READ_BUFFER):
                            pass
                await self._process.wait()
        except TimeoutError:
            log.error("render_child_not_reaped", pid=self.pid)

    async def _read_within(self, patience: float, read: Callable[[], Awaitable[_Heard]]) -> _Heard:
        try:
            async with self._reading, asyncio.timeout(patience):
                return await read()
        except TimeoutError as error:
            raise _ChildLost(NoThumbnail.LIMIT_TIME) from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _ChildLost(await self._death()) from error
        except ProtocolViolated as error:
            log.error("render_child_misbehaved", pid=self.pid, what=str(error))
            raise _ChildLost(NoThumbnail.CHILD_DIED) from error

    async def _mark(self) -> None:
        """The child's word that no process is left that had the pipes before, and that nothing of such a one is left in them."""
        mark = await self._stderr.readexactly(MARK_BYTES)
        if await self._stdout.readexactly(MARK_BYTES) != mark:
            raise ProtocolViolated("more than an answer")

    async def _greeting(self) -> dict[str, Any]:
        await self._mark()
        return await self._frame()

    async def _frame(self) -> dict[str, Any]:
        length = frame_length(await self._stdout.readexactly(LENGTH.size))
        return parse_frame(await self._stdout.readexactly(length))

    async def _answer(self) -> Rendered:
        answer = check_answer(await self._frame())
        thumbnails: list[Thumbnail] = []
        for announced in answer.thumbnails:
            data = await self._stdout.readexactly(announced.size)
            if not is_webp(data):
                raise ProtocolViolated("thumbnail is not WebP")
            thumbnails.append(
                Thumbnail(
                    box=announced.box,
                    mime_type=THUMBNAIL_MIME_TYPE,
                    width=announced.width,
                    height=announced.height,
                    data=data,
                )
            )
        await self._mark()
        return Rendered(thumbnails=tuple(thumbnails), metadata=answer.metadata, reason=answer.reason)

    async def _death(self) -> NoThumbnail:
        """What a closed pipe means: out of processor time, a forbidden call, a crash, or killed by somebody else."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._process.wait()
        return _DEATHS.get(-(self._process.returncode or 0), NoThumbnail.CHILD_DIED)


class RenderPool:
    """Renders at most ``children`` documents at a time.

    ``timeout`` is the processor time of one document, in seconds; by the clock it may take ``CLOCK_FACTOR`` times as long, from
    the moment a child has the whole of it. ``memory_bytes`` is the address space a child may have, the document included;
    a picture that would take more than ``picture_bytes`` while it is decoded and made small is not (None: a share of
    ``memory_bytes``); after ``jobs_per_child`` documents a child is replaced. Children start
    when first needed. With ``confined``, a child that has no system call filter over it gets no document.
    """

    #: What the interpreter is given, before the child's three arguments.
    program: ClassVar[tuple[str, ...]] = ("-I", "-m", "rendering.child")

    def __init__(
        self,
        *,
        children: int = 2,
        timeout: float = 20.0,
        memory_bytes: int = 1 << 30,
        picture_bytes: int | None = None,
        jobs_per_child: int = 200,
        confined: bool = False,
        on_lost: Callable[[NoThumbnail], None] = lambda _reason: None,
    ) -> None:
        self._cpu_seconds = math.ceil(timeout)
        self._patience = CLOCK_FACTOR * timeout
        self._memory_bytes = memory_bytes
        self._picture_bytes = int(memory_bytes * PICTURE_SHARE) if picture_bytes is None else picture_bytes
        self._jobs_per_child = jobs_per_child
        self._confined = confined
        self._on_lost = on_lost
        self._held: frozenset[Layer] | None = None
        self._slots = asyncio.Semaphore(children)
        self._starting = asyncio.Lock()
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []
        self._reaping: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the children alive now."""
        return frozenset(child.pid for child in self._children if child.alive)

    @property
    def confinement(self) -> frozenset[Layer] | None:
        """What confines the child that was started last; None before the first one."""
        return self._held

    async def check(self) -> None:
        """Have a child ready. Raises RendererUnavailable if none can be started, or none as confined as it has to be."""
        async with self._slots:
            self._idle.append(await self._take())

    async def render(self, content: AsyncIterable[bytes], mime_type: str) -> Rendered:
        """Thumbnails and facts of one document, or the reason why it has none.

        Nothing is parsed before ``content`` has ended well; what it raises comes through. Raises RendererUnavailable if no
        child can be started or the pool is closed.
        """
        async with self._slots:
            child = await self._take()
            try:
                return await self._job(child, content, mime_type)
            except _ChildLost as lost:
                if self._closed:
                    raise RendererUnavailable from lost
                self._on_lost(lost.reason)
                write_log = log.error if lost.reason is NoThumbnail.FORBIDDEN_CALL else log.warning
                write_log("render_child_lost", pid=child.pid, reason=lost.reason.value, mime_type=mime_type)
                return Rendered(reason=lost.reason)
            finally:
                if child.usable and child.jobs < self._jobs_per_child and not self._closed:
                    self._idle.append(child)
                else:
                    self._retire(child)

    async def aclose(self) -> None:
        """End every child and wait until it is gone; documents under way raise RendererUnavailable."""
        self._closed = True
        async with self._starting:
            for child in list(self._children):
                self._retire(child)
        self._idle.clear()
        while self._reaping:
            await asyncio.gather(*self._reaping)

    async def _job(self, child: _Child, content: AsyncIterable[bytes], mime_type: str) -> Rendered:
        child.usable = False
        child.jobs += 1
        await child.send(frame({"mime_type": mime_type}), patience=self._patience)
        try:
            async for piece in content:
                view = memoryview(piece)
                for offset in range(0, len(view), PIECE_BYTES):
                    part = view[offset : offset + PIECE_BYTES]
                    await child.send(LENGTH.pack(len(part)), part, patience=self._patience)
        except _ChildLost:
            raise
        except Exception:
            with suppress(_ChildLost):
                await child.send(LENGTH.pack(ABORT), patience=self._patience)
                await child.aborted(self._patience)
            raise
        await child.send(LENGTH.pack(0), patience=self._patience)
        return await child.answer(self._patience)

    async def _take(self) -> _Child:
        """A child that waits for a job. Raises RendererUnavailable."""
        if self._closed:
            raise RendererUnavailable
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            self._retire(child)
        child = await self._start()
        try:
            self._note(await child.greet())
        except _ChildLost as lost:
            log.error("render_child_not_started", pid=child.pid, reason=lost.reason.value)
            self._retire(child)
            raise RendererUnavailable from lost
        except BaseException:
            self._retire(child)
            raise
        if self._confined and not self._filtered:
            self._retire(child)
            raise RendererUnavailable("No system call filter can be put over the parsers.")
        return child

    @property
    def _filtered(self) -> bool:
        return self._held is not None and Layer.SECCOMP in self._held

    def _note(self, held: frozenset[Layer]) -> None:
        """Say once what confines the parsers, and again where it changes: a warning where it is not the filter."""
        if held == self._held:
            return
        self._held = held
        layers = sorted(layer.value for layer in held)
        write_log = log.info if self._filtered else log.error if self._confined else log.warning
        write_log("render_confinement", layers=layers, filtered=self._filtered, required=self._confined)

    async def _start(self) -> _Child:
        # An empty environment: what the worker was given (passwords among it) is no business of a decoder.
        limits = (self._memory_bytes, self._picture_bytes, self._cpu_seconds)
        command = (sys.executable, *self.program, *map(str, limits))
        async with self._starting:
            if self._closed:
                raise RendererUnavailable
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    limit=_READ_BUFFER,
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                log.error("render_child_not_started", error=type(error).__name__)
                raise RendererUnavailable from error
            child = _Child(process)
            self._children.add(child)
            return child

    def _retire(self, child: _Child) -> None:
        """Kill a child now and collect it in the background, so that even a cancelled caller leaves nothing behind."""
        if child.retired:
            return
        child.retired = True
        child.usable = False
        child.kill()
        task = asyncio.create_task(self._reap(child))
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    async def _reap(self, child: _Child) -> None:
        await child.reap()
        self._children.discard(child)
