"""What is numbered has one order: migrations are one chain, decisions have numbers of their own."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import storage.migrations.versions
from storage.migrate import latest_revision

ROOT = Path(__file__).resolve().parents[2]


def test_migrations_are_one_chain_in_the_order_of_their_files() -> None:
    folder = Path(storage.migrations.versions.__path__[0])
    names = sorted(path.stem for path in folder.glob("v*.py"))
    before = None
    for number, name in enumerate(names, 1):
        made = import_module(f"storage.migrations.versions.{name}")
        assert name.startswith(f"v{made.revision}_")
        assert (made.revision, made.down_revision) == (f"{number:04}", before)
        before = made.revision
    assert latest_revision() == before


def test_decisions_are_numbered_and_found_by_their_numbers() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    for number, page in enumerate(pages, 1):
        assert page.name.startswith(f"{number:04}-")
        assert page.read_text("utf-8").startswith(f"# {number}. ")
    names = {page.name for page in pages}
    for page in (ROOT / "docs").glob("*.md"):
        for shown, target in re.findall(r"\[ADR (\d+)\]\(adr/([^)]+)\)", page.read_text("utf-8")):
            assert target in names, page
            assert target.startswith(f"{int(shown):04}-"), page
