"""What the drills of operators time and promise, and that their page has its pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.drills.report import failures
from tests.drills.stopwatch import ALARM, DIAGNOSIS, SIGN, Stopwatch

DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST_BYTES = 120_000


def timed(*, alarm: float, sign: float, diagnosis: float, clicks: int = 1) -> Stopwatch:
    return Stopwatch("it", marks={ALARM: alarm, SIGN: sign, DIAGNOSIS: diagnosis}, clicks=clicks)


@pytest.mark.parametrize(
    ("watch", "told"),
    [
        (timed(alarm=30.0, sign=10.0, diagnosis=69.0), []),
        (timed(alarm=30.0, sign=10.0, diagnosis=70.0), ["it: 60 s from the first sign to the diagnosis"]),
        # Whoever is woken by the alarm has not seen the line yet.
        (timed(alarm=5.0, sign=40.0, diagnosis=66.0), ["it: 61 s from the first sign to the diagnosis"]),
        (timed(alarm=30.0, sign=10.0, diagnosis=12.0, clicks=3), ["it: 3 clicks"]),
    ],
)
def test_a_diagnosis_takes_a_minute_and_two_clicks_at_most(watch: Stopwatch, told: list[str]) -> None:
    assert failures([watch]) == told


def test_what_the_drill_does_for_itself_is_not_counted() -> None:
    watch = Stopwatch("it")
    watch.fault()
    with watch.aside():
        watch._began -= 50.0
        watch._aside += 50.0
    assert watch.seconds < 5.0


def test_the_page_has_its_pictures_and_they_are_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\((images/[^)]+)\)", (DOCS / "drills.md").read_text("utf-8"))
    assert pictures
    assert [name for name in pictures if not (DOCS / name).is_file()] == []
    assert [name for name in pictures if (DOCS / name).stat().st_size > MOST_BYTES] == []
