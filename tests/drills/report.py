"""docs/reports/operator-drills.md, from what was timed."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import machine
from tests.drills.stopwatch import ALARM, DIAGNOSIS, REPAIR, REST, SIGN, Stopwatch

ROOT: Final = Path(__file__).resolve().parents[2]
PICTURES: Final = ROOT / "docs" / "images"
REPORT: Final = ROOT / "docs" / "reports" / "operator-drills.md"
LIMIT_SECONDS: Final = 60.0
LIMIT_CLICKS: Final = 2
WIDTH: Final = 118
_HEAD: Final = (
    "| incident | alarm | Now names it | diagnosis | from the first sign | clicks | repaired | at rest | load | code |"
)


def keep(folder: Path, name: str, watch: Stopwatch, code: str) -> None:
    """What was timed, until every incident was. ``code``: of which it was, before the drill changed the pictures."""
    watch.code, watch.load = code, os.getloadavg()[1]
    folder.mkdir(parents=True, exist_ok=True)
    told = {field.name: getattr(watch, field.name) for field in fields(watch) if field.init and field.name[0] != "_"}
    (folder / f"{name}.json").write_text(json.dumps(told), "utf-8")


def kept(folder: Path, name: str) -> Stopwatch | None:
    """None if it was not timed yet."""
    path = folder / f"{name}.json"
    return Stopwatch(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def write(watches: Sequence[Stopwatch], uploads: float, missing: Sequence[str]) -> None:
    """``uploads``: a second. ``missing``: incidents that were not timed."""
    here = machine()
    lines = [
        "# Drills of operators",
        "",
        "Made by `make operator-drills`. What an operator sees, reads and does is in [Drills](../drills.md).",
        "",
        *_surroundings(here, uploads),
        "",
        _HEAD,
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_row, watches),
        "",
        *([f"**Not timed to its end**: {', '.join(missing)}.", ""] if missing else []),
        "Seconds are a monotonic clock's, from the moment of the fault, without the time in which the drill takes its",
        "pictures or waits for an alert that the operator does not need. **Alarm**: the condition of the first alert that",
        "tells of it holds, at a real Prometheus with a site's rules and intervals (15 s); its rule waits as long again as",
        "the bracket says. **Now names it**: the line stands on the console's first page, in a real Chromium that nobody",
        "reloads. **Diagnosis**: the page is open that says what heads the queue, what it waits for, since when and what to",
        "do; no time for reading is in it. **From the first sign**: from alarm or line, whichever was first, to there.",
        "",
        "## What was read and checked",
        "",
        *(line for watch in watches for line in _told(watch)),
    ]
    REPORT.write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def failures(watches: Sequence[Stopwatch]) -> list[str]:
    """What is slower, or further away, than an operator was promised."""
    found = []
    for watch in watches:
        if watch.to_diagnosis >= LIMIT_SECONDS:
            found.append(f"{watch.title}: {watch.to_diagnosis:.0f} s from the first sign to the diagnosis")
        if watch.clicks > LIMIT_CLICKS:
            found.append(f"{watch.title}: {watch.clicks} clicks")
    return found


def _row(watch: Stopwatch) -> str:
    seconds = {name: f"{watch.marks[name]:.0f} s" for name in (ALARM, SIGN, DIAGNOSIS, REPAIR, REST)}
    alarm = f"{seconds[ALARM]} `{watch.alert}` (+ {watch.alert_waits})"
    first = f"**{watch.to_diagnosis:.1f} s**"
    rest = (seconds[REPAIR], seconds[REST], f"{watch.load:.0f}", f"`{watch.code}`")
    cells = (watch.title, alarm, seconds[SIGN], seconds[DIAGNOSIS], first, watch.clicks, *rest)
    return f"| {' | '.join(map(str, cells))} |"


def _told(watch: Stopwatch) -> list[str]:
    said = " ".join(f"“{one}”" for one in watch.sentences)
    return [
        textwrap.fill(f"**{watch.title}.** Now: {said}", WIDTH),
        "",
        textwrap.fill(f"Clicked: {'; '.join(watch.path)}.", WIDTH),
        textwrap.fill(f"Checked in PostgreSQL and the GED: {watch.checked}.", WIDTH),
        "",
    ]


def _surroundings(here: dict[str, Any], uploads: float) -> list[str]:
    return [
        f"{here['measured_at'][:10]}. Machine: {here['cores']} cores ({here['processor']}), {here['memory_gib']:.0f} GiB, {here['system']}.",
        f"All servers (full profile, with Prometheus), our processes, the load of {uploads:g} uploads a second with as many",
        "decisions, and the browser are on it. *Load* is its load average over the five minutes before the end of the",
        "incident: what is far above the number of cores was other work on the machine.",
    ]


def code_here() -> str:
    """The commit, with a mark if the checkout differs from it."""
    asked = ["git", "describe", "--always", "--dirty"]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"
