"""The processes of one machine: their command lines, and where each says how it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from operations.kafka.consumers import CONSUMERS

if TYPE_CHECKING:
    from runtime.config.settings import Settings

WATCHDOG: Final = "watchdog"

#: Processes beside the API by name, with their words after ``dpj``, in the order of their health ports.
_BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "relay": ("relay",),
    **{f"worker-{name}": ("worker", name) for name in CONSUMERS},
    WATCHDOG: ("watchdog",),
}


@dataclass(frozen=True, slots=True)
class Service:
    """One process: its name, the command line after ``dpj``, and where it says that it is ready."""

    name: str
    words: tuple[str, ...]
    health: str


def services_of(settings: Settings) -> tuple[Service, ...]:
    """The processes of one machine and their health addresses."""
    return (
        Service("api", ("api",), f"{settings.api_url}/readyz"),
        *(
            Service(name, words, f"http://127.0.0.1:{health_port(settings, name)}/readyz")
            for name, words in _BESIDE.items()
        ),
    )


def health_port(settings: Settings, name: str) -> int:
    """Where the process called ``name`` serves its health: they count up from the first worker port; 0 if none is set."""
    return settings.worker_port_base and settings.worker_port_base + list(_BESIDE).index(name)


def waiting_of(port: int) -> dict[str, object] | None:
    """What the process behind a health port says it waits for; None if it does not answer."""
    import httpx

    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return None
    return dict(answer["waiting_for"])


def stalled_places(settings: Settings) -> dict[tuple[str, str, int], float]:
    """Seconds without progress by consumer, topic and partition, as this machine's watchdog sees it; empty without one."""
    port = health_port(settings, WATCHDOG)
    import httpx

    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return {(one["consumer"], one["topic"], one["partition"]): one["seconds"] for one in answer.get("stalled", [])}
