"""``make soak``: a thousand faults, round after round; interrupted and called again, it goes on where it was.

In three rounds of four a store forgets, too (``losses``): Kafka loses its disk, the groups' offsets move, PostgreSQL goes back in time.

Several sites may share a soak, each with a folder of its own: ``--first N`` has one begin with round N, and ``--merge FOLDER...``
writes one report of all. ``--round N`` replays one round of a seed and leaves state and report alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.faults import report
from tests.faults.checker import Checker
from tests.faults.journal import Writer, read
from tests.faults.losses import LOSSES, OF_RECORDS, WIPED
from tests.faults.rounds import Round, RoundResult
from tests.faults.schedule import LONG, MANY, Durations, plan
from tests.faults.site import FaultSite
from tests.support.pipeline import ROOT

PER_ROUND = 40


class Soak:
    """``state`` is what is on disk: seed, size, and the results of the rounds that are done."""

    def __init__(self, folder: Path, report_path: Path, state: dict[str, Any], console: Console) -> None:
        self._folder = folder
        self._report = report_path
        self.state = state
        self._console = console
        self._here: list[Path] = []
        #: Kafka's ends before this run; empty once its disk was lost.
        self._since: Mapping[tuple[str, int], int] = {}

    @property
    def done(self) -> int:
        return sum(sum(one["faults"].values()) for one in self.state["rounds"])

    async def run(self, site: FaultSite) -> bool:
        """All rounds that are left; whether no promise was broken."""
        checker = Checker(site.pipeline)
        await checker.prepare()
        self._since = ends = await asyncio.to_thread(checker.stores.ends)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console) as progress:
            bar = progress.add_task("faults", total=self.state["faults"], completed=self.done)
            while self.done < self.state["faults"]:
                number = self._next()
                size = min(self.state["per_round"], self.state["faults"] - self.done)
                self._keep(await self.one(site, checker, number, size))
                progress.update(bar, completed=self.done, description=f"faults, {self._broken()} violations")
        return await self._whole(checker, self._since is not ends) and not self._broken()

    def _next(self) -> int:
        """The first round that is not done: a set-aside one has its place in the middle."""
        done = {one["number"] for one in self.state["rounds"]}
        return next(number for number in itertools.count(int(self.state.get("first", 0))) if number not in done)

    def set_aside(self, number: int, why: str) -> None:
        """Have a broken round played again, once its cause is mended. What it found stays in the report, with ``why``."""
        rounds = self.state["rounds"]
        found = next(one for one in rounds if one["number"] == number)
        rounds.remove(found)
        kept = {name: found[name] for name in ("number", "code", "violations")}
        self.state.setdefault("again", []).append({**kept, "why": why})
        self.save()

    async def one(self, site: FaultSite, checker: Checker, number: int, size: int) -> RoundResult:
        """One round of the seed, on a tenant of its own."""
        seed, durations = self.state["seed"], Durations(self.state["least"], self.state["most"], LONG.haste)
        tenant = f"soak-{secrets.token_hex(3)}-{number}"
        self._here.append(self._folder / f"{tenant}.jsonl")
        played = Round(site, checker, self._folder, number, tenant, self._console.log)
        loss = (None, *LOSSES)[number % (1 + len(LOSSES))]
        result = await played.run(plan(seed, number, size, durations, MANY), seed, loss)
        if loss == WIPED:
            self._since = {}
        for text in result.violations:
            self._console.log(f"[red]seed {seed}, round {number}[/]: {text}")
        if result.violations:
            site.failed = True
            (self._folder / f"round-{number}.log").write_text(site.log_tails(200), "utf-8")
        return result

    async def _whole(self, checker: Checker, is_wiped: bool) -> bool:
        """Everything of this run once more, at its end: nothing came late. A broker that was wiped has letters no more, either."""
        path = self._folder / "whole.jsonl"
        path.unlink(missing_ok=True)
        with Writer(path) as writer:
            writer.journal = read(self._here)
            checked = await checker.check(writer, since=self._since)
        passed = OF_RECORDS | {"dead letter"} if is_wiped else frozenset()
        violations = [violation for violation in checked.violations if violation.code not in passed]
        for violation in violations:
            self._console.log(f"[red]at the end[/]: {violation}")
        self.state.setdefault("whole", []).extend(map(str, violations))
        self.save()
        return not violations

    def _broken(self) -> int:
        return sum(len(one["violations"]) for one in self.state["rounds"])

    def _keep(self, result: RoundResult) -> None:
        self.state["rounds"].append({**result.plain(), "code": _code()})
        self.save()

    def save(self) -> None:
        path = self._folder / "state.json"
        path.with_suffix(".new").write_text(json.dumps(self.state, indent=1), "utf-8")
        path.with_suffix(".new").replace(path)
        report.write(self._report, self.state)


def _code() -> str:
    """The commit that is tested; a soak that was interrupted may have gone on with a later one."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"


def load(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The state on disk if it is of the same soak, else a new one."""
    path = folder / "state.json"
    new = {
        "seed": asked.seed if asked.seed is not None else secrets.randbelow(1_000_000),
        "faults": asked.faults,
        "per_round": asked.per_round,
        "least": asked.least,
        "most": asked.most,
        "first": asked.first,
    }
    if path.exists() and not asked.fresh:
        held: dict[str, Any] = json.loads(path.read_text("utf-8"))
        same = (
            all(held[name] == new[name] for name in ("per_round", "least", "most"))
            and held.get("first", 0) == asked.first
        )
        if same and asked.seed in {None, held["seed"]}:
            return {**held, "faults": asked.faults}
    return {**new, "rounds": []}


def merged(folders: Sequence[Path], faults: int) -> dict[str, Any]:
    """The states of sites that shared a soak of so many faults, as one, each round once. Raises ValueError if they are not of one soak."""
    states: list[dict[str, Any]] = [json.loads((folder / "state.json").read_text("utf-8")) for folder in folders]
    same = ("seed", "per_round", "least", "most")
    rounds = sorted((one for state in states for one in state["rounds"]), key=lambda one: int(one["number"]))
    if len({tuple(state[name] for name in same) for state in states}) > 1:
        raise ValueError("the folders hold soaks of different seeds or sizes")
    if len({one["number"] for one in rounds}) < len(rounds):
        raise ValueError("a round was played by two of the sites")
    whole = [text for state in states for text in state.get("whole", ())]
    again = [one for state in states for one in state.get("again", ())]
    return {**states[0], "faults": faults, "rounds": rounds, "whole": whole, "again": again, "sites": len(states)}


def main() -> int:
    """Exit status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--per-round", type=int, default=PER_ROUND)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--round", type=int, default=None, help="replay this round alone")
    parser.add_argument("--least", type=float, default=LONG.least, help="shortest fault, seconds")
    parser.add_argument("--most", type=float, default=LONG.most, help="longest fault, seconds")
    parser.add_argument("--folder", type=Path, default=ROOT / ".dpj" / "soak-state")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "reports" / "soak.md")
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    parser.add_argument("--first", type=int, default=0, help="the round to begin with: another site plays those before")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FOLDER", help="write one report of these sites' states"
    )
    parser.add_argument("--again", type=int, metavar="ROUND", help="set a broken round aside, to be played again")
    parser.add_argument("--because", default="", metavar="WHY", help="what the report says of its violations")
    asked = parser.parse_args()
    if asked.merge:
        report.write(asked.report, merged(asked.merge, asked.faults))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, it ends what it started too
    console = Console()
    asked.folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(asked.folder, asked.report, load(asked.folder, asked), console)
    if asked.again is not None:
        soak.set_aside(asked.again, asked.because)
        return 0
    console.log(
        f"seed {soak.state['seed']}, {soak.done} of {soak.state['faults']} faults done; Ctrl-C and a new call go on"
    )
    try:
        with FaultSite() as site:
            if asked.round is None:
                return 0 if asyncio.run(soak.run(site)) else 1
            return 0 if asyncio.run(_replay(soak, site, asked)) else 1
    except KeyboardInterrupt:
        console.log(f"stopped; {soak.done} faults are done and kept")
        return 130


async def _replay(soak: Soak, site: FaultSite, asked: argparse.Namespace) -> bool:
    checker = Checker(site.pipeline)
    await checker.prepare()
    result = await soak.one(site, checker, asked.round, asked.per_round)
    return not result.violations


if __name__ == "__main__":
    sys.exit(main())
