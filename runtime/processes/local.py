"""The pipeline's own processes on one machine, beside a local stack: started, remembered, waited for, ended."""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from deploy.native import files, site
from deploy.native.files import home, tail
from deploy.native.patience import Patience, sign_of
from deploy.native.supervisor import MARK, Command, Supervisor, Tracked
from runtime.config.settings import Settings
from runtime.config.transport import https_tls
from runtime.errors import CommandFailed
from runtime.processes.health_ports import (
    API,
    WATCHDOG,
    PipelineProcess,
    health_of,
    pipeline_processes_of,
    scrape_targets,
)

#: What takes a document from its upload to the GED: with few processors the others start after it.
TO_THE_ARCHIVE: Final = frozenset({API, "relay", "worker-integrity", "worker-archiving"})
CHECKOUT: Final = Path(__file__).resolve().parent.parent.parent
POLL_SECONDS: Final = 0.1
#: What a process waits for is told when it has done so for this long.
TELL_SECONDS: Final = 5.0
LOG_LINES: Final = 8
#: A process that has run for so long, and does not answer, is not starting any more.
START_SECONDS: Final = 60.0
#: A process that ended by itself within so many seconds, and was started anew, is told of; and so many of its ends are kept.
ENDS_SECONDS: Final = 600.0
MOST_ENDS: Final = 100

#: Whether it helps to run the command again, by what went wrong.
_MEND: Final = "Running it again helps once that is mended; what runs is kept."
_WAIT: Final = "Running it again helps once that is there; what runs is kept, and goes on waiting meanwhile."
_HANGS: Final = "Running it again does not help: end it all first (dpj down), then dpj up."

#: Processes that read or write content, and processes that sign: receipts, checkpoints, receipts of erasures.
_WITH_KEYRING: Final = frozenset({API, "worker-integrity", "worker-renditions", "worker-archiving"})
_WITH_SIGNER: Final = frozenset({API, "worker-audit", "relay"})


@dataclass(frozen=True, slots=True)
class ProcessState:
    """``state`` is ready, waiting (says what it waits for), starting (runs, but is not ready), no answer (has run for a while, and says
    nothing), crashing (ends, or a consumer in it does, again and again) or down. ``reason``: why it is not ready, as far as it is
    known."""

    name: str
    state: str
    pid: int | None
    health: str
    reason: str = ""


class _Processes(Supervisor):
    """Keeps its list apart from the servers' and its logs beside theirs."""

    def __init__(self, stack_folder: Path) -> None:
        folder = stack_folder / "services"
        folder.mkdir(mode=0o700, exist_ok=True)
        super().__init__(folder)
        self._logs = stack_folder / "logs"

    def log(self, part: str) -> Path:
        return self._logs / f"{part}.log"


def _tracing(settings: Settings) -> dict[str, str]:
    if not settings.tracing_endpoint:
        return {}
    return {
        "DPJ_TRACING_ENDPOINT": settings.tracing_endpoint,
        "DPJ_TRACING_RATIO": str(settings.tracing_ratio),
        "DPJ_TRACING_FOLLOW_CALLERS": str(settings.tracing_follow_callers).lower(),
    }


class PipelineProcesses:
    """API, relay, one worker per consumer and the watchdog, for the stack whose settings are given."""

    def __init__(self, settings: Settings, others: Mapping[str, str] | None = None) -> None:
        """``others``: settings (DPJ_...) that the processes are given over those of the stack. Where spans go is no matter of the stack:
        they have that from whoever starts them."""
        self._others = {**_tracing(settings), **(others or {})}
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
        self._ends = _Ends(self._folder / "services" / "ended.json")
        self._settings = settings
        self.services = pipeline_processes_of(settings)

    def start(self, report: Callable[[str], None]) -> None:
        """Start what does not run and wait until all of it is ready. Raises as ``wait_until_ready``."""
        self.begin()
        self.wait_until_ready(report)

    def begin(self, names: Container[str] | None = None) -> list[str]:
        """Start what does not run, or of it what ``names`` names, whatever of the servers is there yet: processes wait for them.
        Names of those started."""
        self._tell_targets()
        self._processes.stop_strays()
        self._processes.stop(self._distrusting())
        running = self._processes.running()
        missing = [service for service in _named(self.services, names) if service.name not in running]
        if missing:
            self._ends.forget()
        for service in missing:
            self._processes.start(service.name, self._command(service))
        return [service.name for service in missing]

    def _tell_targets(self) -> None:
        """Write down what there is to scrape, for the stack's Prometheus or any other."""
        targets = site.targets_file(self._folder)
        files.private_folder(targets.parent)
        files.write_json(targets, scrape_targets(self._settings))

    def wait_until_ready(self, report: Callable[[str], None], names: Container[str] | None = None) -> None:
        """Wait for all of it, or for what ``names`` names, as long as it lives and something moves; what it waits for is told.

        Raises CommandFailed naming what is not ready, what runs all the same, and whether it helps to try again.
        """
        began = time.monotonic()
        waiting = {service: Patience() for service in _named(self.services, names)}
        told: dict[str, tuple[str, ...]] = {}
        while waiting:
            alive = self._processes.running()
            for service, patience in list(waiting.items()):
                process = alive.get(service.name)
                if process is None:
                    raise self._failed(service, "ended", _MEND)
                health = health_of(service.health, self._tls)
                if health is not None and health.ready:
                    del waiting[service]
                    report(f"{service.name} is ready")
                    continue
                if health is not None and health.crashes:
                    raise self._failed(service, f"is crashing ({'; '.join(health.crashes)})", _MEND)
                waits_for = () if health is None else health.waits_for
                answer = None if health is None else " ".join(waits_for)
                over = patience.over(sign_of(process.pid, self._processes.log(service.name), answer))
                if over is not None:
                    raise self._failed(service, over + _for(waits_for), _WAIT if waits_for else _HANGS)
                if waits_for and waits_for != told.get(service.name) and time.monotonic() - began > TELL_SECONDS:
                    told[service.name] = waits_for
                    report(f"{service.name} waits for {', '.join(waits_for)}")
            time.sleep(POLL_SECONDS)

    def restart(self, name: str) -> None:
        """End a service, by force if it does not go, and start it anew; does not wait until it is ready."""
        service = next(one for one in self.services if one.name == name)
        if name in self._processes.tracked() and name not in self._processes.running():
            self._ends.add(name)
        self._processes.stop([name])
        self._processes.start(name, self._command(service))

    def end(self, names: Sequence[str]) -> None:
        """End some of them."""
        self._ends.forget()
        # The watchdog first, or it might start one of the others anew.
        self._processes.stop([name for name in names if name == WATCHDOG])
        self._processes.stop(list(names))

    def stop(self) -> list[str]:
        """End them in good order; names of those that ran."""
        running = list(self._processes.running())
        self.end(list(self._processes.tracked()))
        self._processes.stop_strays()
        return running

    def states(self) -> list[ProcessState]:
        """What runs and whether it says that it is ready, asked now."""
        running: dict[str, Tracked] = self._processes.running()
        found = []
        for service in self.services:
            process = running.get(service.name)
            state, reason = self._state(service, process)
            found.append(ProcessState(service.name, state, process.pid if process else None, service.health, reason))
        return found

    def _state(self, service: PipelineProcess, process: Tracked | None) -> tuple[str, str]:
        """State and reason of a process that runs, or of one that does not."""
        ended = self._ends.recent(service.name)
        if process is None:
            if ended:
                return "crashing", f"ended by itself again, {_times(ended)} before of late"
            return "down", "ended by itself" if service.name in self._processes.tracked() else ""
        health = health_of(service.health, self._tls)
        if health is None:
            if ended > 1:
                return "crashing", f"ended by itself {_times(ended)}"
            if process.older_than(time.time() - START_SECONDS):
                return "no answer", "runs and does not answer: frozen, or overloaded"
            return "starting", "does not answer yet"
        if health.crashes:
            return "crashing", "; ".join(health.crashes)
        if health.ready:
            return "ready", "; ".join([*health.paused, *([f"events lost: {health.lost}"] if health.lost else [])])
        return ("waiting", f"waits for {', '.join(health.waits_for)}") if health.waits_for else ("starting", "")

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

    def _command(self, service: PipelineProcess) -> Command:
        return Command(
            # The mark, where whoever looks for strays can read it: the environment of a process that can't be dumped is root's.
            arguments=(
                sys.executable,
                "-X",
                f"{MARK}={self._processes.state}",
                "-m",
                "runtime.cli.main",
                *service.words,
                "--stack",
                self._stack,
            ),
            environment={**self._others, "DPJ_HOME": str(home()), "DPJ_STACK": self._stack, **self._login(service)},
            folder=CHECKOUT,
        )

    def _login(self, service: PipelineProcess) -> dict[str, str]:
        """Every process gets a secret id of its own, wrapped for one use, if it needs one; and none that is not."""
        if not self._asks_vault:
            return {}
        nothing = {"DPJ_VAULT_SECRET_ID": ""}
        if service.name not in self._asks_vault:
            return nothing
        from deploy.native.parts import vault

        here = site.load(self._stack)
        if here is None:
            raise CommandFailed(f"There is no local stack {self._stack}.", "Start it: dpj up.")
        return {**nothing, "DPJ_VAULT_WRAPPED_SECRET_ID_FILE": str(vault.hand_out(here, service.name))}

    def _failed(self, service: PipelineProcess, what: str, advice: str) -> CommandFailed:
        log = self._processes.log(service.name)
        last = tail(log, LOG_LINES)
        running = list(self._processes.running())
        runs = f"Still running: {', '.join(running)}; dpj down --stack {self._stack} ends them. " if running else ""
        return CommandFailed(
            f"{service.name} {what}. Its last words: {last[-400:] or 'none'}",
            f"{advice} {runs}Read {log}.",
            code="not_ready",
        )


class _Ends:
    """When processes were found ended by themselves, kept in a file: who restarts them is not who tells of them."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, name: str) -> None:
        kept = {**self._read(), name: [*self._read().get(name, []), time.time()][-MOST_ENDS:]}
        files.write_json(self._file, kept)

    def forget(self) -> None:
        """Somebody ends or starts them: count anew."""
        self._file.unlink(missing_ok=True)

    def recent(self, name: str) -> int:
        """How often in the last ``ENDS_SECONDS``."""
        return sum(moment > time.time() - ENDS_SECONDS for moment in self._read().get(name, []))

    def _read(self) -> dict[str, list[float]]:
        try:
            return dict(json.loads(self._file.read_text("utf-8")))
        except (FileNotFoundError, ValueError):
            return {}


def _named(services: Sequence[PipelineProcess], names: Container[str] | None) -> list[PipelineProcess]:
    return [service for service in services if names is None or service.name in names]


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _for(waits_for: tuple[str, ...]) -> str:
    return f" (it waits for {', '.join(waits_for)})" if waits_for else ""


def running_in(stack: str) -> list[str]:
    """Names of the servers and processes of ``stack`` that run."""
    folder = home() / stack
    return [*Supervisor(folder).running(), *_Processes(folder).running()] if folder.is_dir() else []
