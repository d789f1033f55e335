"""The processes of one machine: their command lines, and where each says how it is."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from domain.consumers import CONSUMERS

if TYPE_CHECKING:
    from runtime.config.settings import Settings

API: Final = "api"
WATCHDOG: Final = "watchdog"
CONSOLE: Final = "console"
ASK_SECONDS: Final = 2.0
MOST_BYTES: Final = 1024 * 1024

#: Processes beside the API by name, with their words after ``dpj``, in the order of their health ports.
_BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "relay": ("relay",),
    **{f"worker-{name}": ("worker", name) for name in CONSUMERS},
    WATCHDOG: ("watchdog",),
}


@dataclass(frozen=True, slots=True)
class PipelineProcess:
    """One process: its name, the command line after ``dpj``, and where it says that it is ready."""

    name: str
    words: tuple[str, ...]
    health: str


def pipeline_processes_of(settings: Settings) -> tuple[PipelineProcess, ...]:
    """The processes of one machine and their health addresses; the console only where it has a port."""
    return (
        PipelineProcess(API, (API,), f"{settings.api_url}/readyz"),
        *(
            PipelineProcess(name, words, f"http://127.0.0.1:{health_port(settings, name)}/readyz")
            for name, words in _BESIDE.items()
        ),
        *(
            [PipelineProcess(CONSOLE, (CONSOLE,), f"http://{settings.console_host}:{settings.console_port}/readyz")]
            if settings.console_port
            else []
        ),
    )


def health_port(settings: Settings, name: str) -> int:
    """Where the process called ``name`` serves its health: they count up from the first worker port; 0 if none is set."""
    return settings.worker_port_base and settings.worker_port_base + list(_BESIDE).index(name)


def api_metrics_port(settings: Settings) -> int:
    """Where the API serves its metrics: the port that is set, else the first after the watchdog's that is not the API's own; 0 if none
    is set."""
    if settings.api_metrics_port or not settings.worker_port_base:
        return settings.api_metrics_port
    after_all = settings.worker_port_base + len(_BESIDE)
    return after_all + (after_all == settings.api_port)


def console_metrics_port(settings: Settings) -> int:
    """Where the console serves its metrics: the port behind those that the API's may have; 0 if none is set."""
    return settings.worker_port_base and settings.worker_port_base + len(_BESIDE) + 2


def metrics_addresses(settings: Settings) -> dict[str, str]:
    """Where each process of one machine serves /metrics (host:port), by its name; those that serve none are left out."""
    host = settings.api_metrics_host
    ports = {name: ("127.0.0.1", health_port(settings, name)) for name in _BESIDE}
    ports[API] = (f"[{host}]" if ":" in host else host, api_metrics_port(settings))
    if settings.console_port:
        ports[CONSOLE] = ("127.0.0.1", console_metrics_port(settings))
    return {name: f"{address}:{port}" for name, (address, port) in ports.items() if port}


def scrape_targets(settings: Settings) -> list[dict[str, Any]]:
    """The same as Prometheus reads it from a file (``file_sd_config``): a target per process, with the label ``process``."""
    return [
        {"targets": [address], "labels": {"process": name}} for name, address in metrics_addresses(settings).items()
    ]


@dataclass(frozen=True, slots=True)
class Health:
    """What a process says at /readyz: whether it does its work, what it ``waits_for``, and all of it as it came."""

    ready: bool
    waits_for: tuple[str, ...]
    body: Mapping[str, Any]

    @property
    def crashes(self) -> tuple[str, ...]:
        """Each consumer in it that crashes again and again, with the class of error, and its record or its place in the code."""
        crashing = dict(self.body.get("crashing") or {})
        return tuple(
            f"{name}: {crash['error']} at {crash['record'] or next(reversed(crash['where']), 'an unknown place')}"
            f", {crash['crashes']} times"
            for name, crash in crashing.items()
        )

    @property
    def paused(self) -> tuple[str, ...]:
        """Each consumer in it that an operator has paused, until when and why."""
        paused = dict(self.body.get("paused") or {})
        return tuple(f"{name} paused until {one['until']} ({one['reason']})" for name, one in sorted(paused.items()))

    @property
    def lost(self) -> str:
        """How many events are owed to whom that Kafka brings no more; empty if none, or nobody knows."""
        owed = dict(self.body.get("events_owed") or {})
        return ", ".join(f"{name} {count}" for name, count in sorted(owed.items()))


def health_of(url: str, tls: ssl.SSLContext | None = None) -> Health | None:
    """The answer at ``url``; None if there is none. ``tls`` says whom to trust, if it is an https address.

    Not by httpx: this is asked ten times a second while processes start, and that client takes milliseconds to make.
    """
    place = urlsplit(url)
    connection = (
        HTTPSConnection(place.hostname or "", place.port, timeout=ASK_SECONDS, context=tls)
        if place.scheme == "https"
        else HTTPConnection(place.hostname or "", place.port, timeout=ASK_SECONDS)
    )
    try:
        with closing(connection):
            connection.request("GET", place.path)
            answer = connection.getresponse()
            body = json.loads(answer.read(MOST_BYTES))
    except (OSError, HTTPException, ValueError):
        return None
    if not isinstance(body, dict):
        return None
    failed = [name for name, found in dict(body.get("checks") or {}).items() if found != "ok"]
    return Health(answer.status == HTTPStatus.OK, (*(body.get("waiting_for") or ()), *failed), body)


def waiting_for_of(port: int) -> dict[str, object] | None:
    """What the process behind a health port says it waits for; None if it does not answer."""
    found = health_of(f"http://127.0.0.1:{port}/readyz")
    return None if found is None else dict(found.body["waiting_for"])


def crash_records_of(port: int) -> list[str]:
    """The records (topic/partition/offset) at which consumers of the process behind a health port crash again and again."""
    found = health_of(f"http://127.0.0.1:{port}/readyz")
    crashing = {} if found is None else dict(found.body.get("crashing") or {})
    return [str(crash["record"]) for crash in crashing.values() if crash["record"]]


def paused_consumers(settings: Settings) -> tuple[str, ...]:
    """Consumers that an operator has paused, as this machine's workers say, a line each."""
    ports = [health_port(settings, f"worker-{name}") for name in CONSUMERS]
    answers = [health_of(f"http://127.0.0.1:{port}/readyz") for port in ports if port]
    return tuple(line for found in answers if found is not None for line in found.paused)


def stalled_places(settings: Settings) -> dict[tuple[str, str, int], tuple[float, str | None]]:
    """Seconds without progress, and the record of another partition that holds it up, by consumer, topic and partition, as this
    machine's watchdog sees it; empty without one."""
    found = health_of(f"http://127.0.0.1:{health_port(settings, WATCHDOG)}/readyz")
    stalled = [] if found is None else found.body.get("stalled", [])
    return {
        (one["consumer"], one["topic"], one["partition"]): (one["seconds"], one.get("held_up_by")) for one in stalled
    }
