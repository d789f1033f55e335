"""The runbook, docs/OPERATIONS.md, as a page: what a line of the console leads to is there when it is needed."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from console.dependencies import Deps, SignedIn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

router = APIRouter()

_NOT_IN_ANCHOR: Final = re.compile(r"[^\w\- ]")


@router.get("/runbook", name="runbook")
async def runbook(visitor: SignedIn, deps: Deps) -> Response:
    """The whole page; sections have the anchors that they have where the file is read as Markdown."""
    if deps.runbook_file is None or not deps.runbook_file.is_file():
        raise HTTPException(404)
    return visitor.page("runbook.html", content=await run_in_threadpool(page_of, deps.runbook_file))


@cache
def page_of(path: Path) -> Markup:
    """The file as HTML. It is ours; all the same no HTML in it is let through, and links to files are texts here."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(path.read_text("utf-8"))
    seen: dict[str, int] = {}
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(tokens[place + 1].content, seen))
        elif token.type == "table_open":
            token.attrSet("class", "list")
            token.attrSet("tabindex", "0")
        elif token.type == "inline":
            token.children = _without_files(token.children or [])
    # What is wider than the window can be scrolled by the keyboard, too: tables and commands. Only the reader writes this tag.
    html = reader.renderer.render(tokens, reader.options, {}).replace("<pre>", '<pre tabindex="0">')
    return Markup(html)  # noqa: S704 - the reader escapes what the file says


def _anchor(heading: str, seen: dict[str, int]) -> str:
    """As hosts of Markdown make it: lower case, hyphens for spaces, a number from the second of one name on."""
    name = _NOT_IN_ANCHOR.sub("", heading.lower()).replace(" ", "-")
    number = seen.get(name, 0)
    seen[name] = number + 1
    return f"{name}-{number}" if number else name


def _without_files(children: Sequence[Token]) -> list[Token]:
    """Links within the page stay; what leads to a file beside it, or elsewhere, is its text alone."""
    kept: list[Token] = []
    within: list[bool] = []
    for token in children:
        if token.type == "link_open":
            within.append(str(token.attrGet("href") or "").startswith("#"))
            if not within[-1]:
                continue
        elif (token.type == "link_close" and not within.pop()) or token.type == "image":
            continue
        kept.append(token)
    return kept
