"""Ports that servers of a test listen on."""

from __future__ import annotations

import os
import random
from typing import Final

from deploy.native import ports

#: Below those of outgoing connections and of stacks. Each of pytest's workers has ports of its own among them: a test may choose one
#: long before anybody listens on it.
FIRST: Final = 10_000
EACH: Final = 1_200
WORKERS: Final = 8
assert FIRST + WORKERS * EACH <= ports.FIRST

_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
#: In turn, so that two that were chosen at once differ; from a random one on, for runs side by side.
_next = random.randrange(EACH)


def free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that nobody listens on now."""
    global _next  # noqa: PLW0603 - one turn for the whole process
    while True:
        if _next + count > EACH:
            _next = 0
        first = FIRST + _WORKER * EACH + _next
        _next += count
        if all(map(ports.free, range(first, first + count))):
            return first


def free_port() -> int:
    """A port that nobody listens on now."""
    return free_ports(1)
