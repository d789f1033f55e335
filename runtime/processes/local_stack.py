"""The whole pipeline on one machine: servers, tables, schemas, topics and our own processes."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable, Collection, Container
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from deploy.native.site import Profile
    from runtime.config.settings import Settings
    from runtime.processes.local import PipelineProcesses

#: The one tenant that a local stack has a key for.
DEFAULT_TENANT: Final = "demo"


def bring_up(
    stack: str | None,
    profile: Profile | None,
    report: Callable[[str], None],
    *,
    tls: bool | None = None,
    extras: Collection[str] = (),
    ready: Container[str] | None = None,
) -> Settings:
    """Start servers, make tables, schemas and topics, and start processes, each if need be. Raises what each of them raises.

    ``stack`` and ``profile`` are names, None for those in force; ``report`` is told of every step. ``extras`` are words for parts to
    have from now on that no profile has by itself. ``ready`` names the processes that are waited for, None all of them. In the
    embedded profile tables are made and our processes started as soon as the database is there: they wait for what still comes. In
    the full one some of the settings come from servers, so that these must be there first.
    """
    from deploy.native import stack as native
    from deploy.native.report import Plain
    from runtime.config.settings import settings_file

    name = settings_file(stack).parent.name
    chosen = profile or native.profile_of(name) or "embedded"
    beginning = _Beginning(name, report)
    early = {"postgres": beginning.begin} if chosen == "embedded" else None
    try:
        native.up(name, chosen, reporter=Plain(report), tls=tls, extras=extras, then=early)
    except BaseException:
        beginning.undo()
        raise
    return beginning.finish(ready)


class _Beginning:
    """The part of ``bring_up`` that is ours: what the database is enough for, and what needs the other servers."""

    def __init__(self, stack: str, report: Callable[[str], None]) -> None:
        self._stack = stack
        self._report = report
        self._processes: PipelineProcesses | None = None
        self._started: list[str] = []

    def begin(self) -> PipelineProcesses:
        """Tables, schemas, keys, object store; then what takes documents to the GED is started, and not waited for."""
        from runtime.config.settings import load_settings
        from runtime.processes.local import TO_THE_ARCHIVE, PipelineProcesses

        settings = load_settings(self._stack)
        prepare_data(settings, self._report)
        self._processes = PipelineProcesses(settings)
        self._started = self._processes.begin(TO_THE_ARCHIVE)
        return self._processes

    def finish(self, ready: Container[str] | None) -> Settings:
        """Topics, and whatever ``begin`` has not done yet; then every process is ready, or those that ``ready`` names."""
        from runtime.config.settings import load_settings

        settings = load_settings(self._stack)
        processes = self._processes or self.begin()
        prepare_topics(settings, self._report)
        if ready is not None:
            processes.wait_until_ready(self._report, ready)
        processes.begin()
        if ready is None:
            processes.wait_until_ready(self._report)
        return settings

    def undo(self) -> None:
        """End the processes that ``begin`` started."""
        if self._processes is not None:
            self._processes.end(self._started)


def prepare(settings: Settings, report: Callable[[str], None], tenant: str = DEFAULT_TENANT) -> None:
    """All that processes need of their servers; safe to repeat."""
    prepare_data(settings, report, tenant)
    prepare_topics(settings, report)


def prepare_data(settings: Settings, report: Callable[[str], None], tenant: str = DEFAULT_TENANT) -> None:
    """Tables, schemas, object store, and the key of the one tenant that a local stack has; safe to repeat."""
    from runtime.wiring.provisioning import create_tenant_key, migrate, prepare_object_store, register_schemas

    asyncio.run(migrate(settings))
    report("tables are there")
    asyncio.run(register_schemas(settings))
    report("schemas are registered" if settings.schema_registry == "server" else "schemas have their ids")
    asyncio.run(create_tenant_key(settings, tenant, getpass.getuser()))
    report(f"tenant {tenant} has a key")
    asyncio.run(prepare_object_store(settings))
    report("object store is ready")


def prepare_topics(settings: Settings, report: Callable[[str], None]) -> None:
    """Raises CommandFailed if topics that are there differ from what the settings say."""
    from operations.kafka.topics import ensure_topics, planned_topics
    from runtime.config.transport import kafka_security

    plans = planned_topics(
        partitions=settings.topic_partitions,
        replication=settings.topic_replication,
        retention_days=settings.topic_retention_days,
    )
    topics = ensure_topics(settings.kafka_bootstrap, plans, security=kafka_security(settings))
    differing = [asdict(topic) for topic in topics if topic.differences]
    if differing:
        raise CommandFailed(
            f"Topics are not as the settings say: {', '.join(str(one['name']) for one in differing)}.",
            "Compare: dpj topics create",
            code="topics_differ",
            document={"topics": differing},
        )
    report("topics are there")
