"""What the drills of operators time and promise, and that their page has its pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.drills.report import failures, keep, kept
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


def test_what_was_timed_is_kept_until_the_others_were(tmp_path: Path) -> None:
    assert kept(tmp_path, "relay") is None
    keep(tmp_path, "relay", timed(alarm=30.0, sign=10.0, diagnosis=12.0), "531089e")
    found = kept(tmp_path, "relay")
    assert found is not None
    assert (found.title, found.to_diagnosis, found.clicks) == ("it", 2.0, 1)
    assert found.code


def test_the_page_has_its_pictures_and_they_are_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\((images/[^)]+)\)", (DOCS / "drills.md").read_text("utf-8"))
    assert pictures
    assert [name for name in pictures if not (DOCS / name).is_file()] == []
    assert [name for name in pictures if (DOCS / name).stat().st_size > MOST_BYTES] == []
