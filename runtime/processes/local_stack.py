"""The whole pipeline on one machine: servers, tables, schemas, topics and our own processes."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from deploy.native.site import Profile
    from runtime.config.settings import Settings

#: The one tenant that a local stack has a key for.
DEFAULT_TENANT: Final = "demo"


def bring_up(
    stack: str | None, profile: Profile | None, tell: Callable[[str], None], *, tls: bool | None = None
) -> Settings:
    """Start servers, then tables, schemas and topics, then processes, each if need be. Raises what each of them raises.

    ``stack`` and ``profile`` are names, None for those in force; ``tell`` is told of every step.
    """
    from deploy.native import stack as native
    from deploy.native.report import Plain
    from runtime.config.settings import load_settings, settings_file
    from runtime.processes.local import Services

    name = settings_file(stack).parent.name
    chosen = profile or native.profile_of(name) or "embedded"
    native.up(name, chosen, reporter=Plain(tell), tls=tls)
    settings = load_settings(name)
    prepare(settings, tell)
    Services(settings).start(tell)
    return settings


def prepare(settings: Settings, tell: Callable[[str], None], tenant: str = DEFAULT_TENANT) -> None:
    """Tables, schemas, object store, topics, and the key of the one tenant that a local stack has; safe to repeat."""
    from operations.kafka.topics import ensure_topics, planned_topics
    from runtime.config.transport import kafka_security
    from runtime.wiring.provisioning import create_tenant_key, migrate, prepare_object_store, register_schemas

    asyncio.run(migrate(settings))
    tell("tables are there")
    asyncio.run(register_schemas(settings))
    tell("schemas are registered")
    asyncio.run(create_tenant_key(settings, tenant, getpass.getuser()))
    tell(f"tenant {tenant} has a key")
    asyncio.run(prepare_object_store(settings))
    tell("object store is ready")
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
