"""The drills of docs/drills.md, played on a stack of their own and timed.

    python -m tests.drills [--stack NAME] [--keep] [--only ged,poison,relay,kafka] [--uploads 2] [--out FOLDER]

Writes the pictures of docs/drills.md, and docs/reports/operator-drills.md, which names what was not timed. With ``--only`` the others' figures
stay, each with its code (kept in ``--out``). Exit status 1 if a diagnosis took 60 seconds or more, or more than two clicks.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from playwright.sync_api import Error as PlaywrightError

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
    chosen = [(name, play) for name, play in INCIDENTS if name in asked.only.split(",")]
    try:
        failed = _play(asked, chosen)
    finally:
        if not asked.keep:
            native.down(asked.stack, wipe=True)
    watches = [watch for name, _ in INCIDENTS if (watch := report.kept(asked.out, name))]
    if watches:
        missing = [name for name, _ in INCIDENTS if report.kept(asked.out, name) is None]
        report.write(watches, asked.uploads, missing)
    failures = [*(f"{name}: did not come to its end" for name in failed), *report.failures(watches)]
    for failure in failures:
        _say(failure)
    return 1 if failures else 0


def _play(asked: argparse.Namespace, chosen: Sequence[tuple[str, Callable[[Scene], Stopwatch]]]) -> list[str]:
    """Names of incidents that did not come to their end."""
    failed: list[str] = []
    code = report.code_here()
    site = DrillSite(asked.stack, _say)
    try:
        with chromium() as browser:
            load = Load(site.pipeline, asked.uploads)
            operator = Operator(browser, site.console_url, report.PICTURES, asked.out)
            scene = Scene(site, operator, Alarms(site.prometheus_url), load)
            load.start()
            for name, play in chosen:
                if name != "ged":  # the local GED forgets with its process: nothing is archived before it was stopped
                    load.validating.set()
                _say(f"{name}: begins")
                try:
                    watch = play(scene)
                except (AssertionError, PlaywrightError):
                    traceback.print_exc()
                    failed.append(name)
                    continue
                report.keep(asked.out, name, watch, code)
                _say(f"{name}: {watch.marks}, {watch.clicks} clicks, {watch.to_diagnosis:.1f} s from the first sign")
    finally:
        site.close(keep=asked.keep)
    return failed


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
