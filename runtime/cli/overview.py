"""``dpj overview``: how late the whole pipeline is, and why, on one page; and again and again with --watch."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from domain.shared.terminal_text import visible
from runtime.cli.operator_options import on_site
from runtime.cli.output import AsJson, Stack, print_result
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from operations.overview.model import Overview
    from runtime.wiring.site import Site

Watch = Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")]
Every = Annotated[float, typer.Option(min=1, max=3600, help="Seconds between two looks with --watch.")]
Times = Annotated[int | None, typer.Option(min=1, help="With --watch: end after so many looks.")]

#: Clears the screen and goes to its first place; only ever sent to a terminal.
_CLEAR: Final = "\x1b[H\x1b[2J"


def overview(
    watch: Watch = False, every: Every = 10.0, times: Times = None, stack: Stack = None, as_json: AsJson = False
) -> None:
    """How late the whole pipeline is, and why: the oldest document, each consumer, outbox, states, what is away."""
    if watch and as_json:
        raise CommandFailed("--watch and --json do not go together.", "For programs: call dpj overview --json again.")

    async def work(site: Site) -> None:
        from runtime.cli.overview_lines import lines_of
        from runtime.processes.process_answers import process_answers

        look = site.overview(process_answers(site.settings)).look
        left = times if watch else 1
        while left is None or left > 0:
            began = time.monotonic()
            found = await look()
            if not watch:
                print_result(document_of(found), lines_of(found), as_json=as_json)
                return
            show_again(lines_of(found), found.at)
            left = None if left is None else left - 1
            if left != 0:
                await asyncio.sleep(max(0.0, began + every - time.monotonic()))

    asyncio.run(on_site(stack, work))


def show_again(lines: Sequence[str], at: datetime) -> None:
    """In place on a terminal; elsewhere below the last one."""
    write: Callable[[str], object] = sys.stdout.write
    if sys.stdout.isatty():
        write(_CLEAR)
    write(f"{at:%Y-%m-%d %H:%M:%S} UTC\n")
    write("".join(f"{visible(line)}\n" for line in lines))
    sys.stdout.flush()


def document_of(found: Overview) -> dict[str, Any]:
    """The overview for programs: times in ISO 8601, null for what is unknown."""
    document: dict[str, Any] = _plain(found)
    return document


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if isinstance(value, Enum):
        return value.value
    return (
        value.isoformat()
        if isinstance(value, datetime)
        else value
        if isinstance(value, (int, float, type(None)))
        else str(value)
    )
