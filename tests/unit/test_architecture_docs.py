"""docs/ARCHITECTURE.md leads through the code by file and name: both exist, and so do the pages that are linked."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text("utf-8")
PLACES = sorted(set(re.findall(r"`((?:\w+/)+\w+\.py): ([\w.]+)`", PAGE)))
FILES = sorted(set(re.findall(r"`((?:[a-z_]+/)+(?:\w+\.(?:py|json|md))?)(?:`|: )", PAGE)))
LINKS = sorted(set(re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", PAGE)))


def _defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Functions, classes and assigned names of a module or class."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update({target.id: node for target in targets if isinstance(target, ast.Name)})
    return found


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_a_function_that_is_named_is_in_its_file(file: str, name: str) -> None:
    body = ast.parse((ROOT / file).read_text("utf-8")).body
    for part in name.split("."):
        node = _defined(body).get(part)
        assert node is not None, f"{file} has no {part}"
        body = getattr(node, "body", [])


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_named_exists(file: str) -> None:
    assert (ROOT / file).exists()


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()


def test_there_are_enough_of_them() -> None:
    """The patterns above still find what they are to find."""
    assert len(PLACES) >= 40
    assert len(FILES) >= 80
    assert len(LINKS) >= 8
