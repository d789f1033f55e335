"""The whole pipeline on one machine: servers, tables, schemas, topics and our own processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli.documents import DEFAULT_TENANT
from runtime.cli.output import AsJson, CommandFailed, Stack, answer, note, settings_of

if TYPE_CHECKING:
    from runtime.config.settings import Settings
    from runtime.processes.local import Services

DEMO_STACK = "demo"
NOT_READY = 3


class ProfileName(StrEnum):
    """``embedded``: documents in a folder, keys in a file, audit log in PostgreSQL. ``full``: MinIO, Vault, MongoDB's protocol, a
    Schema Registry and an antivirus."""

    EMBEDDED = "embedded"
    FULL = "full"


Profile = Annotated[
    ProfileName | None,
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


def up(profile: Profile = None, tls: Tls = None, stack: Stack = None, as_json: AsJson = False) -> None:
    """Start everything: servers, then tables, schemas and topics, then API, relay and workers."""
    settings = bring_up(stack, profile, note, tls=tls)
    document = {"stack": settings.stack_name, "api": settings.api_url}
    answer(document, [f"The pipeline is up: {document['api']}"], as_json=as_json)


def down(
    servers: Annotated[bool, typer.Option("--servers/--keep-servers", help="Stop the servers too.")] = True,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Stop our processes, then the servers. Data stay, but for the GED's, which it keeps in memory."""
    from deploy.native import stack as native
    from runtime.processes.local import Services

    settings = settings_of(stack)
    stopped = Services(settings).stop()
    if servers:
        stopped += native.down(settings.stack_name)
    text = ", ".join(stopped) if stopped else "nothing was running"
    answer({"stack": settings.stack_name, "stopped": stopped}, [f"Stopped: {text}."], as_json=as_json)


def status(stack: Stack = None, as_json: AsJson = False) -> None:
    """Whether servers and processes are ready. Exit status 3 if one is not."""
    from deploy.native import stack as native
    from runtime.processes.local import Services

    settings = settings_of(stack)
    services = Services(settings).states()
    found = native.status(settings.stack_name)
    servers = [] if found is None else [{"name": row.part, "state": row.state, "pid": row.pid} for row in found.rows]
    parts = [*servers, *({"name": one.name, "state": one.state, "pid": one.pid} for one in services)]
    lines = (f"{part['name']:<20} {part['state']:<9} {part['pid'] or '-'}" for part in parts)
    answer({"stack": settings.stack_name, "parts": parts}, lines, as_json=as_json)
    if any(part["state"] != "ready" for part in parts):
        raise typer.Exit(NOT_READY)


def demo(
    profile: Profile = ProfileName.EMBEDDED,
    tls: Tls = None,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Leave everything running, so that the links work.")
    ] = True,
    stack: Annotated[str, typer.Option("--stack", metavar="NAME", help="The stack to use.")] = DEMO_STACK,
    as_json: AsJson = False,
) -> None:
    """Start everything, send sample documents through it, and prove what came of them."""
    from runtime.cli.demonstration import run

    run(stack, profile, tls=tls, keep=keep, as_json=as_json)


def bring_up(
    stack: str | None, profile: ProfileName | None, tell: Callable[[str], None], *, tls: bool | None = None
) -> Settings:
    """Servers, tables, schemas, topics, processes, each if need be; told of every step. Raises what each of them raises.

    In the embedded profile tables are made and our processes started as soon as the database is there: they wait for what still comes.
    In the full one some of the settings come from servers, so that these must be there first.
    """
    from deploy.native import stack as native
    from deploy.native.report import Plain
    from runtime.config.settings import settings_file

    name = settings_file(stack).parent.name
    chosen = profile.value if profile else native.profile_of(name) or "embedded"
    beginning = _Beginning(name, tell)
    early = {"postgres": beginning.begin} if chosen == "embedded" else None
    try:
        native.up(name, chosen, reporter=Plain(tell), tls=tls, then=early)
    except BaseException:
        beginning.undo()
        raise
    return beginning.finish()


class _Beginning:
    """The part of ``bring_up`` that is ours: what the database is enough for, and what needs the other servers."""

    def __init__(self, stack: str, tell: Callable[[str], None]) -> None:
        self._stack = stack
        self._tell = tell
        self._services: Services | None = None
        self._begun: list[str] = []

    def begin(self) -> None:
        """Tables, schemas, keys, object store; then our processes are started, and not waited for."""
        from runtime.config.settings import load_settings
        from runtime.processes.local import Services

        settings = load_settings(self._stack)
        prepare_data(settings, self._tell)
        self._services = Services(settings)
        self._begun = self._services.begin()

    def finish(self) -> Settings:
        """Topics, and whatever ``begin`` has not done yet; then every process is ready."""
        from runtime.config.settings import load_settings

        settings = load_settings(self._stack)
        if self._services is None:
            self.begin()
        prepare_topics(settings, self._tell)
        if self._services is not None:
            self._services.wait_until_ready(self._tell)
        return settings

    def undo(self) -> None:
        """End the processes that ``begin`` started."""
        if self._services is not None:
            self._services.end(self._begun)


def prepare(settings: Settings, tell: Callable[[str], None], tenant: str = DEFAULT_TENANT) -> None:
    """All that processes need of their servers; safe to repeat."""
    prepare_data(settings, tell, tenant)
    prepare_topics(settings, tell)


def prepare_data(settings: Settings, tell: Callable[[str], None], tenant: str = DEFAULT_TENANT) -> None:
    """Tables, schemas, object store, and the key of the one tenant that a local stack has; safe to repeat."""
    from runtime.cli.administration import migrate, register_schemas

    asyncio.run(migrate(settings))
    tell("tables are there")
    asyncio.run(register_schemas(settings))
    tell("schemas are registered" if settings.schema_registry == "server" else "schemas have their ids")
    asyncio.run(_create_key(settings, tenant))
    tell(f"tenant {tenant} has a key")
    asyncio.run(_prepare_store(settings))
    tell("object store is ready")


def prepare_topics(settings: Settings, tell: Callable[[str], None]) -> None:
    """Raises CommandFailed if topics that are there differ from what the settings say."""
    from operations.kafka.topics import ensure_topics, planned_topics
    from runtime.config.transport import kafka_security

    plans = planned_topics(
        partitions=settings.topic_partitions,
        replication=settings.topic_replication,
        retention_days=settings.topic_retention_days,
    )
    reports = ensure_topics(settings.kafka_bootstrap, plans, security=kafka_security(settings))
    differing = [asdict(report) for report in reports if report.differences]
    if differing:
        raise CommandFailed(
            f"Topics are not as the settings say: {', '.join(str(one['name']) for one in differing)}.",
            "Compare: dpj topics create",
            code="topics_differ",
            document={"topics": differing},
        )
    tell("topics are there")


async def _create_key(settings: Settings, tenant: str) -> None:
    from runtime.cli.operator_options import operator_name
    from runtime.wiring.site import Site

    site = Site(settings)
    try:
        await site.codec.check()
        await site.key_care(operator_name()).create(tenant)
    finally:
        await site.aclose()


async def _prepare_store(settings: Settings) -> None:
    from runtime.wiring.adapters import create_object_store

    objects = create_object_store(settings)
    try:
        await objects.prepare()
    finally:
        await objects.aclose()
