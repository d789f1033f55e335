"""A process from its start to its end: signals, jobs side by side, an end within a deadline whatever hangs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import uvloop

from domain.errors import DPJError
from domain.shared import tracing
from domain.shared.waiting import until_stopped
from runtime.config.settings import Settings
from runtime.errors import CommandFailed
from runtime.wiring.site import Site

log = structlog.get_logger()

#: What closing connections may take after the drain; then the process ends as it is, which every part of it survives.
CLOSE_SECONDS: Final = 4.0
#: Objects more than before, then rounds, after which each generation is looked through.
GC_THRESHOLDS: Final = (20_000, 20, 20)

Work = Callable[[Site, asyncio.Event], Awaitable[None]]


def run_process(settings: Settings, work: Work, *, traced_as: str | None = None) -> None:
    """Run ``work`` until SIGTERM or SIGINT sets its event, then leave. Does not return when it ended in good order.

    ``traced_as``: what the process is called in traces, if it makes spans. Raises CommandFailed if it is to and can't."""
    if traced_as is not None and settings.tracing_endpoint:
        _make_spans(settings, traced_as)
    uvloop.run(_process(settings, work))


def _make_spans(settings: Settings, process: str) -> None:
    try:
        from runtime.observability.tracing import install
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise CommandFailed(
            "DPJ_TRACING_ENDPOINT is set, and OpenTelemetry is not installed.",
            "Install dpj-documents[tracing], or take the setting away.",
            code="tracing_not_installed",
        ) from None
    install(settings, process)


def tune_garbage_collector() -> None:
    """Call when all is wired; the collector may be off until then. What is there now stays, so the collector need not look at it again
    (of some 100,000 objects not 2,000 are garbage, too few to look for); nor so often at what comes and goes: requests and events
    leave few cycles, and looking for those took half of a worker's time."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


async def run_all(stopping: asyncio.Event, *jobs: Awaitable[None]) -> None:
    """Run ``jobs`` until all end. One that fails stops the others, and then the process: its supervisor starts it again."""

    async def watched(job: Awaitable[None]) -> None:
        try:
            await job
        except Exception as error:
            log.error("process_failed", error=type(error).__name__)
            raise
        finally:
            stopping.set()

    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(watched(job))


async def repeat(stopping: asyncio.Event, name: str, seconds: float, job: Callable[[], Awaitable[object]]) -> None:
    """Call ``job`` every ``seconds``; what is away now is tried again at the next turn, and told once."""
    reported_code = ""

    async def turn() -> float:
        nonlocal reported_code
        try:
            await job()
            reported_code = ""
        except DPJError as error:
            if error.code != reported_code:
                reported_code = error.code
                log.warning("housekeeping_waiting", job=name, code=error.code)
        except Exception as error:  # noqa: BLE001 - a defect in one job must not end the process that does others too
            log.error("housekeeping_failed", job=name, error=type(error).__name__)
        return seconds

    await until_stopped(stopping, turn)


async def _process(settings: Settings, work: Work) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    last_resort = threading.Timer(settings.drain_seconds + CLOSE_SECONDS, _force)
    last_resort.daemon = True

    async def end_in_time() -> None:
        await stopping.wait()  # whoever set it: a signal, or a job that failed
        last_resort.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    ending = asyncio.create_task(end_in_time())
    site = Site(settings)
    try:
        await work(site, stopping)
    finally:
        await site.aclose()
        if tracing.is_on():
            from runtime.observability.tracing import close

            await close()
        ending.cancel()
    log.info("stopped")
    # Not by returning: the interpreter would wait for threads of vendors' clients that may hang in a call for half a minute.
    _leave(os.EX_OK)


def _force() -> None:
    log.error("stop_forced")
    _leave(os.EX_SOFTWARE)


def _leave(status: int) -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
