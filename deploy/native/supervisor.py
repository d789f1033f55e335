"""Starts servers, remembers which ones are ours, and ends them.

A process is known by its id *and* its start time (and the machine's boot), because ids are reused. Each server leads a
session of its own, so that Ctrl-C in the terminal never reaches it, and carries ``DPJ_STACK_STATE`` in its environment,
by which ``down`` finds even those that a killed ``up`` had no time to write down. Where a process keeps its environment to
itself, the same mark may stand among its arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.native import files

MARK = "DPJ_STACK_STATE"
STOP_MARK = "DPJ_STACK_STOP"  # number of the signal that ends this server in good order
POLITE_SECONDS = 20.0  # Kafka's and PostgreSQL's orderly ends take 1 to 3 s; 20 s covers a loaded machine
KILL_SECONDS = 10.0
POLL_SECONDS = 0.05
CLOCK_SECONDS = 5.0  # the wall clock may have been set a little since a process started

# Our own children must be waited for, or they stay as zombies as long as this process lives.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Command:
    """What to run. ``user`` changes the account (only root can); ``stop`` is the signal for an orderly end."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    user: str | None = None
    stop: int = signal.SIGTERM

    @property
    def group(self) -> int | None:
        """The account's own group, whatever its name (``nobody``'s is ``nogroup`` on Debian)."""
        return None if self.user is None else pwd.getpwnam(self.user).pw_gid


@dataclass(frozen=True)
class Tracked:
    """One server process. ``started`` is in clock ticks since ``boot`` (field 22 of /proc/PID/stat)."""

    part: str
    pid: int
    started: int
    boot: str
    stop: int

    def alive(self) -> bool:
        _reap(self.pid)
        return self.boot == _boot() and _start_time(self.pid) == self.started

    def older_than(self, moment: float) -> bool:
        """Whether it was started well before ``moment`` (Unix seconds; 0 is before everything). Only for one that is alive."""
        since_boot = float(Path("/proc/uptime").read_text("ascii").split()[0])
        began = time.time() - since_boot + self.started / os.sysconf("SC_CLK_TCK")
        return began + CLOCK_SECONDS < moment


class Supervisor:
    """The processes of one stack, kept in ``processes.json`` of its state folder."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._file = state / "processes.json"
        self._lock = threading.Lock()

    @property
    def state(self) -> Path:
        """The state folder, which marks what was started from here."""
        return self._state

    def tracked(self) -> dict[str, Tracked]:
        try:
            rows = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return {row["part"]: Tracked(**row) for row in rows}

    def running(self) -> dict[str, Tracked]:
        return {part: process for part, process in self.tracked().items() if process.alive()}

    def log(self, part: str) -> Path:
        return self._state / "logs" / f"{part}.log"

    def start(self, part: str, command: Command) -> Tracked:
        """Start a server with its output in its log; the previous log is kept as ``.log.1``."""
        log = self.log(part)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, files.OWNER_ONLY)
        try:
            child = subprocess.Popen(
                command.arguments,
                cwd=command.folder,
                env={**environment(self._state), **command.environment, STOP_MARK: str(int(command.stop))},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o077,
                user=command.user,
                group=command.group,
                extra_groups=None if command.user is None else [],
            )
        finally:
            os.close(output)
        _children[child.pid] = child
        process = Tracked(part, child.pid, _start_time(child.pid) or 0, _boot(), int(command.stop))
        with self._lock:
            everything = self.tracked() | {part: process}
            files.write_json(self._file, [asdict(row) for row in everything.values()])
        return process

    def stop(self, parts: list[str]) -> None:
        """End these servers, together: politely first, by force when they don't go."""
        with self._lock:
            everything = self.tracked()
            ending = [everything.pop(part) for part in parts if part in everything]
            if not ending:
                return
            _end(ending)
            files.write_json(self._file, [asdict(row) for row in everything.values()])

    def stop_strays(self) -> None:
        """End what carries our mark and neither is written down nor descends from what is: left by a killed ``up``."""
        known = {process.pid for process in self.running().values()}
        _end([process for process in self._marked() if not known & _line(process.pid)])

    def _marked(self) -> list[Tracked]:
        mark = f"{MARK}={self._state}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = _variables(folder)
                pid = int(folder.name)
                if mark in variables and pid != os.getpid():
                    found.append(Tracked("stray", pid, _start_time(pid) or 0, _boot(), _stop_signal(variables)))
        return found


def _variables(folder: Path) -> list[bytes]:
    """The environment of the process in /proc, or its arguments if that is not ours to read."""
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except PermissionError:
        return (folder / "cmdline").read_bytes().split(b"\0")


def _end(processes: list[Tracked]) -> None:
    for process in processes:
        if process.alive():
            _signal(process.pid, process.stop)
    left = _wait(processes, POLITE_SECONDS)
    for process in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        _signal(process.pid, signal.SIGKILL)
    _wait(left, KILL_SECONDS)


def _wait(processes: list[Tracked], seconds: float) -> list[Tracked]:
    deadline = time.monotonic() + seconds
    left = [process for process in processes if process.alive()]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = [process for process in left if process.alive()]
    return left


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap(pid: int) -> None:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        _children.pop(pid, None)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, state, on (proc(5)); empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _start_time(pid: int) -> int | None:
    """Start in clock ticks since boot; None if there is no such process or it is a zombie."""
    fields = _stat(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def _line(pid: int) -> set[int]:
    """``pid`` and its ancestors. PostgreSQL's children lead sessions of their own, so a session says nothing."""
    line: set[int] = set()
    while pid > 1 and pid not in line:
        line.add(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0
    return line


def _stop_signal(variables: list[bytes]) -> int:
    prefix = f"{STOP_MARK}=".encode()
    return next((int(value.removeprefix(prefix)) for value in variables if value.startswith(prefix)), signal.SIGTERM)


def environment(state: Path) -> dict[str, str]:
    """For the processes of a stack: little of ours (no settings and secrets of other programs), and the mark."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME", "SSL_CERT_FILE", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ} | {MARK: str(state)}
