"""Our own processes under test, and a supervisor that starts each again when it dies, as one in production would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from deploy.native.supervisor import environment
from tests.faults.plain_http import NO_TLS

ROOT = Path(__file__).resolve().parents[2]
HEALTH_SECONDS = 2.0
RESTART_SECONDS = 0.5
POLL_SECONDS = 0.05
POLITE_SECONDS = 60.0
CRASHED = 137  # the exit status of a process that reached its crash point


@dataclass(frozen=True, slots=True)
class Ended:
    """One end of a process. ``code``: exit status, negative for a signal; ``asked``: we had sent the signal."""

    name: str
    code: int
    at: float
    asked: bool


class Process:
    """``dpj ...`` as a process of its own, started with ``settings`` (DPJ_...) and nothing else of them from outside.

    While ``supervised`` and not stopped by ``stop``, it is started again half a second after each end. All methods may be called
    from any thread; the log (standard error) is appended to over all starts.
    """

    def __init__(
        self, name: str, words: Sequence[str], health: str, settings: Mapping[str, str], *, state: Path, log: Path
    ) -> None:
        self.name = name
        self.health = health
        self.log = log
        self.supervised = True
        self.ends: list[Ended] = []
        self.starts = 0
        self._words = tuple(words)
        self._settings = dict(settings)
        self._state = state
        self._lock = threading.RLock()
        self._child: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self._asked = False
        self._restart_at = 0.0

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """None while it is down."""
        with self._lock:
            return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def is_running(self) -> bool:
        return self.pid is not None

    @property
    def is_ready(self) -> bool:
        """Whether its /readyz says 200 now."""
        if not self.is_running:
            return False
        try:
            return _health_client().get(self.health).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def progress(self) -> object:
        """How far it has got towards readiness: its start, what it waits for, or the CPU it burns before it can say so."""
        pid = self.pid
        try:
            told = _health_client().get(self.health).json()
            waits = told.get("waiting_for") or told.get("checks")
        except (httpx.HTTPError, ValueError, AttributeError):
            return self.starts, _cpu_ticks(pid)
        return self.starts, waits

    # --- what is done to it ------------------------------------------------------------------------------------------

    def start(self, **once: str) -> None:
        """Start it where it is down. ``once``: settings (DPJ_...) for this start only, such as DPJ_CRASH_POINT."""
        with self._lock:
            self._wanted = True
            if self.is_running:
                return
            self._asked = False
            self.starts += 1
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "runtime.cli.main", *self._words],
                    cwd=ROOT,
                    env={**environment(self._state), "DPJ_HOME": str(self._state.parent), **self._settings, **once},
                    stdin=subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                    start_new_session=True,
                )
            finally:
                os.close(descriptor)

    def signal(self, number: signal.Signals) -> None:
        """Send any signal (SIGSTOP and SIGCONT too) if it runs."""
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                return
            if number not in {signal.SIGSTOP, signal.SIGCONT}:
                self._asked = True
            with suppress(ProcessLookupError):
                self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Supervision starts it again."""
        child = self._child
        self.signal(signal.SIGKILL)
        if child is not None:
            child.wait(POLITE_SECONDS)

    def terminate(self) -> None:
        """SIGTERM without waiting. Supervision starts it again once it is gone."""
        self.signal(signal.SIGTERM)

    def stop(self, seconds: float = POLITE_SECONDS) -> int | None:
        """SIGTERM, wait, and leave it down until ``start``. The exit status; None if it did not run.

        Raises AssertionError if it took longer than ``seconds`` and had to be killed.
        """
        with self._lock:
            self._wanted = False
            child = self._child
            self.signal(signal.SIGTERM)
        if child is None:
            return None
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} still ran {seconds:.0f} s after SIGTERM") from None
        finally:
            self.tend()
        return code

    def restart(self, **once: str) -> None:
        """SIGKILL and a start at once, with settings for this start only."""
        with self._lock:
            self._wanted = False
        self.kill()
        self.tend()
        self.start(**once)

    def change(self, **settings: str) -> None:
        """Settings for all starts from now on."""
        with self._lock:
            self._settings.update(settings)

    # --- supervision -------------------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Note an end, and start again when it is time. Called by the supervisor many times a second."""
        with self._lock:
            if self._child is None:
                if self._wanted and self.supervised and self._restart_at and time.monotonic() >= self._restart_at:
                    self._restart_at = 0.0
                    self.start()
                return
            code = self._child.poll()
            if code is None:
                return
            self.ends.append(Ended(self.name, code, time.time(), self._asked))
            self._child = None
            self._restart_at = time.monotonic() + RESTART_SECONDS


def _cpu_ticks(pid: int | None) -> int:
    """User and system time of a process (proc(5)); 0 if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


@cache
def _health_client() -> httpx.Client:
    """One for all processes and threads. Connections are not kept: whoever answered may have been killed since."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(timeout=HEALTH_SECONDS, trust_env=False, limits=limits, verify=NO_TLS)


class Supervisor(threading.Thread):
    """Tends the processes until ``close``."""

    def __init__(self) -> None:
        super().__init__(name="supervisor", daemon=True)
        self.processes: dict[str, Process] = {}
        self._closing = threading.Event()

    def run(self) -> None:
        while not self._closing.wait(POLL_SECONDS):
            for process in list(self.processes.values()):
                process.tend()

    def close(self) -> None:
        """End everything: politely, all at once, then by force."""
        self._closing.set()
        self.join(5.0)
        for process in self.processes.values():
            process.supervised = False
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        ends = time.monotonic() + POLITE_SECONDS
        while any(process.is_running for process in self.processes.values()) and time.monotonic() < ends:
            time.sleep(POLL_SECONDS)
        for process in self.processes.values():
            process.kill()
