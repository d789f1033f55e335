"""``python -m benchmarks [NAME ...] [--quick] [--out DIR] [--stack NAME]``.

A bench is a module of this package with ``async def run(site: BenchSite, quick: bool) -> Report``, named in ``BENCHES``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from benchmarks.console import note, show
from benchmarks.machine import libraries, machine
from benchmarks.report import BenchReport
from benchmarks.results import RESULTS, plot_again, publish, write
from benchmarks.site import BenchSite

#: In the order in which they run: the name, and the module that measures it.
BENCHES: Final = {
    "thumbnails": "benchmarks.thumbnails",
    "envelope": "benchmarks.envelope",
    "uploads": "benchmarks.uploads",
    "large": "benchmarks.large",
    "agents": "benchmarks.agents",
    "latency": "benchmarks.latency",
    "growth": "benchmarks.growth",
    "owed": "benchmarks.owed",
    "overview": "benchmarks.overview",
    "pages": "benchmarks.pages",
}


class Bench(Protocol):
    """What a bench's module offers."""

    async def run(self, site: BenchSite, quick: bool) -> BenchReport: ...


def main() -> int:
    """Run the benches; 0 if all of them ran, whatever their figures say."""
    arguments = _arguments()
    if arguments.docs:
        plot_again(RESULTS)
        publish()
        return 0
    folder = arguments.out or (RESULTS.parent.parent / ".dpj" / "bench-quick" if arguments.quick else RESULTS)
    site = BenchSite(arguments.stack)
    try:
        names = arguments.names or BENCHES
        failed = [name for name in names if not _one(name, site, folder, quick=arguments.quick)]
    finally:
        site.close()
    if folder.resolve() == RESULTS:
        publish()
    if failed:
        note(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


def _one(name: str, site: BenchSite, folder: Path, *, quick: bool) -> bool:
    note(f"{name} ...")
    before = machine()
    began = time.monotonic()
    try:
        bench = cast("Bench", import_module(BENCHES[name]))
        report = asyncio.run(bench.run(site, quick=quick))
    except Exception as error:  # noqa: BLE001 - the others still run; the exit status tells
        import traceback

        traceback.print_exception(error)
        return False
    circumstances = {
        **before,
        "seconds": round(time.monotonic() - began, 1),
        "quick": quick,
        "servers": site.versions,
        "libraries": libraries(),
    }
    write(folder, report, circumstances)
    show(report)
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the pipeline side by side.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", choices=[*BENCHES, []], help=f"any of: {', '.join(BENCHES)}"
    )
    parser.add_argument("--quick", action="store_true", help="small inputs, few rounds; results go to .dpj/bench-quick")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for JSON and plots (default: benchmarks/results)"
    )
    parser.add_argument("--stack", default="bench", metavar="NAME", help="a stack that runs is used as it is and kept")
    parser.add_argument(
        "--docs", action="store_true", help="measure nothing: plots and docs/benchmarks.md from the results"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
