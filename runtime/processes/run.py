"""The processes of the pipeline: API, relay, workers. Each runs until SIGTERM or SIGINT and serves its health beside its work.

What only one of them needs is loaded when that one starts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from domain.errors import BrokerUnavailable
from domain.shared.waiting import unless_stopped
from runtime.config.settings import Settings
from runtime.config.transport import server_certificate
from runtime.errors import CommandFailed
from runtime.observability.health import serve_health, serve_metrics, serve_until
from runtime.observability.telemetry import AuditStepMetrics, WatchdogMetrics, configure_logging
from runtime.processes.health_ports import (
    api_metrics_port,
    console_metrics_port,
    crash_records_of,
    health_port,
    waiting_for_of,
)
from runtime.processes.lifetime import repeat, run_all, run_process, tune_garbage_collector
from runtime.wiring.site import Site

if TYPE_CHECKING:
    from operations.kafka.lag import PartitionLag

#: How often unfinished uploads are looked for; more often where their lease is shorter.
SWEEP_SECONDS: Final = 15.0
PRUNE_SECONDS: Final = 3600.0
#: How often sessions of frozen processes are looked for.
FROZEN_SESSIONS_SECONDS: Final = 10.0
#: How soon a new certificate of the API is taken up.
CERTIFICATE_SECONDS: Final = 60.0
#: How often the API sees whether the keys that verify tokens are due to be fetched anew.
SIGNING_KEYS_SECONDS: Final = 30.0
#: Connections that the console has open at once: a browser has a handful.
CONSOLE_CONNECTIONS: Final = 200
#: A page takes less; streams end by themselves when the process is told to stop.
CONSOLE_DRAIN_SECONDS: Final = 5.0
#: What the removal of an upload cut short may take.
UNDO_SECONDS: Final = 3.0
#: The watchdog looks at least this often.
WATCH_SECONDS: Final = 15.0
#: A consumer in these states waits for Kafka.
_CONSUMER_WAITS: Final = frozenset({"waiting_for_broker", "waiting_for_topics"})
#: What a relay in this state waits for.
_RELAY_WAITS: Final = {"connecting": "postgresql", "waiting_for_broker": "kafka"}


def run_api(settings: Settings) -> None:
    """Serve the HTTP API. At its stop no request is begun, and those under way have ``drain_seconds`` to end."""
    from ingest_api.app import create_app
    from ingest_api.openapi import document_of
    from processors.documents.revocations import POLL_SECONDS
    from runtime.processes.serving import api_server
    from runtime.wiring.http_api import api_dependencies

    configure_logging("api", log_format=settings.log_format, level=settings.log_level)
    certificate = server_certificate(settings)

    async def work(site: Site, stopping: asyncio.Event) -> None:
        server = api_server(
            create_app(api_dependencies(site), document_of),
            host=settings.api_host,
            port=settings.api_port,
            head_seconds=settings.header_timeout,
            connections=settings.api_connections,
            send_seconds=settings.send_timeout,
            per_address=settings.api_connections_per_address,
            trusted_proxies=settings.trusted_proxies,
            drain_seconds=settings.drain_seconds,
            tls=certificate.context if certificate else None,
        )
        tune_garbage_collector()
        renewing = [repeat(stopping, "certificate", CERTIFICATE_SECONDS, certificate.refresh)] if certificate else []
        await run_all(
            stopping,
            *renewing,
            serve_until(server, stopping),
            serve_metrics(settings.api_metrics_host, api_metrics_port(settings), site.metrics, stopping),
            site.log_in(stopping),
            repeat(stopping, "revocations", POLL_SECONDS, site.revoked_tokens.refresh),
            repeat(stopping, "signing_keys", SIGNING_KEYS_SECONDS, site.signing_keys.renew),
            site.dependencies.run(stopping),
        )
        # Uploads that were cut short now remove what they left; what they can't, the sweep does.
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=UNDO_SECONDS)

    run_process(settings, work, traced_as="api")


def run_console(settings: Settings) -> None:
    """Serve the operators' console. Raises CommandFailed if the settings don't say where, or who may come in."""
    from console.app import create_app
    from processors.documents.revocations import POLL_SECONDS
    from runtime.processes.process_answers import process_answers
    from runtime.processes.serving import api_server
    from runtime.wiring.console import console_dependencies

    if not settings.console_port:
        raise CommandFailed("DPJ_CONSOLE_PORT is not set.", "Set it to the port that the console is to listen at.")
    configure_logging("console", log_format=settings.log_format, level=settings.log_level)

    async def work(site: Site, stopping: asyncio.Event) -> None:
        server = api_server(
            create_app(console_dependencies(site, stopping, process_answers(settings))),
            host=settings.console_host,
            port=settings.console_port,
            head_seconds=settings.header_timeout,
            connections=CONSOLE_CONNECTIONS,
            send_seconds=settings.send_timeout,
            trusted_proxies=settings.trusted_proxies,
            drain_seconds=min(settings.drain_seconds, CONSOLE_DRAIN_SECONDS),
        )
        tune_garbage_collector()
        await run_all(
            stopping,
            serve_until(server, stopping),
            serve_metrics("127.0.0.1", console_metrics_port(settings), site.metrics, stopping),
            repeat(stopping, "revocations", POLL_SECONDS, site.revoked_tokens.refresh),
            repeat(stopping, "signing_keys", SIGNING_KEYS_SECONDS, site.signing_keys.renew),
            site.dependencies.run(stopping),
        )

    run_process(settings, work)


def run_relay(settings: Settings) -> None:
    """Publish the outbox, carry out erasures, and tidy up: abandoned uploads, inbox rows and idempotency keys past their time."""
    from runtime.processes.batch_job import run_batches
    from runtime.processes.dead_letter_index_job import index_dead_letters
    from runtime.processes.erasure_jobs import create_erasure_executor, run_erasures, run_purges
    from runtime.processes.owed_events_job import watch_owed_events
    from runtime.processes.reconcile_jobs import run_reconciliations
    from runtime.processes.restore_jobs import guarded_housekeeping, guarded_sweep, watch_restores
    from runtime.processes.schema_ids_job import watch_schema_ids

    configure_logging("relay", log_format=settings.log_format, level=settings.log_level)

    async def work(site: Site, stopping: asyncio.Event) -> None:
        relay, eraser = site.relay(), create_erasure_executor(site)

        def health() -> tuple[bool, dict[str, Any]]:
            ready = relay.state in {"leading", "standby"}
            waiting = {} if ready else {_RELAY_WAITS.get(relay.state, "postgresql"): 0}
            return ready, {"relay": relay.state, "waiting_for": waiting, **_facts(site)}

        tune_garbage_collector()
        await run_all(
            stopping,
            relay.run(stopping),
            repeat(stopping, "sweep", min(SWEEP_SECONDS, settings.upload_lease), guarded_sweep(site)),
            repeat(stopping, "prune", PRUNE_SECONDS, guarded_housekeeping(site)),
            # In every relay: the one that leads may be frozen itself.
            repeat(stopping, "frozen_sessions", FROZEN_SESSIONS_SECONDS, site.frozen_sessions().run_once),
            watch_restores(site, stopping),
            run_reconciliations(site, stopping, lambda: relay.state == "leading"),
            watch_owed_events(site, stopping, lambda: relay.state == "leading"),
            watch_schema_ids(site, stopping),
            run_batches(site, eraser, stopping, lambda: relay.state == "leading"),
            index_dead_letters(site, stopping, lambda: relay.state == "leading"),
            run_erasures(site, eraser, stopping),
            run_purges(site, stopping, lambda: relay.state == "leading"),
            site.log_in(stopping),
            site.dependencies.run(stopping),
            serve_health(health_port(settings, "relay"), site.metrics, health, stopping),
        )

    run_process(settings, work, traced_as="relay")


def run_worker(settings: Settings, names: Sequence[str]) -> None:
    """Run the consumers ``names`` of ``domain.consumers``. Raises CommandFailed if parsers can't be confined and have to be."""
    from domain.pauses import WAITING_FOR as PAUSED
    from runtime.processes.pauses import follow_pauses
    from streams.pauses import LOOK_SECONDS

    configure_logging(f"worker-{'-'.join(names)}", log_format=settings.log_format, level=settings.log_level)

    async def work(site: Site, stopping: asyncio.Event) -> None:
        with tempfile.TemporaryDirectory(prefix="dpj-faust-") as scratch:
            if "renditions" in names:
                await unless_stopped(stopping, _check_parsers(site))
            runners = {name: site.consumer(name, scratch) for name in names}
            audit = site.audit_steps() if "audit" in runners else {}
            AuditStepMetrics(site.metrics, {name: step.needs_operator for name, step in audit.items()})

            def health() -> tuple[bool, dict[str, Any]]:
                states = {name: runner.state for name, runner in runners.items()}
                waiting = dict.fromkeys(site.dependencies.away, 0)
                if any(state in _CONSUMER_WAITS for state in states.values()):
                    waiting["kafka"] = 0
                ready = not waiting and all(state == "running" for state in states.values())
                waiting |= dict.fromkeys([PAUSED] if paused() else [], 1)
                waiting |= {name: count for name, count in site.delivery_metrics.waiting_now.items() if count}
                for step, mover in audit.items():
                    if mover.waiting_for:
                        waiting[f"audit {step}: {mover.waiting_for}"] = 1
                # A chain that only a person can get going again is no outage that passes.
                ready = ready and not any(mover.needs_operator() for mover in audit.values())
                crashing = {name: runner.crash for name, runner in runners.items() if runner.crash}
                stopped = [step for step, mover in audit.items() if mover.needs_operator()]
                return ready, {
                    "consumers": states,
                    "process": {"host": socket.gethostname(), "pid": os.getpid()},
                    "owned": {name: runner.owned for name, runner in runners.items()},
                    "crashing": crashing,
                    "waiting_for": waiting,
                    "audit_stopped": stopped,
                    **_facts(site),
                }

            paused = follow_pauses(site, list(runners))
            jobs: list[Awaitable[None]] = [runner.run(stopping) for runner in runners.values()]
            jobs += [mover.run(stopping) for mover in audit.values()]
            port = health_port(settings, f"worker-{names[0]}")
            jobs += [site.log_in(stopping), site.dependencies.run(stopping)]
            jobs.append(repeat(stopping, "pauses", LOOK_SECONDS, site.pause_gate.refresh))
            tune_garbage_collector()
            await run_all(stopping, *jobs, serve_health(port, site.metrics, health, stopping))

    run_process(settings, work, traced_as=f"worker-{'-'.join(names)}")


def run_watchdog(settings: Settings) -> None:
    """Watch every group's progress from outside. Raises CommandFailed if it is to restart workers that are not ours."""
    from operations.kafka.watchdog import StallDetector, Watchdog
    from runtime.processes.local import PipelineProcesses
    from runtime.processes.overview_job import watch_overview

    configure_logging("watchdog", log_format=settings.log_format, level=settings.log_level)
    services = PipelineProcesses(settings) if settings.stall_restart else None

    async def ask(consumer: str) -> Mapping[str, object] | None:
        return await asyncio.to_thread(waiting_for_of, health_port(settings, f"worker-{consumer}"))

    async def crashes_at(consumer: str) -> Sequence[str]:
        return await asyncio.to_thread(crash_records_of, health_port(settings, f"worker-{consumer}"))

    async def restart(consumer: str) -> None:
        if services is not None:
            await asyncio.to_thread(services.restart, f"worker-{consumer}")

    async def work(site: Site, stopping: asyncio.Event) -> None:
        async def measure() -> Sequence[PartitionLag]:
            return await unless_stopped(stopping, site.measure_lag()) or []

        watchdog = Watchdog(
            measure,
            StallDetector(settings.stall_seconds, time.monotonic),
            WatchdogMetrics(site.metrics),
            interval=min(max(settings.stall_seconds / 6, 1.0), WATCH_SECONDS),
            clock=time.monotonic,
            ask=ask,
            crashes_at=crashes_at,
            restart=restart if services else None,
        )

        def health() -> tuple[bool, dict[str, Any]]:
            waiting = {BrokerUnavailable.waiting_for: 0} if watchdog.waiting else {}
            at = watchdog.looked
            return not waiting, {
                "waiting_for": waiting,
                "stalled": [asdict(stall) for stall in watchdog.stalls],
                "looked": None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
            }

        port = health_port(settings, "watchdog")
        tune_garbage_collector()
        await run_all(
            stopping,
            watchdog.run(stopping),
            watch_overview(site, stopping, lambda: watchdog.looked),
            serve_health(port, site.metrics, health, stopping),
        )

    run_process(settings, work)


async def _check_parsers(site: Site) -> None:
    from runtime.wiring.untrusted_files import ParsersUnconfined, check_confinement

    try:
        await check_confinement(site.render_pool, site.settings)
    except ParsersUnconfined:
        raise CommandFailed(
            "This machine takes no system call filter, and DPJ_RENDER_CONFINEMENT demands one over the parsers.",
            "Run renditions on a Linux kernel with seccomp, or see docs/OPERATIONS.md for what else confines them.",
            code="parsers_unconfined",
        ) from None


def _facts(site: Site) -> dict[str, Any]:
    facts = {name: value_of() for name, value_of in site.readiness_facts.items()}
    watched = site.dependencies
    return {
        "dependencies": watched.states,
        "dependencies_away_since": watched.away_since,
        "circuits": watched.circuits,
        **facts,
    }
