"""Health and metrics of a process that is no HTTP server: /livez, /readyz, /metrics on 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

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

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])
    server = EmbeddedServer(
        uvicorn.Config(
            app,
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
    await serve_until(server, stopping)


async def serve_until(server: EmbeddedServer, stopping: asyncio.Event) -> None:
    """Serve until ``stopping`` is set, or the server gave up."""
    serving = asyncio.create_task(server.serve())
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    server.should_exit = True
    await serving
