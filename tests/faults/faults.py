"""Every way of breaking the site: a kind has a name, what it breaks, how it begins and how it ends.

Two faults that hold the same ``target`` never overlap. ``group`` is what the report counts by.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.site import FaultSite

CONSUMERS = ("integrity", "renditions", "archiving", "notification", "audit")
PROCESSES = ("api", "relay", "relay-2", *(f"worker-{name}" for name in CONSUMERS))
SERVERS = ("kafka", "registry", "postgres", "ferretdb", "smtp", "minio", "vault", "clamd")
LINES = (*SERVERS, "ged")
WEB = ("registry", "ged", "minio", "vault")
LATENCY_MS = 2000
HALF = 0.5

Undo = Callable[[], None]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """``begin`` breaks it and gives what mends it; both may take seconds."""

    name: str
    group: str
    target: str
    begin: Callable[[FaultSite], Undo]


def _kills(name: str) -> Callable[[FaultSite], Undo]:
    """Gone at once, and away until the end."""

    def begin(site: FaultSite) -> Undo:
        process = site.process(name)
        process.supervised = False
        process.kill()

        def end() -> None:
            process.supervised = True
            process.start()

        return end

    return begin


def _terms(name: str) -> Callable[[FaultSite], Undo]:
    """Told to go; supervision starts it again as soon as it has gone."""

    def begin(site: FaultSite) -> Undo:
        site.process(name).terminate()
        return lambda: None

    return begin


def _freezes(name: str) -> Callable[[FaultSite], Undo]:
    """Stopped in its tracks, with all that it holds; it goes on as if nothing had been."""

    def begin(site: FaultSite) -> Undo:
        process = site.process(name)
        process.signal(signal.SIGSTOP)
        return lambda: process.signal(signal.SIGCONT)

    return begin


def _joins(consumer: str) -> Callable[[FaultSite], Undo]:
    """One more worker in a group, which leaves again."""

    def begin(site: FaultSite) -> Undo:
        added = site.add_worker(consumer)
        return lambda: site.remove(added)

    return begin


def _stops(name: str) -> Callable[[FaultSite], Undo]:
    def begin(site: FaultSite) -> Undo:
        site.server(name).stop()
        return site.server(name).start

    return begin


def _crashes(name: str) -> Callable[[FaultSite], Undo]:
    def begin(site: FaultSite) -> Undo:
        site.server(name).kill()
        return site.server(name).start

    return begin


def _seals(site: FaultSite) -> Undo:
    site.vault.seal()
    return site.vault.unseal


def _line(name: str, act: str, *arguments: int) -> Callable[[FaultSite], Undo]:
    def begin(site: FaultSite) -> Undo:
        proxy = site.proxy(name)
        getattr(proxy, act)(*arguments)
        return proxy.restore

    return begin


def _errors(name: str, ratio: float) -> Callable[[FaultSite], Undo]:
    def begin(site: FaultSite) -> Undo:
        site.http_errors(name, 500, ratio)
        return lambda: site.http_ok(name)

    return begin


def _fills(site: FaultSite) -> Undo:
    site.store_full()
    return site.store_free


def _all() -> Iterator[FaultKind]:
    for name in PROCESSES:
        group = "worker" if name.startswith("worker") else "relay" if name.startswith("relay") else name
        yield FaultKind(f"SIGKILL {name}", f"SIGKILL {group}", f"process {name}", _kills(name))
        yield FaultKind(f"SIGTERM {name}", f"SIGTERM {group}", f"process {name}", _terms(name))
        yield FaultKind(f"SIGSTOP {name}", f"SIGSTOP {group}", f"process {name}", _freezes(name))
    for name in CONSUMERS:
        yield FaultKind(f"join {name}", "worker joins and leaves", f"group {name}", _joins(name))
    for name in SERVERS:
        yield FaultKind(f"stop {name}", f"{name} stopped", f"server {name}", _stops(name))
        yield FaultKind(f"crash {name}", f"{name} killed", f"server {name}", _crashes(name))
    yield FaultKind("seal vault", "vault sealed", "server vault", _seals)
    for name in LINES:
        cut = "ged cut off" if name == "ged" else "line cut"
        yield FaultKind(f"cut {name}", cut, f"line {name}", _line(name, "cut"))
        yield FaultKind(f"latency {name}", "latency 2 s", f"line {name}", _line(name, "latency", LATENCY_MS))
        yield FaultKind(f"reset {name}", "connections reset", f"line {name}", _line(name, "reset_peer"))
        yield FaultKind(f"silence {name}", "line silent", f"line {name}", _line(name, "silent"))
    for name in WEB:
        yield FaultKind(f"500s {name}", "HTTP 500s", f"web {name}", _errors(name, 1.0))
        yield FaultKind(f"some 500s {name}", "HTTP 500s, half", f"web {name}", _errors(name, HALF))
    yield FaultKind("store full", "object store full", "web minio", _fills)


KINDS = {kind.name: kind for kind in _all()}
GROUPS = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
