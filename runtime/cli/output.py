"""What commands share: the options ``--stack`` and ``--json``, one way to answer, one way to fail."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from domain.shared.terminal_text import visible
from runtime.cli.operator_bounds import bound_tenants, check_bound
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from runtime.config.settings import Settings

Stack = Annotated[
    str | None,
    typer.Option("--stack", metavar="NAME", help="Whose settings to use.  [default: DPJ_STACK, or default]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON document on standard output.")]

FAILED: Final = 1


def settings_of(stack: str | None, *, minds_bounds: bool = False) -> Settings:
    """The settings in force; from now on their crash point is armed. Raises CommandFailed if there are none, or one of them is
    missing or wrong.

    Raises OperatorBound for who is bound to tenants, unless the command ``minds_bounds`` itself or is no operator's act.
    """
    from pydantic import ValidationError

    from domain.shared import crash_points
    from runtime.config.settings import load_settings, settings_file

    try:
        settings = load_settings(stack)
        crash_points.arm(settings.crash_point)
    except ValidationError as error:
        path = settings_file(stack)
        if not path.exists():
            name = path.parent.name
            raise CommandFailed(
                f"There are no settings: {path} does not exist.",
                f"Start the stack: dpj up --stack {name} (or name another with --stack).",
                code="settings_missing",
            ) from None
        unfit = [one["msg"].removeprefix("Value error, ") for one in error.errors() if not one["loc"]]
        if unfit:
            raise CommandFailed(
                f"The settings do not fit together: {'; '.join(unfit)}.",
                f"See docs/OPERATIONS.md, then {path}.",
                code="settings_invalid",
            ) from None
        names = sorted({"DPJ_" + ".".join(map(str, one["loc"])).upper() for one in error.errors()})
        raise CommandFailed(
            f"Settings are missing or wrong: {', '.join(names)}.",
            f"See docs/OPERATIONS.md, then {path}.",
            code="settings_invalid",
        ) from None
    if not minds_bounds:
        check_bound(bound_tenants(settings), None)
    return settings


def settings_about(stack: str | None, tenant: str | None) -> Settings:
    """As ``settings_of``, for a command about ``tenant`` (None: about all). Raises TenantNotYours and OperatorBound as well."""
    settings = settings_of(stack, minds_bounds=True)
    check_bound(bound_tenants(settings), tenant)
    return settings


def print_result(document: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """The command's result: the document for programs, or the lines for a person. What strangers wrote in it may be read on a
    terminal, where some characters are commands: the document is ASCII, and in a line they are spelt out."""
    if as_json:
        sys.stdout.write(json.dumps(document, default=str) + "\n")
    else:
        for line in lines:
            sys.stdout.write(visible(line) + "\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """A message on the way; never on standard output."""
    sys.stderr.write(visible(text) + "\n")
    sys.stderr.flush()


def command_name() -> str:
    """How this command is typed from the current folder: ``dpj`` if the PATH has it, else by its place."""
    if shutil.which("dpj"):
        return "dpj"
    place = Path(sys.executable).parent / "dpj"
    return str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else str(place)
