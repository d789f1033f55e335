"""The pipeline's own processes on one machine, beside a local stack: started, remembered, waited for, ended."""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import httpx

from deploy.native import site
from deploy.native.files import home, tail
from deploy.native.parts import vault
from deploy.native.supervisor import Command, Supervisor, Tracked
from domain.consumers import CONSUMERS
from runtime.cli.output import CommandFailed
from runtime.config.settings import Settings
from runtime.config.transport import https_tls

CHECKOUT: Final = Path(__file__).resolve().parent.parent.parent
READY_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1
LOG_LINES: Final = 8
WATCHDOG: Final = "watchdog"

#: Processes beside the API by name, with their words after ``dpj``, in the order of their health ports.
_BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "relay": ("relay",),
    **{f"worker-{name}": ("worker", name) for name in CONSUMERS},
    WATCHDOG: ("watchdog",),
}


#: Processes that read or write content, and processes that sign: receipts, checkpoints, receipts of erasures.
_WITH_KEYRING: Final = frozenset({"api", "worker-integrity", "worker-renditions", "worker-archiving"})
_WITH_SIGNER: Final = frozenset({"api", "worker-audit", "relay"})


@dataclass(frozen=True, slots=True)
class Service:
    """One process: its name, the command line after ``dpj``, and where it says that it is ready."""

    name: str
    words: tuple[str, ...]
    health: str


@dataclass(frozen=True, slots=True)
class State:
    """``state`` is ready, starting (runs, but says it is not ready), or down."""

    name: str
    state: str
    pid: int | None
    health: str


class _Processes(Supervisor):
    """Keeps its list apart from the servers' and its logs beside theirs."""

    def __init__(self, stack_folder: Path) -> None:
        folder = stack_folder / "services"
        folder.mkdir(mode=0o700, exist_ok=True)
        super().__init__(folder)
        self._logs = stack_folder / "logs"

    def log(self, part: str) -> Path:
        return self._logs / f"{part}.log"


class Services:
    """API, relay, one worker per consumer and the watchdog, for the stack whose settings are given."""

    def __init__(self, settings: Settings, others: Mapping[str, str] | None = None) -> None:
        """``others``: settings (DPJ_...) that the processes are given over those of the stack."""
        self._others = dict(others or {})
        self._stack = settings.stack_name
        self._asks_vault = (_WITH_KEYRING if settings.keyring == "vault" else frozenset()) | (
            _WITH_SIGNER if settings.signer == "vault" else frozenset()
        )
        self._folder = home() / settings.stack_name
        if not self._folder.is_dir():
            raise CommandFailed(
                f"There is no local stack {self._stack}.",
                "On a cluster, run dpj api, dpj relay and dpj worker yourself.",
            )
        self._processes = _Processes(self._folder)
        self._settings = settings
        self.services = services_of(settings)

    def start(self, tell: Callable[[str], None]) -> None:
        """Start what does not run and wait until all of it is ready. Raises CommandFailed naming what is not, and its log."""
        self._processes.stop_strays()
        self._processes.stop(self._distrusting())
        running = self._processes.running()
        for service in self.services:
            if service.name not in running:
                self._processes.start(service.name, self._command(service))
        deadline = time.monotonic() + READY_SECONDS
        waiting = list(self.services)
        while waiting:
            alive = self._processes.running()
            for service in list(waiting):
                if service.name not in alive:
                    raise self._failed(service, "ended at once")
                if self._is_ready(service):
                    waiting.remove(service)
                    tell(f"{service.name} is ready")
            if waiting and time.monotonic() > deadline:
                raise self._failed(waiting[0], f"is not ready after {READY_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def restart(self, name: str) -> None:
        """End a service, by force if it does not go, and start it anew; does not wait until it is ready."""
        service = next(one for one in self.services if one.name == name)
        self._processes.stop([name])
        self._processes.start(name, self._command(service))

    def stop(self) -> list[str]:
        """End them in good order; names of those that ran."""
        running = list(self._processes.running())
        self._processes.stop([WATCHDOG])  # first, or it might start one of the others anew
        self._processes.stop(list(self._processes.tracked()))
        self._processes.stop_strays()
        return running

    def states(self) -> list[State]:
        """What runs and whether it says that it is ready, asked now."""
        running: dict[str, Tracked] = self._processes.running()
        found = []
        for service in self.services:
            process = running.get(service.name)
            state = "down" if process is None else "ready" if self._is_ready(service) else "starting"
            found.append(State(service.name, state, process.pid if process else None, service.health))
        return found

    def _distrusting(self) -> list[str]:
        """Those that were started under another authority than the stack has now, and so trust none of its servers."""
        if self._settings.tls_ca_file is None:
            return []
        made = self._settings.tls_ca_file.stat().st_mtime
        return [name for name, process in self._processes.running().items() if process.older_than(made)]

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        """For the only service whose health is behind TLS."""
        return https_tls(self._settings, self._settings.api_url)

    def _is_ready(self, service: Service) -> bool:
        try:
            answer = httpx.get(service.health, timeout=2.0, trust_env=False, verify=self._tls or True)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    def _command(self, service: Service) -> Command:
        return Command(
            arguments=(sys.executable, "-m", "runtime.cli.main", *service.words, "--stack", self._stack),
            environment={**self._others, "DPJ_HOME": str(home()), "DPJ_STACK": self._stack, **self._login(service)},
            folder=CHECKOUT,
        )

    def _login(self, service: Service) -> dict[str, str]:
        """Every process gets a secret id of its own, wrapped for one use, if it needs one; and none that is not."""
        if not self._asks_vault:
            return {}
        nothing = {"DPJ_VAULT_SECRET_ID": ""}
        if service.name not in self._asks_vault:
            return nothing
        here = site.load(self._stack)
        if here is None:
            raise CommandFailed(f"There is no local stack {self._stack}.", "Start it: dpj up.")
        return {**nothing, "DPJ_VAULT_WRAPPED_SECRET_ID_FILE": str(vault.hand_out(here, service.name))}

    def _failed(self, service: Service, what: str) -> CommandFailed:
        log = self._processes.log(service.name)
        last = tail(log, LOG_LINES)
        return CommandFailed(f"{service.name} {what}. Its last words: {last[-400:]}", f"Read {log}.", code="not_ready")


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
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return None
    return dict(answer["waiting_for"])


def stalled_places(settings: Settings) -> dict[tuple[str, str, int], float]:
    """Seconds without progress by consumer, topic and partition, as this machine's watchdog sees it; empty without one."""
    port = health_port(settings, WATCHDOG)
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return {(one["consumer"], one["topic"], one["partition"]): one["seconds"] for one in answer.get("stalled", [])}
