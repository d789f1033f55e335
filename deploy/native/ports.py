"""Ports of a stack: chosen once, kept in its identity file, moved only when another program has taken one."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection, Iterable, Mapping

LOOPBACK = "127.0.0.1"
# Below Linux's range for outgoing connections (32768-60999), so that none of those can take a port while we are down.
FIRST, LAST = 20_000, 32_000
WORKER_PORTS = 16  # health and metrics of the workers: this many ports from the base
BLOCKS = {"workers": WORKER_PORTS, "toxiproxy_listeners": 10}


def free(port: int) -> bool:
    """Whether a server could listen on ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def width(name: str) -> int:
    return BLOCKS.get(name, 1)


def assign(
    names: Iterable[str], kept: Mapping[str, int], in_use: Collection[str], taken: Collection[int], base: int | None
) -> dict[str, int]:
    """A port per name.

    ``kept``: those of the last time. ``in_use``: names whose server runs, so that the port is rightly busy. ``taken``:
    ports of other stacks, running or not. ``base``: number the ports from here on instead of choosing them.
    """
    chosen: dict[str, int] = {}
    occupied = set(taken)
    following = base
    for name in names:
        span = width(name)
        port = kept.get(name)
        if name not in in_use:
            if following is not None:
                port, following = following, following + span
            if port is None or (base is None and not _usable(port, span, occupied)):
                port = _search(span, occupied)
        if port is None:  # a running server always has its port in ``kept``
            raise LookupError(name)
        chosen[name] = port
        occupied.update(range(port, port + span))
    return chosen


def _usable(port: int, span: int, occupied: Collection[int]) -> bool:
    return all(candidate not in occupied and free(candidate) for candidate in range(port, port + span))


def _search(span: int, occupied: Collection[int]) -> int:
    for _ in range(1000):
        port = random.randrange(FIRST, LAST - span)  # noqa: S311 - no secret, only a spread
        if _usable(port, span, occupied):
            return port
    raise OSError(f"no {span} free ports between {FIRST} and {LAST}")
