"""Health and metrics of a process that is no HTTP server, on 127.0.0.1: /livez, /readyz, /metrics; and the API's metrics apart."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

_log = structlog.get_logger()

#: Whether the process does its work now, and its parts' states.
Health = Callable[[], tuple[bool, dict[str, Any]]]


class EmbeddedServer(uvicorn.Server):
    """uvicorn's, but for signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's own business."""
        yield


async def serve_health(
    port: int, registry: CollectorRegistry, health: Health, stopping: asyncio.Event, *, host: str = "127.0.0.1"
) -> None:
    """Serve until ``stopping`` is set; port 0 serves nothing."""
    if port == 0:
        await stopping.wait()
        return

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        ready, states = health()
        return JSONResponse({"ready": ready, **states}, 200 if ready else 503)

    routes = [Route("/livez", livez), Route("/readyz", readyz), _metrics_route(registry)]
    await serve_until(_small_server(routes, host, port), stopping)


async def serve_metrics(host: str, port: int, registry: CollectorRegistry, stopping: asyncio.Event) -> None:
    """Serve /metrics and nothing else until ``stopping`` is set; port 0 serves nothing.

    A process whose work is another does not end for a port that is taken: that is logged, and nothing is served.
    """
    listening = None
    if port:
        try:
            listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            _log.error("metrics_not_served", port=port, error=type(error).__name__)
    if listening is None:
        await stopping.wait()
        return
    await serve_until(_small_server([_metrics_route(registry)], host, port), stopping, [listening])


def _metrics_route(registry: CollectorRegistry) -> Route:
    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", metrics)


def _small_server(routes: list[Route], host: str, port: int) -> EmbeddedServer:
    return EmbeddedServer(
        uvicorn.Config(
            Starlette(routes=routes),
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            loop="none",
            timeout_graceful_shutdown=1,
        )
    )


async def serve_until(
    server: EmbeddedServer, stopping: asyncio.Event, sockets: list[socket.socket] | None = None
) -> None:
    """Serve until ``stopping`` is set, or the server gave up; on ``sockets``, if there are any."""
    serving = asyncio.create_task(server.serve(sockets))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    server.should_exit = True
    await serving
