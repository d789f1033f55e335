"""``dpj``: the one command of the project. A command is loaded when it is called, and imports what it needs when it runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final

import typer

from domain.shared.core_dumps import forbid_core_dumps
from runtime.cli.lazy_commands import LazyCommand, LazyGroup

JSON: Final = "--json"

#: The words after the command go to another command line, ``--help`` among them.
_HANDED_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_COMMANDS: Final[Mapping[str, LazyCommand]] = {
    "purge": LazyCommand(
        "runtime.cli.erasure",
        "purge",
        "Documents whose retention has ended: tell, or erase with --apply. THERE IS NO WAY BACK.",
    ),
    "overview": LazyCommand(
        "runtime.cli.overview",
        "overview",
        "How late the whole pipeline is, and why: the oldest document, each consumer, outbox, states, what is away.",
    ),
    "lag": LazyCommand(
        "runtime.cli.lag",
        "lag",
        "How far each consumer group is behind, per topic and partition; and what waits in the outbox before.",
    ),
    "reconcile": LazyCommand(
        "runtime.cli.reconcile",
        "reconcile",
        "Compare rows, object store, GED and Kafka; repair with --apply. Exit status 1 if something is wrong afterwards.",
    ),
    "token": LazyCommand(
        "runtime.cli.administration", "token", "Issue a token with the local stack's own signing key."
    ),
    "openapi": LazyCommand("runtime.cli.administration", "openapi", "Print the API's OpenAPI document as JSON."),
    "up": LazyCommand(
        "runtime.cli.pipeline",
        "up",
        "Start everything: servers, then tables, schemas and topics, then API, relay and workers.",
    ),
    "down": LazyCommand(
        "runtime.cli.pipeline",
        "down",
        "Stop our processes, then the servers. Data stay, but for the GED's, which it keeps in memory.",
    ),
    "status": LazyCommand(
        "runtime.cli.pipeline", "status", "Whether servers and processes are ready. Exit status 3 if one is not."
    ),
    "demo": LazyCommand(
        "runtime.cli.pipeline",
        "demo",
        "Start everything, send sample documents through it, and prove what came of them.",
    ),
    "api": LazyCommand("runtime.cli.processes", "api", "Run the HTTP API until SIGTERM or Ctrl-C."),
    "console": LazyCommand("runtime.cli.processes", "console", "Run the operators' console until SIGTERM or Ctrl-C."),
    "relay": LazyCommand(
        "runtime.cli.processes", "relay", "Run the relay from the outbox to Kafka. Several may run; one leads."
    ),
    "worker": LazyCommand("runtime.cli.processes", "worker", "Run consumers, all of them in this one process."),
    "watchdog": LazyCommand(
        "runtime.cli.processes",
        "watchdog",
        "Watch from outside that the consumers make progress; raises an alarm metric, and restarts them if so set.",
    ),
    "stack": LazyCommand(
        "runtime.cli.processes", "stack", "The local servers alone: up, down, status, logs.", context=_HANDED_ON
    ),
    "doc": LazyCommand("runtime.cli.documents", "app", "Documents: submit, show, list, decide."),
    "schemas": LazyCommand("runtime.cli.administration", "schemas", "Avro schemas of the events."),
    "topics": LazyCommand("runtime.cli.administration", "topics", "Kafka topics."),
    "db": LazyCommand("runtime.cli.administration", "database", "The PostgreSQL database."),
    "audit": LazyCommand("runtime.cli.administration", "audit", "The audit log."),
    "dlq": LazyCommand(
        "runtime.cli.dead_letters", "app", "Dead letters: events that a consumer gave up; and events held now."
    ),
    "outbox": LazyCommand("runtime.cli.outbox", "app", "The outbox: events on their way to Kafka."),
    "batches": LazyCommand("runtime.cli.batches", "app", "Batches: acts on many things that the relay carries out."),
    "orders": LazyCommand("runtime.cli.orders", "app", "Orders: acts that wait for a second person."),
    "types": LazyCommand("runtime.cli.document_types", "app", "Document types: what each takes, and changing it."),
    "consumers": LazyCommand(
        "runtime.cli.consumers", "app", "Consumers: pause one for a while, have it go on, give it a window again."
    ),
    "restore": LazyCommand(
        "runtime.cli.restore", "app", "After a restore: what is missing, what it means, and putting it right."
    ),
    "keys": LazyCommand("runtime.cli.keys", "app", "Keys that wrap documents' keys, one per tenant."),
    "personal": LazyCommand(
        "runtime.cli.personal_texts", "app", "Personal texts of documents: their keys, and who they are about."
    ),
    "tokens": LazyCommand("runtime.cli.tokens", "app", "Tokens that were issued."),
    "erasure": LazyCommand("runtime.cli.erasure", "app", "Erase documents, with a signed receipt."),
    "export": LazyCommand("runtime.cli.export", "app", "Data for who may not see production."),
    "hold": LazyCommand("runtime.cli.erasure", "holds", "Legal holds: while one stands, a document is not erased."),
    "retention": LazyCommand("runtime.cli.erasure", "retention", "Until when documents are kept."),
}


class _Commands(LazyGroup):
    LAZY: ClassVar[Mapping[str, LazyCommand]] = _COMMANDS


app = typer.Typer(
    cls=_Commands,
    help="Encrypted document intake, verification, archiving and audit. Start with: dpj demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed

        typer.echo(installed("dpj-documents"))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """``--version`` is answered before a command is asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Failures are one line and a next step on standard error, and an exit status other than 0."""
    if arguments is None:  # a process of its own, not a caller's
        forbid_core_dumps()
    words = with_json_last(list(sys.argv[1:] if arguments is None else arguments))
    as_json = JSON in words
    try:
        # Left alone, the library tells of wrong usage in its own way, which is no JSON.
        ended_with = app(args=words, prog_name="dpj", standalone_mode=not as_json)
        return ended_with if isinstance(ended_with, int) else 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        sys.stderr.write("dpj: interrupted\n")
        return 130
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    except Exception as error:  # noqa: BLE001 - whatever it is, the person at the terminal gets one clear line
        from runtime.cli.failures import is_interrupt, report

        if is_interrupt(error):
            sys.stderr.write("dpj: interrupted\n")
            return 130
        return report(error, as_json=as_json)


def with_json_last(words: list[str]) -> list[str]:
    """``--json`` before the command means the same as after it; what follows a ``--`` is no option."""
    command = next((place for place, word in enumerate(words) if not word.startswith("-")), None)
    if command is None or JSON not in words[:command] or "--" in words[:command]:
        return words
    rest = [word for word in words[:command] if word != JSON] + words[command:]
    end = rest.index("--") if "--" in rest else len(rest)
    return rest if JSON in rest[:end] else [*rest[:end], JSON, *rest[end:]]


if __name__ == "__main__":
    sys.exit(main())
