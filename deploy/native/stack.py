"""Bring the local stack up and down. Whatever goes wrong, nothing that was started here is left behind."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from deploy.native import certificates, files, ports, prerequisites, settings_file, site
from deploy.native.errors import StackError
from deploy.native.launch import Launch
from deploy.native.parts import ALL, of
from deploy.native.parts.base import NotReady, Part
from deploy.native.prerequisites import Prerequisite
from deploy.native.report import Reporter, Silent
from deploy.native.site import Profile, StackSite
from deploy.native.supervisor import Supervisor, Tracked

# The pipeline's own processes get their ports with the stack's.
PORTS = (
    *("api", "workers", "kafka", "kafka_controller", "registry", "postgres", "mongo", "ferretdb"),
    *("ged", "smtp", "minio", "vault"),
    *("kafka_proxied", "toxiproxy", "toxiproxy_listeners"),
    "clamd",
    "redis",
    "console",
    "alertmanager",
    "prometheus",
    "keycloak",
    "collector",
    "victorialogs",
)


@dataclass(frozen=True)
class Row:
    """One part as shown. ``state``: "ready", "no answer" (but it runs) or "down"; ``seconds`` from its
    start to its first good answer, if this call started it."""

    part: str
    version: str
    address: str
    state: str
    pid: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Stack:
    """What there is after ``up``, and what ``status`` finds. ``started`` is False if everything ran already."""

    name: str
    profile: Profile
    settings: Path
    rows: tuple[Row, ...]
    started: bool = False
    seconds: float = 0.0

    @property
    def ready(self) -> bool:
        return all(row.state == "ready" for row in self.rows)


def up(
    name: str,
    profile: Profile,
    *,
    port_base: int | None = None,
    reporter: Reporter | None = None,
    extras: Collection[str] = (),
    tls: bool | None = None,
    without: Collection[str] | None = None,
    then: Mapping[str, Callable[[], object]] | None = None,
) -> Stack:
    """Start what does not run yet and wait until every part has answered a real request.

    The servers outlive the caller. ``port_base`` numbers the ports from there on instead of choosing free ones. ``extras``
    are words for parts to have from now on that no profile has by itself; on most of them other servers depend from their start. ``tls``: whether
    all of them speak TLS alone from now on; None: as before. Certificates that are nearly over are made anew, and their servers
    started again. ``without`` names optional parts that it does without from now on; None: as before.
    ``then`` (embedded profile alone): what to do as soon as a part is ready, by its name, beside the start of the
    others; the settings are written by then. On any failure, Ctrl-C and SIGTERM included, what this call started is ended before
    the exception goes on. Raises StackError (Missing, BuildFailed, PartFailed with the part's name and last log lines).
    """
    began = time.monotonic()
    reporter = reporter or Silent()
    with _signals_raise(), _locked(name):
        _refuse_other_stores(name, profile)
        here = site.load_or_create(name, profile)
        supervisor = Supervisor(here.folder)
        supervisor.stop_strays()
        running = supervisor.running()
        _add_extras(here, extras, running)
        _choose_tls(here, running, tls=tls)
        if without is not None:
            here.identity["left_out"] = sorted(without)
            here.save()
        parts = of(here.profile, here.extras, here.left_out)
        for outdated in _certify(here, parts, running):
            reporter.note(f"{outdated} is started again: it has a new certificate")
            supervisor.stop([outdated])
            del running[outdated]
        missing = [part for part in parts if part.name not in running]
        supervisor.stop([name for name in running if name not in {part.name for part in parts}])
        if missing:
            prerequisites.ensure(lambda: _lacking(here, missing), reporter)
        _assign_ports(here, [part for part in ALL if part.name in running], port_base)
        launch = Launch(here, supervisor, reporter, parts, frozenset(running), then)
        is_new = not settings_file.path(here).exists()
        try:
            if then:
                settings_file.write(here)
            launch.run()
            settings_file.write(here)
        except BaseException:
            with _signals_wait():
                launch.undo()
                if is_new:  # they would lead to what never was
                    settings_file.path(here).unlink(missing_ok=True)
            raise
        rows = tuple(_row(here, part, supervisor, "ready", launch.seconds.get(part.name)) for part in parts)
        return Stack(name, here.profile, settings_file.path(here), rows, bool(missing), time.monotonic() - began)


def down(name: str, *, wipe: bool = False) -> list[str]:
    """End every process of the stack; its data stay, unless ``wipe``. Returns the names of the parts that ran.

    Raises StackError for a name that can't be one; a stack that was never up is no error.
    """
    with _locked(name):
        supervisor = Supervisor(site.state_folder(name))
        running = list(supervisor.running())
        with _signals_wait():
            supervisor.stop(list(supervisor.tracked()))
            supervisor.stop_strays()  # even if somebody has deleted the folder
        here = site.load(name)
        if wipe and here is not None:
            for part in ALL:
                part.wipe(here)
            shutil.rmtree(here.folder)
        return running


def status(name: str) -> Stack | None:
    """What runs, asked now; None if there is no such stack."""
    here = site.load(name)
    if here is None:
        return None
    supervisor = Supervisor(here.folder)
    running = supervisor.running()
    rows = []
    for part in of(here.profile, here.extras, here.left_out):
        state = "down"
        if part.name in running:
            state = "ready"
            try:
                part.ask(here)
            except NotReady:
                state = "no answer"
        rows.append(_row(here, part, supervisor, state, None))
    return Stack(name, here.profile, settings_file.path(here), tuple(rows))


def log(name: str, part: str, lines: int) -> str:
    """The last lines of a part's log; empty if it has none."""
    return files.tail(Supervisor(site.state_folder(name)).log(part), lines)


def names() -> list[str]:
    """All stacks of this home, running or not."""
    return sorted(path.parent.name for path in files.home().glob("*/stack.json"))


def profile_of(name: str) -> Profile | None:
    """The profile of an existing stack, else None."""
    here = site.load(name)
    return here.profile if here else None


def _row(here: StackSite, part: Part, supervisor: Supervisor, state: str, seconds: float | None) -> Row:
    process = supervisor.running().get(part.name)
    return Row(part.name, part.version(here), part.address(here), state, process.pid if process else None, seconds)


def _lacking(here: StackSite, parts: list[Part]) -> list[Prerequisite]:
    """What these parts, and the pipeline, need and the machine can't be given without its owner."""
    return [*(item for part in parts for item in part.lacks(here)), *prerequisites.libmagic()]


def _refuse_other_stores(name: str, profile: Profile) -> None:
    """An audit log whose heads are in one place and whose entries are left in another would look like a forged one."""
    here = site.load(name)
    store = here and settings_file.audit_store(here)
    if store not in {None, settings_file.AUDIT_STORES[profile]}:
        raise StackError(
            f"stack {name} has its audit log in {store}, where the profile {profile} would not look: take another name, or give"
            f" up what it holds: dpj stack down --wipe --name {name}"
        )


def _add_extras(here: StackSite, extras: Collection[str], running: Collection[str]) -> None:
    added = set(extras) - here.extras
    if running and (early := added - {part.extra for part in ALL if part.late}):
        raise StackError(f"stack {here.name} runs without {', '.join(sorted(early))}: bring it down first")
    if added:
        here.identity["extras"] = sorted(here.extras | added)
        here.save()


def _choose_tls(here: StackSite, running: Collection[str], *, tls: bool | None) -> None:
    if tls in {None, here.tls}:
        return
    if running:
        raise StackError(f"stack {here.name} runs {'without' if tls else 'with'} TLS: bring it down first")
    here.identity["tls"] = tls
    here.save()


def _certify(here: StackSite, parts: list[Part], running: Mapping[str, Tracked]) -> list[str]:
    """See to the certificates; names of servers that run with one that was replaced since they started."""
    if not here.tls:
        return []
    servers = [part.name for part in parts if part.certified]
    certificates.ensure(here, [certificates.API, *servers])
    return [
        name for name in servers if name in running and running[name].older_than(certificates.changed_at(here, name))
    ]


def _assign_ports(here: StackSite, running: list[Part], base: int | None) -> None:
    in_use = {name for part in running for name in PORTS if name == part.port or name.startswith(f"{part.port}_")}
    if running:
        in_use |= {"api", "workers", "console"}  # the pipeline's own processes may run on them
    in_use &= here.ports.keys()  # a release may add ports to servers that run
    with files.locked(files.home() / ".locks" / "ports"):
        chosen = ports.assign(PORTS, here.ports, in_use, site.ports_of_others(here.name), base)
        here.identity["ports"] = chosen
        here.save()


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    site.state_folder(name)  # refuses names that are no names before one becomes a path
    files.home().mkdir(mode=0o700, parents=True, exist_ok=True)
    files.private_folder(files.home() / ".locks")
    with files.locked(files.home() / ".locks" / name):
        yield


_Handler = Callable[[int, FrameType | None], object] | int | None


@contextlib.contextmanager
def _handling(numbers: tuple[signal.Signals, ...], handler: _Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may, and only it is interrupted
        return
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def _signals_raise() -> contextlib.AbstractContextManager[None]:
    """SIGTERM and SIGHUP end ``up`` like Ctrl-C does: by an exception, so that it can clean up."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    return _handling((signal.SIGTERM, signal.SIGHUP), leave)


def _signals_wait() -> contextlib.AbstractContextManager[None]:
    """A second Ctrl-C does not interrupt the clean-up, which has its own time limits."""
    return _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)
