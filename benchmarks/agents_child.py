"""One contestant of the agents bench, in a process of its own: ``python -m benchmarks.agents_child`` with a Task as JSON on
standard input. Says ``{"at": "first"}`` when its first record comes, and ``{"at": "done", ...}`` when the last is finished."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.agents_workload import BenchProgress, Task, site_of
from runtime.processes.lifetime import tune_garbage_collector
from runtime.wiring.site import Site

Contestant = Callable[[Task, Site, BenchProgress], Awaitable[None]]


async def _main(task: Task) -> None:
    from benchmarks.agents_ours import ours
    from benchmarks.agents_peers import bare, faststream

    contestants: dict[str, Contestant] = {"ours": ours, "bare": bare, "faststream": faststream}
    site = site_of(task)
    try:
        await site.codec.check()
        if task.spans_to:  # as a worker does it, before what is there is kept from the garbage collector
            from runtime.observability.tracing import install

            install(site.settings.model_copy(update={"tracing_endpoint": task.spans_to}), "bench")
        tune_garbage_collector()
        await contestants[task.contestant](task, site, BenchProgress(task.count))
    finally:
        await site.aclose()


def main() -> None:
    """Run the task."""
    task = Task(**json.loads(sys.stdin.readline()))
    if task.contestant == "quix":
        from benchmarks.agents_quix import quix

        tune_garbage_collector()
        quix(task, BenchProgress(task.count))
    else:
        uvloop.run(_main(task))


if __name__ == "__main__":
    main()
