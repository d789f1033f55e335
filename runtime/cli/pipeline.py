"""The whole pipeline on one machine: servers, tables, schemas, topics and our own processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer

from runtime.cli.output import AsJson, Stack, command_name, print_note, print_result, settings_of
from runtime.processes.local_stack import bring_up

NOT_READY = 3


class StackProfile(StrEnum):
    """``embedded``: documents in a folder, keys in a file, audit log in PostgreSQL. ``full``: MinIO, Vault, MongoDB's protocol, a
    Schema Registry and an antivirus."""

    EMBEDDED = "embedded"
    FULL = "full"


class Extra(StrEnum):
    """What no profile has by itself. ``identity``: Keycloak with our realm; ``observability``: Prometheus and Alertmanager with our
    rules, and a collector of traces."""

    IDENTITY = "identity"
    OBSERVABILITY = "observability"
    REDIS = "redis"
    TOXIPROXY = "toxiproxy"


Profile = Annotated[
    StackProfile | None,
    typer.Option(
        help="embedded: folder, key file, PostgreSQL; full: MinIO, Vault, FerretDB, registry, clamd.  [default: as before, or embedded]"
    ),
]


Tls = Annotated[
    bool | None,
    typer.Option(
        "--tls/--no-tls", help="TLS 1.3 for every connection, with a local CA.  [default: as before, or none]"
    ),
]


Extras = Annotated[
    list[Extra] | None,
    typer.Option(
        "--with",
        help="What no profile has by itself: identity (Keycloak), observability (Prometheus, Alertmanager, a collector of traces), redis or toxiproxy.",
    ),
]


def up(
    profile: Profile = None,
    tls: Tls = None,
    extras: Extras = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Start everything: servers, then tables, schemas and topics, then API, relay and workers."""
    with telling_what_runs(stack):
        added = [extra.value for extra in extras or ()]
        settings = bring_up(stack, profile.value if profile else None, print_note, tls=tls, extras=added)
    monitoring = monitoring_of(settings.stack_name)
    identity = identity_of(settings.stack_name)
    document = {
        "stack": settings.stack_name,
        "api": settings.api_url,
        "console": settings.console_url,
        **identity,
        **monitoring,
    }
    lines = [f"The pipeline is up: {settings.api_url}", f"The console: {settings.console_url}"]
    if identity:
        lines.append(f"Keycloak: {identity['keycloak']}; who may sign in: {identity['accounts']}")
    print_result(document, [*lines, *_monitoring_lines(monitoring)], as_json=as_json)


def monitoring_of(stack: str) -> dict[str, str]:
    """Addresses of Prometheus and Alertmanager by name, the page of logs and the file of spans, where the stack has them."""
    from deploy.native import site
    from deploy.native.parts import victorialogs
    from deploy.native.parts.collector import spans_file
    from deploy.native.parts.observability import addresses

    here = site.load(stack)
    found = {} if here is None else addresses(here)
    if here is None or not found:
        return found
    return {**found, "logs": victorialogs.page(here), "spans": str(spans_file(here))}


def identity_of(stack: str) -> dict[str, str]:
    """Where the stack's Keycloak is, and the file with its passwords; empty if it has none."""
    from deploy.native import site
    from deploy.native.parts import keycloak

    here = site.load(stack)
    if here is None or keycloak.NAME not in here.extras:
        return {}
    return {"keycloak": keycloak.Keycloak().url(here), "accounts": str(keycloak.accounts_file(here))}


def _monitoring_lines(addresses: dict[str, str]) -> list[str]:
    return [f"{name.capitalize()}: {address}" for name, address in addresses.items()]


def down(
    servers: Annotated[bool, typer.Option("--servers/--keep-servers", help="Stop the servers too.")] = True,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Stop our processes, then the servers. Data stay, but for the GED's, which it keeps in memory."""
    from deploy.native import stack as native
    from runtime.processes.local import PipelineProcesses

    settings = settings_of(stack)
    stopped = PipelineProcesses(settings).stop()
    if servers:
        stopped += native.down(settings.stack_name)
    text = ", ".join(stopped) if stopped else "nothing was running"
    print_result({"stack": settings.stack_name, "stopped": stopped}, [f"Stopped: {text}."], as_json=as_json)


def status(stack: Stack = None, as_json: AsJson = False) -> None:
    """Whether servers and processes are ready. Exit status 3 if one is not."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from deploy.native import stack as native
    from runtime.cli.overview_lines import outbox_lines
    from runtime.processes.local import PipelineProcesses
    from runtime.wiring.backlog import outbox_backlog

    settings = settings_of(stack)
    services = PipelineProcesses(settings).states()
    found = native.status(settings.stack_name)
    servers = [] if found is None else [{"name": row.part, "state": row.state, "pid": row.pid} for row in found.rows]
    processes = [{"name": one.name, "state": one.state, "pid": one.pid, "reason": one.reason} for one in services]
    parts = [*servers, *processes]
    lines = [
        f"{part['name']:<20} {part['state']:<9} {part['pid'] or '-':<8} {part.get('reason', '')}".rstrip()
        for part in parts
    ]
    backlog = outbox_backlog(settings)
    lines += ["", *outbox_lines(backlog, datetime.now(UTC))]
    monitoring = monitoring_of(settings.stack_name)
    if monitoring:
        lines += ["", *_monitoring_lines(monitoring)]
    document = {
        "stack": settings.stack_name,
        "parts": parts,
        "outbox": None if backlog is None else asdict(backlog),
        **monitoring,
    }
    print_result(document, lines, as_json=as_json)
    if any(part["state"] != "ready" for part in parts):
        raise typer.Exit(NOT_READY)


def demo(
    profile: Profile = None,
    tls: Tls = None,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Leave everything running, so that the links work.")
    ] = True,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Start everything, send sample documents through it, and prove what came of them."""
    from runtime.cli.demonstration import run

    with telling_what_runs(stack):
        run(stack, profile.value if profile else None, tls=tls, keep=keep, as_json=as_json)


@contextmanager
def telling_what_runs(stack: str | None) -> Iterator[None]:
    """Ctrl-C within says what of the stack runs all the same, and how to end it."""
    try:
        yield
    except BaseException as error:
        from runtime.cli.failures import is_interrupt

        if not is_interrupt(error):
            raise
        from runtime.config.settings import settings_file
        from runtime.processes.local import running_in

        name = settings_file(stack).parent.name
        running = running_in(name)
        end = f"still running: {', '.join(running)}; end it with: {command_name()} down --stack {name}"
        print_note(f"dpj: interrupted; {end if running else f'nothing of stack {name} runs'}")
        raise KeyboardInterrupt from None
