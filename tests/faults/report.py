"""The report of a soak: what was done to the pipeline, and what came of it, good or bad."""

from __future__ import annotations

import os
import platform
import statistics
import textwrap
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.faults import GROUPS
from tests.faults.losses import LOSSES
from tests.faults.rounds import SEVERAL
from tests.faults.schedule import MANY

P95 = 0.95
#: The longest line of prose.
WIDTH = 120
#: Violations of one kind and round that are told one by one.
TOLD = 5


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write the report of the rounds in ``state``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(_wrapped, _lines(state))) + "\n", "utf-8")


def _wrapped(line: str) -> str:
    """Prose in lines of 120 characters; rows of tables stay whole."""
    if len(line) <= WIDTH or line.startswith("|"):
        return line
    indent = "  " if line.startswith("* ") else ""
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _lines(state: Mapping[str, Any]) -> Iterable[str]:
    rounds: Sequence[Mapping[str, Any]] = state["rounds"]
    faults = _summed(rounds, "faults")
    violations = [(f"round {one['number']}", text) for one in rounds for text in one["violations"]]
    violations += [("at the end", text) for text in state.get("whole", ())]
    deposits, done = sum(one["deposits"] for one in rounds), sum(faults.values())
    found = {name: sum(one["findings"][name] for one in rounds) for name in _COUNTS}
    yield "# Soak"
    yield ""
    sites = f" on {state['sites']} sites at the same time" if state.get("sites", 1) > 1 else ""
    yield f"Made by `make soak`: {done} of {state['faults']} faults, in {len(rounds)} rounds{sites}, while clients deposited documents."
    again = len(state.get("again", ()))
    yield f"**{_said(violations)}**" + (
        f" Plays that broke some and are not in these figures: {again}, see below." if again else ""
    )
    yield ""
    yield (
        f"Seed {state['seed']}, {state['per_round']} faults a round, each {state['least']:g} to {state['most']:g} s, mostly "
        f"short, in episodes of 1 to {max(MANY)} that overlap. {sum(one['seconds'] for one in rounds) / 3600:.1f} hours. {_machine()}"
    )
    yield ""
    yield f"Code: {_codes(rounds)}."
    yield ""
    yield "After every round all is mended and comes to rest; then a checker that knows nothing of the code reads PostgreSQL, the"
    yield "object store, the GED, the mailbox, MongoDB and Kafka, and holds them against what the clients were told."
    yield ""
    yield "| what | |"
    yield "|---|---|"
    yield f"| deposits | {deposits} |"
    for name, text in _COUNTS.items():
        yield f"| {text} | {found[name]} |"
    redelivered, retried = _summed(rounds, "redeliveries"), _summed(rounds, "retries")
    yield f"| redeliveries: events that a consumer got again after it had done them | {sum(redelivered.values())} |"
    yield f"| tries repeated because something was away | {sum(retried.values())} |"
    left = sum(_summed(rounds, "reconciled").values())
    yield f"| objects and uploads left by what died, removed by `dpj reconcile` | {left} |"
    settled = [one["settled"] for one in rounds if one["settled"] is not None]
    if settled:
        yield f"| until all was at rest after a round, median (longest) | {statistics.median(settled):.1f} s ({max(settled):.1f} s) |"
    yield ""
    yield from _violations(state["seed"], violations)
    yield from _again(state.get("again", ()), {one["number"] for one in rounds})
    yield from _recovery(rounds, faults)
    yield from _counted("States at the end", "state", _states(rounds))
    yield from _counted("Answers to the clients", "request and status", _summed(rounds, "answers"))
    yield from _counted("Redeliveries", "consumer", redelivered)
    yield from _counted("Tries repeated", "code", retried)


_COUNTS = {
    "documents": "documents at the end",
    "complete_without_2xx": "of these without a 2xx: complete, and given by their Idempotency-Key",
    "mails": "mails",
    "second_mails": "of these a second one, of the same Message-ID",
    "audit_entries": "audit entries",
    "repeated_records": "records that the relay published twice",
    "dead_letters": "dead letters, all of what is poison",
}


def _codes(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Commits and the rounds that tested them."""
    by_code: dict[str, list[int]] = defaultdict(list)
    for one in rounds:
        by_code[one.get("code", "unknown")].append(one["number"])
    return ", ".join(f"`{code}` (rounds {numbers[0]} to {numbers[-1]})" for code, numbers in by_code.items())


def _said(violations: Sequence[tuple[str, str]]) -> str:
    if not violations:
        return "No promise was broken."
    return f"Violations: {len(violations)}, in {len({where for where, _ in violations})} of the rounds; see below."


def _violations(seed: int, violations: Sequence[tuple[str, str]]) -> Iterable[str]:
    if violations:
        yield "## Violations"
        yield ""
        yield f"Replayed by `python -m tests.faults.soak --seed {seed} --round N`."
        yield ""
        yield from _told(violations)
        yield ""


def _told(violations: Sequence[tuple[str, str]]) -> Iterable[str]:
    """Where and what, a list; only the first of many alike."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for where, text in violations:
        alike[where, text.partition(":")[0]].append(text)
    for (where, kind), texts in alike.items():
        yield from (f"* {where}: {text}" for text in texts[:TOLD])
        if len(texts) > TOLD:
            yield f"* {where}: {kind}: {len(texts) - TOLD} more of this kind"


def _again(played: Sequence[Mapping[str, Any]], done: Container[int]) -> Iterable[str]:
    """``done``: the numbers of the rounds that the figures are of."""
    if played:
        yield "## Rounds that were set aside"
        yield ""
        yield "They broke promises. Their cause was mended, to have them played once more."
        yield ""
        for one in played:
            since = "Played again since." if one["number"] in done else "Not played again yet."
            yield f"Round {one['number']}, code `{one['code']}`: {one['why']} {since}"
            yield ""
            yield from _told([(f"round {one['number']}", text) for text in one["violations"]])
            yield ""


def _recovery(rounds: Sequence[Mapping[str, Any]], faults: Mapping[str, int]) -> Iterable[str]:
    """Per kind, from the episodes that had this fault alone."""
    times: dict[str, list[float | None]] = defaultdict(list)
    for one in rounds:
        for recovery in one["recoveries"]:
            times[recovery["group"]].append(recovery["seconds"])
    yield "## Faults and recovery"
    yield ""
    yield "Recovery is the time from the end of a fault until a document sent at that moment is ARCHIVED (the client tries"
    yield "again twice a second). It is measured where a fault came alone; episodes of several have a line of their own."
    yield ""
    yield "| fault | count | measured | median s | P95 s |"
    yield "|---|---:|---:|---:|---:|"
    for group in (*GROUPS, *LOSSES, SEVERAL):
        known = sorted(seconds for seconds in times[group] if seconds is not None)
        late = len(times[group]) - len(known)
        measured = f"{len(known)}" + (f" (+{late} not in time)" if late else "")
        figures = f"{statistics.median(known):.1f} | {_quantile(known):.1f}" if known else "- | -"
        yield f"| {group} | {faults.get(group, '-')} | {measured} | {figures} |"
    yield ""


def _quantile(values: Sequence[float]) -> float:
    """The smallest value that P95 of them don't exceed; with fewer than 20 it is the largest."""
    return values[min(len(values) - 1, int(P95 * len(values)))]


def _counted(title: str, what: str, counts: Mapping[str, int]) -> Iterable[str]:
    if counts:
        yield f"## {title}"
        yield ""
        yield f"| {what} | count |"
        yield "|---|---:|"
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            yield f"| {name} | {count} |"
        yield ""


def _summed(rounds: Sequence[Mapping[str, Any]], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in rounds:
        total.update(one[name])
    return total


def _states(rounds: Sequence[Mapping[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in rounds:
        total.update(one["findings"]["states"])
    return total


def _machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Machine: {os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, {platform.system()} {platform.release()}; all servers, our "
        "processes and the clients on it."
    )
