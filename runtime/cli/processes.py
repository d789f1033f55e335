"""The pipeline's own processes in the foreground, and the local servers below them."""

from __future__ import annotations

from typing import Annotated

import typer

from runtime.cli.output import Stack, settings_of
from runtime.errors import CommandFailed
from runtime.processes.lean_start import load_lean


def stack(context: typer.Context) -> None:
    """Hand everything on to the local stack's own command line, which is loaded only now."""
    from deploy.native.cli import app

    # Both names of the option work everywhere: here it is the stack itself that is named.
    words = ["--name" if word == "--stack" else word.replace("--stack=", "--name=") for word in context.args]
    ended_with = app(args=words, prog_name="dpj stack", standalone_mode="--json" not in words)
    raise typer.Exit(ended_with if isinstance(ended_with, int) else 0)


def api(stack: Stack = None) -> None:
    """Run the HTTP API until SIGTERM or Ctrl-C."""
    load_lean()
    from runtime.processes.run import run_api

    run_api(settings_of(stack, minds_bounds=True))


def console(stack: Stack = None) -> None:
    """Run the operators' console until SIGTERM or Ctrl-C."""
    load_lean()
    from runtime.processes.run import run_console

    run_console(settings_of(stack, minds_bounds=True))


def relay(stack: Stack = None) -> None:
    """Run the relay from the outbox to Kafka. Several may run; one leads."""
    load_lean()
    from runtime.processes.run import run_relay

    run_relay(settings_of(stack, minds_bounds=True))


def watchdog(stack: Stack = None) -> None:
    """Watch from outside that the consumers make progress; raises an alarm metric, and restarts them if so set."""
    load_lean()
    from runtime.processes.run import run_watchdog

    run_watchdog(settings_of(stack, minds_bounds=True))


def worker(
    names: Annotated[list[str], typer.Argument(help="integrity, renditions, archiving, notification, audit, or all")],
    stack: Stack = None,
) -> None:
    """Run consumers, all of them in this one process."""
    from domain.consumers import CONSUMERS

    unknown = [name for name in names if name not in (*CONSUMERS, "all")]
    if unknown:
        raise CommandFailed(f"There is no consumer {unknown[0]!r}.", f"Consumers are {', '.join(CONSUMERS)}; or all.")
    load_lean()
    from runtime.processes.run import run_worker

    run_worker(settings_of(stack, minds_bounds=True), list(CONSUMERS) if "all" in names else list(dict.fromkeys(names)))
