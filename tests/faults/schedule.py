"""A seeded schedule of faults: the same seed is the same schedule, round by round, whichever rounds are run."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.faults.faults import GROUPS, KINDS

#: How many faults overlap in an episode, and how often (of 100).
FEW = {1: 40, 2: 30, 3: 20, 4: 10}
SEVERAL = {1: 25, 2: 25, 4: 30, 6: 20}
MANY = {1: 45, 3: 20, 6: 15, 12: 20}
#: Later faults of an episode begin within this share of the first one's time, so that all of them overlap.
OVERLAP = 0.8


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """Begins ``at`` seconds into its episode and lasts ``seconds``."""

    kind: str
    at: float
    seconds: float

    @property
    def group(self) -> str:
        return KINDS[self.kind].group


Episode = tuple[ScheduledFault, ...]


@dataclass(frozen=True, slots=True)
class Durations:
    """Between ``least`` and ``most`` seconds, mostly short: on average a ``haste``th of the way from one to the other."""

    least: float
    most: float
    haste: float = 4

    def draw(self, dice: random.Random) -> float:
        return round(min(self.most, self.least + dice.expovariate(self.haste / (self.most - self.least))), 2)


SHORT = Durations(2.0, 8.0)
LONG = Durations(5.0, 60.0, haste=8)


def plan(seed: int, number: int, faults: int, durations: Durations, sizes: Mapping[int, int] = FEW) -> list[Episode]:
    """Round ``number`` of the schedule: exactly ``faults`` faults, in episodes of as many that overlap as ``sizes`` says."""
    dice = random.Random(f"{seed}/{number}/{faults}/{durations.least}/{durations.most}")
    episodes: list[Episode] = []
    left = faults
    while left:
        size = min(left, dice.choices([*sizes], [*sizes.values()])[0])
        episodes.append(_episode(dice, size, durations))
        left -= size
    return episodes


def _episode(dice: random.Random, size: int, durations: Durations) -> Episode:
    """Groups are drawn first, so that each gets its share however many members it has."""
    chosen: list[ScheduledFault] = []
    taken: set[str] = set()
    while len(chosen) < size:
        group = dice.choice(GROUPS)
        kind = dice.choice([kind for kind in KINDS.values() if kind.group == group])
        if kind.target in taken:
            continue
        taken.add(kind.target)
        at = round(dice.uniform(0, OVERLAP * chosen[0].seconds), 2) if chosen else 0.0
        chosen.append(ScheduledFault(kind.name, at, durations.draw(dice)))
    return tuple(chosen)


def episode_line(episode: Sequence[ScheduledFault]) -> str:
    """An episode in a line."""
    return ", ".join(f"{fault.kind} at {fault.at:.1f} for {fault.seconds:.1f} s" for fault in episode)
