"""What a bench runs on: a local full stack, our processes on it when asked for, tokens for its API."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cached_property

import httpx

from benchmarks.console import note
from deploy.native import stack as native
from deploy.native.report import Plain
from domain.documents import Role
from identity.tokens import issue_token
from runtime.config.settings import Settings, load_settings
from runtime.processes.local import PipelineProcesses
from runtime.processes.local_stack import prepare

TENANT = "bench"
TOKEN_SECONDS = 6 * 3600
READY_SECONDS = 60.0
POLL_SECONDS = 0.1
#: One client brings all the load that there is, and what an antivirus takes is not ours to measure.
UNHINDERED = {
    "DPJ_RATE_CLIENT": "0",
    "DPJ_RATE_DOCUMENTS": "0",
    "DPJ_API_CONNECTIONS_PER_ADDRESS": "0",
    "DPJ_ANTIVIRUS": "off",
}


class BenchSite:
    """The stack called ``name``; it runs from the first use of ``settings`` on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._started = False

    @cached_property
    def settings(self) -> Settings:
        """Settings of the running stack, whose tables, topics, schemas and bucket are there."""
        stack = native.up(self.name, "full", reporter=Plain(note))
        self._started = stack.started
        settings = load_settings(self.name)
        with ThreadPoolExecutor(1) as aside:  # it runs an event loop of its own, and a bench asks from inside one
            aside.submit(prepare, settings, note, TENANT).result()
        return settings

    @property
    def versions(self) -> dict[str, str]:
        """Version of every server of the stack; empty if no bench needed it."""
        if "settings" not in self.__dict__:
            return {}
        found = native.status(self.name)
        return {row.part: row.version for row in found.rows} if found else {}

    @property
    def api(self) -> str:
        """Base address of the API."""
        return f"http://{self.settings.api_host}:{self.settings.api_port}"

    def token(self, *roles: Role, tenant: str = TENANT) -> str:
        """A bearer token for ``roles``. Raises ValueError on a stack that has no signing key."""
        settings = self.settings
        if settings.jwt_private_key_file is None:
            raise ValueError("the stack has no signing key")
        return issue_token(
            settings.jwt_private_key_file,
            settings.jwt_issuer,
            settings.jwt_audience,
            "bench",
            tenant,
            list(roles),
            TOKEN_SECONDS,
        )

    def servers(self) -> dict[str, int]:
        """Process ids of the stack's servers by name."""
        found = native.status(self.name)
        return {row.part: row.pid for row in found.rows if row.pid is not None} if found else {}

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[dict[str, int]]:
        """Our processes ``names`` (api, relay, worker-integrity, ...; none named: all) while the block runs; their ids.

        Starts with what is asked for and nothing else, and ends it afterwards. Raises ValueError for an unknown name.
        """
        services = PipelineProcesses(self.settings, UNHINDERED)
        known = {service.name for service in services.services}
        if unknown := set(names) - known:
            raise ValueError(f"no such process: {', '.join(sorted(unknown))}")
        if names:
            services.services = tuple(service for service in services.services if service.name in names)
        await asyncio.to_thread(services.stop)
        try:
            await asyncio.to_thread(services.start, lambda _: None)
            yield {state.name: state.pid for state in services.states() if state.pid is not None}
        finally:
            await asyncio.to_thread(services.stop)

    @asynccontextmanager
    async def api_beside(self, other_settings: Mapping[str, str]) -> AsyncIterator[str]:
        """One more API process of this stack, with some settings (DPJ_...) of its own, while the block runs; its base address.

        Raises TimeoutError if it does not become ready.
        """
        async with self._beside("api", "DPJ_API_PORT", other_settings) as url:
            yield url

    @asynccontextmanager
    async def console_beside(self, other_settings: Mapping[str, str]) -> AsyncIterator[str]:
        """The same, for a console."""
        async with self._beside("console", "DPJ_CONSOLE_PORT", other_settings) as url:
            yield url

    @asynccontextmanager
    async def _beside(self, command: str, port_setting: str, other_settings: Mapping[str, str]) -> AsyncIterator[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runtime.cli.main", command, "--stack", self.settings.stack_name),
            env={**os.environ, **UNHINDERED, **other_settings, port_setting: str(port)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await _until_ready(url)
            yield url
        finally:
            process.terminate()
            await process.wait()

    def close(self) -> None:
        """Wipe the stack if it was this run that started it."""
        if self._started:
            native.down(self.name, wipe=True)


async def _until_ready(url: str) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(f"{url}/readyz", timeout=2.0)).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(POLL_SECONDS)
