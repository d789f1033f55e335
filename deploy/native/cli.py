"""``up``, ``down``, ``status`` and ``logs`` of the local stack. Exit codes: 1 failed, 3 (``status``) not all ready."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from deploy.native import stack
from deploy.native.errors import PartFailed, StackError
from deploy.native.parts import ALL, EXTRAS
from deploy.native.report import LiveTable, Plain, Reporter, Silent
from domain.shared.terminal_text import visible_lines

app = typer.Typer(
    help="The local stack: the real servers, without containers.", no_args_is_help=True, pretty_exceptions_enable=False
)
NOT_READY = 3


class ProfileName(StrEnum):
    """``embedded``: documents in a folder, keys in a file, audit log in PostgreSQL. ``full``: MinIO, Vault, MongoDB's protocol, a
    Schema Registry and an antivirus."""

    EMBEDDED = "embedded"
    FULL = "full"


Name = Annotated[str, typer.Option("--name", envvar="DPJ_STACK", help="Several stacks can run side by side.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON object on standard output.")]


@app.command()
def up(
    profile: Annotated[
        ProfileName | None,
        typer.Option(
            help="embedded: folder, key file, PostgreSQL; full: MinIO, Vault, FerretDB, registry, clamd.  "
            "[default: as before, or embedded]"
        ),
    ] = None,
    name: Name = "default",
    port_base: Annotated[
        int | None, typer.Option(min=1024, max=65_000, help="Number the ports from here instead of choosing free ones.")
    ] = None,
    extras: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="A part that no profile has by itself: identity, observability, redis or toxiproxy."
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="A part of the profile to do without: clamd.")
    ] = None,
    tls: Annotated[
        bool | None,
        typer.Option(
            "--tls/--no-tls", help="TLS 1.3 for every connection, with a local CA.  [default: as before, or none]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the stack and wait until every server answers. Does nothing where it runs already."""
    errors = Console(stderr=True)
    if unknown := set(extras or ()) - set(EXTRAS):
        raise typer.BadParameter(f"no such part to add: {', '.join(sorted(unknown))}; there is {', '.join(EXTRAS)}")
    spared = [part.name for part in ALL if part.optional]
    if unknown := set(without or ()) - set(spared):
        raise typer.BadParameter(f"can't do without {', '.join(sorted(unknown))}, only without {', '.join(spared)}")
    try:
        chosen = profile.value if profile else stack.profile_of(name) or "embedded"
        with _reporter(errors, silent=as_json) as reporter:
            result = stack.up(
                name, chosen, port_base=port_base, reporter=reporter, extras=extras or (), tls=tls, without=without
            )
    except StackError as error:
        _fail(error, as_json=as_json)
    except KeyboardInterrupt:
        errors.print("Interrupted; what had been started is stopped again.")
        raise typer.Exit(130) from None
    _show(result, as_json=as_json)


@app.command()
def down(
    name: Name = "default",
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete the stack's data, keys and settings as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop every server of the stack. Data stay (but the GED's, which it keeps in memory)."""
    try:
        stopped = stack.down(name, wipe=wipe)
    except StackError as error:
        _fail(error, as_json=as_json)
    if as_json:
        typer.echo(json.dumps({"name": name, "stopped": stopped, "wiped": wipe}))
    else:
        typer.echo(f"Stack {name}: " + (f"stopped {', '.join(stopped)}." if stopped else "nothing was running."))


@app.command()
def status(name: Name = "default", as_json: AsJson = False) -> None:
    """Ask every server whether it is ready."""
    try:
        found = stack.status(name)
    except StackError as error:
        _fail(error, as_json=as_json)
    if found is None:
        known = ", ".join(stack.names()) or "none"
        _fail(StackError(f"there is no stack {name} (stacks here: {known})"), as_json=as_json)
    _show(found, as_json=as_json)
    if not found.ready:
        raise typer.Exit(NOT_READY)


@app.command()
def logs(
    part: Annotated[str | None, typer.Argument(help="One part; without it, the last lines of all.")] = None,
    name: Name = "default",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the last lines of the servers' logs."""
    known = [each.name for each in ALL]
    if part is not None and part not in known:
        raise typer.BadParameter(f"no part {part!r}; parts are {', '.join(known)}")
    try:
        tails = {each: stack.log(name, each, lines) for each in ([part] if part else known)}
    except StackError as error:
        _fail(error, as_json=as_json)
    if as_json:
        typer.echo(json.dumps({each: text.splitlines() for each, text in tails.items()}))
        return
    for each, text in tails.items():
        if part is None and text:
            typer.secho(f"== {each}", bold=True)
        if text:
            typer.echo(visible_lines(text))


@contextlib.contextmanager
def _reporter(console: Console, *, silent: bool) -> Iterator[Reporter]:
    if silent:
        yield Silent()
    elif console.is_terminal:
        with LiveTable(console) as table:
            yield table
    else:
        yield Plain(lambda line: print(line, file=sys.stderr, flush=True))


def _show(found: stack.Stack, *, as_json: bool) -> None:
    if as_json:
        described = asdict(found) | {"settings": str(found.settings), "ready": found.ready}
        typer.echo(json.dumps(described))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("part", "version", "address", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("seconds", justify="right")
    for row in found.rows:
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.part, row.version, row.address, row.state, seconds)
    out = Console(highlight=False)
    out.print(table)
    if found.started:
        out.print(f"Stack {found.name} ({found.profile}) is up after {found.seconds:.0f} s.", soft_wrap=True)
    elif found.ready:
        out.print(f"Stack {found.name} ({found.profile}) is up.", soft_wrap=True)
    out.print(f"Settings: {found.settings}", soft_wrap=True)


def _fail(error: StackError, *, as_json: bool) -> NoReturn:
    """Say it on standard error and, with ``as_json``, in the shape of every ``dpj`` command's failure on standard output."""
    console = Console(stderr=True)
    console.print(visible_lines(f"{error}"), style="red", markup=False, soft_wrap=True)
    if isinstance(error, PartFailed) and error.log_tail:
        told = visible_lines(f"Last lines of {error.part}:\n{error.log_tail}")
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps({"error": {"code": "stack_failed", "message": str(error), "next_step": ""}}))
    raise typer.Exit(1) from None


def main() -> None:
    app()
