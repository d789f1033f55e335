"""The drills of docs/drills.md, played on a stack of their own and timed.

    python -m tests.drills [--stack NAME] [--keep] [--only ged,poison,relay,kafka] [--uploads 2] [--out FOLDER]

Writes the pictures of docs/drills.md and docs/reports/operator-drills.md, unless ``--only`` leaves some out: then all goes to
``--out``. Exit status 1 if a diagnosis took 60 seconds or more, or more than two clicks.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.native import stack as native
from tests.drills import report
from tests.drills.alarms import Alarms
from tests.drills.incidents import INCIDENTS, Scene
from tests.drills.load import Load
from tests.drills.operator import Operator
from tests.drills.site import DrillSite
from tests.drills.stopwatch import Stopwatch
from tests.support.browser import chromium


def main() -> int:
    asked = _arguments()
    load_before = os.getloadavg()[0]
    chosen = [(name, play) for name, play in INCIDENTS if name in asked.only.split(",")]
    whole = len(chosen) == len(INCIDENTS)
    pictures = report.ROOT / "docs" / "images" if whole else asked.out
    try:
        watches = _play(asked, chosen, pictures)
    finally:
        if not asked.keep:
            native.down(asked.stack, wipe=True)
    path = report.ROOT / "docs" / "reports" / "operator-drills.md" if whole else asked.out / "operator-drills.md"
    report.write(path, watches, asked.uploads, load_before)
    _say(f"written: {path}")
    failures = report.failures(watches)
    for failure in failures:
        _say(failure)
    return 1 if failures else 0


def _play(
    asked: argparse.Namespace, chosen: Sequence[tuple[str, Callable[[Scene], Stopwatch]]], pictures: Path
) -> list[Stopwatch]:
    site = DrillSite(asked.stack, _say)
    watches = []
    try:
        with chromium() as browser:
            load = Load(site.pipeline, asked.uploads)
            operator = Operator(browser, site.console_url, pictures, asked.out)
            scene = Scene(site, operator, Alarms(site.prometheus_url), load)
            load.start()
            for name, play in chosen:
                if name != "ged":  # the local GED forgets with its process: nothing is archived before it was stopped
                    load.validating.set()
                _say(f"{name}: begins")
                watch = play(scene)
                watches.append(watch)
                _say(f"{name}: {watch.marks}, {watch.clicks} clicks, {watch.to_diagnosis:.1f} s from the first sign")
    finally:
        site.close()
    return watches


def _arguments() -> argparse.Namespace:
    words = argparse.ArgumentParser(prog="python -m tests.drills", description="Drills of operators, timed.")
    words.add_argument("--stack", default=f"drills-{os.getpid()}", help="a running full stack is taken as it is")
    words.add_argument("--keep", action="store_true", help="leave the stack up")
    words.add_argument("--only", default=",".join(name for name, _ in INCIDENTS), help="names, with commas")
    words.add_argument("--uploads", type=float, default=2.0, help="a second")
    words.add_argument(
        "--out", type=Path, default=report.ROOT / ".dpj" / "drills", help="for all that is not committed"
    )
    return words.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
