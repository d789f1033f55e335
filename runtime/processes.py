"""The processes of the pipeline: API, relay, workers. Each runs until SIGTERM or SIGINT and serves its health beside its work."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from domain.errors import DPJError
from operations.consumers import CONSUMERS
from runtime.health import serve_health
from runtime.settings import Settings
from runtime.telemetry import configure_logging
from runtime.wiring import Site
from streams.waiting import pause

log = structlog.get_logger()

SWEEP_SECONDS: Final = 15.0
PRUNE_SECONDS: Final = 3600.0
DRAIN_SECONDS: Final = 20
RETRY_SECONDS: Final = 1.0


def run_api(settings: Settings) -> None:
    """Serve the HTTP API."""
    import uvicorn

    from ingest_api.app import create_app

    configure_logging("api", log_format=settings.log_format, level=settings.log_level)

    async def main() -> None:
        site = Site(settings)
        loading = asyncio.create_task(_load_codec(site))
        try:
            server = uvicorn.Server(
                uvicorn.Config(
                    create_app(site.api()),
                    host=settings.api_host,
                    port=settings.api_port,
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    limit_concurrency=settings.api_connections,
                    timeout_graceful_shutdown=DRAIN_SECONDS,
                )
            )
            await server.serve()
        finally:
            loading.cancel()
            await site.aclose()

    import uvloop

    uvloop.run(main())


async def _load_codec(site: Site) -> None:
    """Load the event schemas, however long the registry is away; until then uploads are answered 503."""
    while True:
        try:
            await site.codec.check()
            return
        except DPJError as error:
            log.warning("waiting_for_schemas", code=error.code)
            await asyncio.sleep(RETRY_SECONDS)


def run_relay(settings: Settings) -> None:
    """Publish the outbox, and tidy up: abandoned uploads, inbox rows and idempotency keys past their time."""
    configure_logging("relay", log_format=settings.log_format, level=settings.log_level)

    async def work(site: Site, stopping: asyncio.Event) -> None:
        relay = site.relay()
        await _together(
            stopping,
            relay.run(stopping),
            _repeat(stopping, "sweep", SWEEP_SECONDS, site.sweep().run_once),
            _repeat(stopping, "prune", PRUNE_SECONDS, site.housekeeping().run_once),
            serve_health(
                settings.worker_port_base,
                site.metrics,
                lambda: (relay.state in {"leading", "standby"}, {"relay": relay.state}),
                stopping,
            ),
        )

    asyncio.run(_process(settings, work))


def run_worker(settings: Settings, names: Sequence[str]) -> None:
    """Run the consumers ``names`` of ``operations.consumers``."""
    configure_logging(f"worker-{'-'.join(names)}", log_format=settings.log_format, level=settings.log_level)

    async def work(site: Site, stopping: asyncio.Event) -> None:
        with tempfile.TemporaryDirectory(prefix="dpj-faust-") as scratch:
            runners = {name: site.consumer(name, scratch) for name in names}
            audit = {"chain": site.audit_chainer(), "flush": site.audit_flusher()} if "audit" in runners else {}

            def health() -> tuple[bool, dict[str, Any]]:
                states = {name: runner.state for name, runner in runners.items()}
                ready = all(state == "running" for state in states.values())
                waiting = {name: count for name, count in site.delivery_metrics.waiting_now.items() if count}
                for step, mover in audit.items():
                    if mover.waiting_for:
                        waiting[f"audit {step}: {mover.waiting_for}"] = 1
                return ready, {"consumers": states, "waiting_for": waiting}

            jobs: list[Awaitable[None]] = [runner.run(stopping) for runner in runners.values()]
            jobs += [mover.run(stopping) for mover in audit.values()]
            port = settings.worker_port_base and settings.worker_port_base + 1 + CONSUMERS.index(names[0])
            await _together(stopping, *jobs, serve_health(port, site.metrics, health, stopping))

    asyncio.run(_process(settings, work))


async def _process(settings: Settings, work: Callable[[Site, asyncio.Event], Awaitable[None]]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    site = Site(settings)
    try:
        await work(site, stopping)
    finally:
        await site.aclose()
    log.info("stopped")


async def _together(stopping: asyncio.Event, *jobs: Awaitable[None]) -> None:
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


async def _repeat(stopping: asyncio.Event, name: str, seconds: float, job: Callable[[], Awaitable[object]]) -> None:
    """Call ``job`` every ``seconds``; what is away now is tried again at the next turn."""
    while not stopping.is_set():
        try:
            await job()
        except DPJError as error:
            log.warning("housekeeping_waiting", job=name, code=error.code)
        await pause(stopping, seconds)
