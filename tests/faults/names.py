"""What a fault site is called: its stack, and with it ports, topics, tables, buckets and state, are its own.

Under pytest-xdist each worker has a site, named after the run; whoever started the run can then tell its sites, and end those
whose worker was ended before it could do so itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

PREFIX = "faults"


def site_name() -> tuple[str, bool]:
    """The site's name in this process, and whether its servers may hold what earlier runs left there (DPJ_FAULT_STACK)."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if reused := os.environ.get("DPJ_FAULT_STACK"):
        return (f"{reused}-{worker}" if worker else reused), True
    return (f"{_run(os.getppid())}{worker}" if worker else f"{PREFIX}-{os.getpid()}"), False


def sites_of_workers(names: Iterable[str]) -> Iterator[str]:
    """Those of the stacks called ``names`` that belong to workers of the pytest run that this process leads."""
    return (name for name in names if name.startswith(_run(os.getpid())))


def _run(leader: int) -> str:
    return f"{PREFIX}-{leader}-"
