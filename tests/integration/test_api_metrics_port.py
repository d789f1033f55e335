"""The API's metrics on a port of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import structlog
from prometheus_client import CollectorRegistry, Counter

from runtime.observability.health import serve_metrics
from tests.support.api_processes import ApiProcesses, a_pdf
from tests.support.free_ports import free_ports


@asynccontextmanager
async def served(host: str, port: int) -> AsyncIterator[None]:
    registry, stopping = CollectorRegistry(), asyncio.Event()
    Counter("dpj_test", "A test's.", registry=registry).inc()
    serving = asyncio.create_task(serve_metrics(host, port, registry, stopping))
    try:
        await asyncio.sleep(0.2)
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(serving, 10)


async def test_metrics_and_nothing_else() -> None:
    port = free_ports(1)
    async with served("127.0.0.1", port), httpx.AsyncClient(trust_env=False) as client:
        answered = await client.get(f"http://127.0.0.1:{port}/metrics")
        assert "dpj_test_total 1.0" in answered.text
        assert (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 404


async def test_a_port_that_is_taken_ends_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, structlog.testing.capture_logs() as log:
        port = other.getsockname()[1]
        async with served("127.0.0.1", port):
            pass
    assert [(line["event"], line["port"]) for line in log] == [("metrics_not_served", port)]


async def test_the_apis_own_port_tells_nobody_of_uploads(
    stack: Mapping[str, str], database_dsn: str, tmp_path: Path
) -> None:
    port = free_ports(1)
    (tmp_path / "objects").mkdir()
    embedded = {"object_store": "filesystem", "objects_dir": str(tmp_path / "objects"), "keyring": "local"}
    async with ApiProcesses(stack, database_dsn, **embedded, api_metrics_port=str(port)).up() as processes:
        content = a_pdf(uuid4().bytes)
        assert (await processes.post(content, await processes.dossier())).status_code == 201
        url = str(processes.clients[0].base_url).removesuffix("/api/v1/")
        async with httpx.AsyncClient(trust_env=False) as client:
            public = await client.get(f"{url}/metrics")
            own = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert (public.status_code, public.json()["code"]) == (404, "route_not_found")
    assert f"dpj_upload_bytes_total {float(len(content))}" in own.text
