"""The Faust agents of the pipeline: what each reads, and whose work it does.

- **integrity** (group ``dpj.integrity``) reads ``dpj.document.uploaded`` for
  ``processors.events.integrity.IntegrityProcessor``.
- **renditions** (group ``dpj.renditions``) reads ``dpj.document.verified`` for
  ``processors.events.renditions.RenditionProcessor``.
- **archiving** (group ``dpj.archiving``) reads ``dpj.document.uploaded``, ``dpj.document.validated`` for
  ``processors.events.archiving.ArchivingProcessor``.
- **notification** (group ``dpj.notification``) reads ``dpj.document.uploaded``, ``dpj.document.validated``,
  ``dpj.document.rejected``, ``dpj.document.quarantined``, ``dpj.document.archived`` for
  ``processors.events.notification.NotificationProcessor``.
- **audit** (group ``dpj.audit``) reads ``dpj.audit.recorded`` for
  ``processors.audit.chaining.AuditProcessor``.

Each has a Faust app of its own (``streams.apps``): agents of one app share a consumer, and the slowest holds up the others.
All have the same body (``attach``): records go from the agent's stream to delivery (``streams.delivery``), which has the
processor. A fetch of records is one item of the stream (``streams.fetching``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import faust
from faust.types import TP
from mode.supervisors import CrashingSupervisor

from domain.consumers import group_of, topics_of
from streams.delivery import Delivery
from streams.lanes import Partition


@dataclass(frozen=True, slots=True)
class AgentDeclaration:
    """``topics``: what the agent reads, as a member of the consumer group ``group``; ``processor``: its class, by name,
    so that nothing is imported that a process does not run."""

    consumer: str
    processor: str

    @property
    def topics(self) -> tuple[str, ...]:
        return topics_of(self.consumer)

    @property
    def group(self) -> str:
        return group_of(self.consumer)


AGENTS: Final[Mapping[str, AgentDeclaration]] = {
    agent.consumer: agent
    for agent in (
        AgentDeclaration("integrity", "processors.events.integrity.IntegrityProcessor"),
        AgentDeclaration("renditions", "processors.events.renditions.RenditionProcessor"),
        AgentDeclaration("archiving", "processors.events.archiving.ArchivingProcessor"),
        AgentDeclaration("notification", "processors.events.notification.NotificationProcessor"),
        AgentDeclaration("audit", "processors.audit.chaining.AuditProcessor"),
    )
}


def attach(app: faust.App, topics: tuple[str, ...], delivery: Delivery) -> None:
    """Declare the app's agent: it reads ``topics``, and ``delivery`` is its body.

    Delivery commits what it has finished: the topic and the stream acknowledge nothing. An agent that ends while its app
    runs, however it does, has left records that no lane holds: the app crashes, and what is not committed comes again.
    """

    @app.agent(app.topic(*topics, acks=False), name=app.conf.id, supervisor_strategy=CrashingSupervisor)
    async def deliver(stream: Any) -> None:
        stream.enable_acks = False
        async for fetch in stream:
            for record in fetch:
                delivery.accept(record)
        if not app.should_stop:
            await app.crash(RuntimeError("the agent's stream ended"))

    conductor: Any = app.topics  # it has the agent's topic, once its stream is there
    on_partitions_revoked: Any = app.on_partitions_revoked

    async def on_revoked(_app: Any, revoked: set[TP], **_: Any) -> None:
        gone = {Partition(tp.topic, tp.partition) for tp in revoked}
        for topic in conductor:
            topic.forget(gone)
        await delivery.revoke(gone)

    on_partitions_revoked.connect(on_revoked, weak=False)
