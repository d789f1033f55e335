"""``dpj``: the one command of the project. Sub-commands import what they need when they run, so that it starts at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from runtime.cli import (
    administration,
    dead_letters,
    documents,
    erasure,
    export,
    keys,
    outbox,
    personal_texts,
    pipeline,
    processes,
    reconcile,
    tokens,
)
from runtime.cli.failures import report

app = typer.Typer(
    help="Encrypted document intake, verification, archiving and audit. Start with: dpj demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(documents.app, name="doc")
app.add_typer(administration.schemas, name="schemas")
app.add_typer(administration.topics, name="topics")
app.add_typer(administration.database, name="db")
app.add_typer(administration.audit, name="audit")
app.add_typer(dead_letters.app, name="dlq")
app.add_typer(outbox.app, name="outbox")
app.add_typer(keys.app, name="keys")
app.add_typer(personal_texts.app, name="personal")
app.add_typer(tokens.app, name="tokens")
app.add_typer(erasure.app, name="erasure")
app.add_typer(export.app, name="export")
app.add_typer(erasure.holds, name="hold")
app.add_typer(erasure.retention, name="retention")
app.command(name="purge")(erasure.purge)
app.command(name="lag")(administration.lag)
app.command(name="reconcile")(reconcile.reconcile)
app.command(name="token")(administration.token)
app.command(name="openapi")(administration.openapi)
app.command(name="up")(pipeline.up)
app.command(name="down")(pipeline.down)
app.command(name="status")(pipeline.status)
app.command(name="demo")(pipeline.demo)
app.command(name="api")(processes.api)
app.command(name="relay")(processes.relay)
app.command(name="worker")(processes.worker)
app.command(name="watchdog")(processes.watchdog)
app.command(
    name="stack",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    help="The local servers alone: up, down, status, logs.",
)(processes.stack)


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("dpj-documents"))
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Failures are one line and a next step on standard error, and an exit status other than 0."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="dpj")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        sys.stderr.write("dpj: interrupted\n")
        return 130
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    except Exception as error:  # noqa: BLE001 - whatever it is, the person at the terminal gets one clear line
        return report(error, as_json="--json" in words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
