"""Which process is made to die at which crash point, and what makes it get there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.processes import CRASHED, Process

PASSIVE = "relay-2"
#: Where the API leaves an object and a PENDING row behind.
LEAVING = "intake.stored"


@dataclass(frozen=True, slots=True)
class Crash:
    """``process`` dies at ``point`` when it gets there the ``nth`` time.

    ``needs``: what has to happen for it beside ordinary traffic: "refusal" (an upload with a wrong checksum), "poison" (a record
    that is no event), "leftover" (an upload cut off by the API's death before the process starts), "erasure" (an archived document is
    erased), "batch" (letters of records that are no events are discarded as a batch).
    ``leaves``: an object that only reconciling finds.
    """

    point: str
    process: str
    needs: str = ""
    nth: int = 1
    leaves: bool = False

    @property
    def setting(self) -> str:
        return f"{self.point}:{self.nth}"


CRASHES: Sequence[Crash] = (
    Crash("intake.intent", "api"),
    Crash("intake.stored", "api"),
    Crash("intake.checked", "api", nth=2),
    Crash("intake.committed", "api", nth=2),
    Crash("discard.begun", "api", "refusal"),
    Crash("discard.abandoned", "api", "refusal", leaves=True),
    Crash("decision.committed", "api"),
    Crash("relay.fetched", "relay"),
    Crash("sweep.abandoned", "relay", "leftover", leaves=True),
    Crash("relay.produced", "relay", nth=2),
    Crash("relay.confirmed", "relay"),
    Crash("relay.marked", "relay"),
    Crash("batch.item", "relay", "batch"),
    Crash("batch.item_done", "relay", "batch"),
    Crash("housekeeping.pruned", "relay", nth=2),
    Crash("delivery.claimed", "worker-integrity"),
    Crash("delivery.processed", "worker-renditions"),
    Crash("delivery.committed", "worker-audit", nth=3),
    Crash("delivery.burying", "worker-notification", "poison"),
    Crash("delivery.buried", "worker-notification", "poison"),
    Crash("integrity.read", "worker-integrity"),
    Crash("renditions.stored", "worker-renditions"),
    Crash("renditions.described", "worker-renditions"),
    Crash("archiving.locked", "worker-archiving"),
    Crash("archiving.attempted", "worker-archiving"),
    Crash("archiving.created", "worker-archiving"),
    Crash("archiving.compared", "worker-archiving", nth=2),
    Crash("archiving.copied", "worker-archiving"),
    Crash("notification.attempted", "worker-notification"),
    Crash("notification.sent", "worker-notification", nth=2),
    Crash("erase.committed", "api", "erasure"),
    Crash("erasure.claimed", "relay", "erasure"),
    Crash("erasure.objects", "relay", "erasure"),
    Crash("erasure.copies", "relay", "erasure"),
    Crash("erasure.metadata", "relay", "erasure"),
    Crash("erasure.signed", "relay", "erasure"),
    Crash("audit.chained", "worker-audit"),
    Crash("audit.stored", "worker-audit"),
    Crash("checkpoint.fixed", "worker-audit"),
    Crash("checkpoint.stored", "worker-audit", nth=2),
)
#: Points that commands reach, and the command.
COMMANDS: Mapping[str, Sequence[str]] = dict.fromkeys(
    ("reconcile.noted", "reconcile.repaired"), ("reconcile", "--apply", "--ged-hours", "0")
)
#: Points that drills die at: only where a store was restored (``test_restores``) or forgot (``test_stores_that_forget``) there is
#: anything to repair.
DRILLED: Sequence[str] = (
    "restore.document",
    "restore.refilled",
    "restore.described",
    "restore.step",
    "owed.marked",
)
BY_POINT: Mapping[str, Crash] = {crash.point: crash for crash in CRASHES}


def rounds_of(points: Iterable[str]) -> list[list[Crash]]:
    """The crashes of these points in as few rounds as possible: different processes die in one round, each once."""
    rounds: list[list[Crash]] = []
    for point in points:
        crash = BY_POINT[point]
        for found in rounds:
            if all(other.process != crash.process for other in found):
                found.append(crash)
                break
        else:
            rounds.append([crash])
    return rounds


#: A point's round is the same whichever others are asked for, so that every worker of a run knows it.
_ROUNDS: Sequence[Sequence[Crash]] = (
    [[crash] for crash in CRASHES] if os.environ.get("DPJ_CRASH_ALONE") == "1" else rounds_of(BY_POINT)
)


def group_of(point: str) -> int:
    """The number of the point's round among those of all points. Raises KeyError for a point that commands reach."""
    return _GROUPS[point]


def rounds_among(points: Iterable[str]) -> Mapping[int, Sequence[Crash]]:
    """The rounds of all points, by their numbers, with the crashes of ``points`` alone."""
    wanted = set(points)
    left = {number: [crash for crash in crashes if crash.point in wanted] for number, crashes in enumerate(_ROUNDS)}
    return {number: crashes for number, crashes in left.items() if crashes}


_GROUPS: Mapping[str, int] = {crash.point: number for number, crashes in enumerate(_ROUNDS) for crash in crashes}


def died_at(process: Process, point: str, since: int) -> bool:
    """Whether one of its ends after the first ``since`` was at ``point``."""
    crashed = any(end.code == CRASHED and not end.asked for end in process.ends[since:])
    return crashed and f'"point": "{point}"' in process.log.read_text("utf-8", "replace")
