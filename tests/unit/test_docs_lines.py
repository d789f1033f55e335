"""Prose of the pages fits into 120 characters a line. Tables, code and what can't be broken (links) are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST = 120
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "deploy/*.md", "samples/*.md")
    for path in ROOT.glob(pattern)
)
_LINK = re.compile(r"\]\([^)\s]*\)")


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines outside of fences and tables, with their numbers, without the addresses of links."""
    fence = ""
    for number, line in enumerate(text.split("\n"), 1):
        start = line.lstrip()
        if fence:
            fence = "" if start.startswith(fence) else fence
        elif start.startswith(("```", "~~~")):
            fence = start[:3]
        elif not start.startswith("|"):
            yield number, line


def too_long(text: str) -> list[int]:
    """Numbers of lines of prose that are too long although they have a place to break."""
    return [
        number
        for number, line in _prose(text)
        if len(line) > MOST and (len(_LINK.sub("]", line)) > MOST or " " in line[:MOST].strip(" -*"))
    ]


@pytest.mark.parametrize("page", PAGES)
def test_no_line_of_prose_is_too_long(page: str) -> None:
    assert too_long((ROOT / page).read_text("utf-8")) == []


def test_what_counts_as_a_line_of_prose() -> None:
    long = "word " * 30
    assert too_long(f"# Page\n\n{long}\n") == [3]
    assert too_long(f"- {long}") == [1]
    assert too_long(f"| {long} |\n\n```sh\n{long}\n```\n\n{'x' * 10}") == []
    assert too_long(f"```\n{long}\n```\n{long}") == [4]
    assert too_long(f"- [page](https://example.org/{'x' * 200})") == []


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/API.md"} <= set(PAGES)
    assert len(PAGES) >= 35
