"""What this machine's processes say at /readyz, all asked at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from operations.overview.processes import ProcessAnswers
from runtime.config.settings import Settings
from runtime.config.transport import https_tls
from runtime.processes.health_ports import health_of, pipeline_processes_of


def process_answers(settings: Settings) -> Callable[[], Awaitable[ProcessAnswers | None]]:
    """Asks when it is called; gives None where processes have no ports to ask (``DPJ_WORKER_PORT_BASE`` is 0): on a cluster each is
    on a machine of its own."""

    async def ask() -> ProcessAnswers | None:
        if not settings.worker_port_base:
            return None
        processes = pipeline_processes_of(settings)
        tls = https_tls(settings, settings.api_url)
        found = await asyncio.gather(*(asyncio.to_thread(health_of, one.health, tls) for one in processes))
        return ProcessAnswers(
            {one.name: None if health is None else health.body for one, health in zip(processes, found, strict=True)}
        )

    return ask
