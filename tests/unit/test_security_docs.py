"""docs/SECURITY.md names places in the code and tests that hold its statements: they exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "SECURITY.md").read_text("utf-8")
PLACES = sorted(set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", PAGE)))
LINKS = sorted(set(re.findall(r"\]\(([^):]+)\)", PAGE)))


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_is_named_exists(place: str) -> None:
    assert (ROOT / place).exists()


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).is_file()


def test_there_are_enough_of_them() -> None:
    """The patterns above still find what they are to find."""
    assert len(PLACES) >= 50
    assert len(LINKS) >= 5
