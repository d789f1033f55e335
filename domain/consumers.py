"""The consumers of the pipeline: the events that each handles, and its Kafka consumer group.

The agents (``streams.agents``) and the operators' tools read this one table; none of them needs a processor for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from domain.events import (
    AuditRecorded,
    DocumentArchived,
    DocumentQuarantined,
    DocumentRejected,
    DocumentUploaded,
    DocumentValidated,
    DocumentVerified,
    Event,
)

HANDLES: Final[Mapping[str, tuple[type[Event], ...]]] = {
    "integrity": (DocumentUploaded,),
    "renditions": (DocumentVerified,),
    "archiving": (DocumentUploaded, DocumentValidated),
    "notification": (DocumentUploaded, DocumentValidated, DocumentRejected, DocumentQuarantined, DocumentArchived),
    "audit": (AuditRecorded,),
}

CONSUMERS: Final = tuple(HANDLES)
_PREFIX: Final = "dpj."


def group_of(consumer: str) -> str:
    """The consumer group of a processor."""
    return f"{_PREFIX}{consumer}"


def consumer_of(group: str) -> str:
    """The processor whose consumer group that is."""
    return group.removeprefix(_PREFIX)


def topics_of(consumer: str) -> tuple[str, ...]:
    """The topics that a consumer reads."""
    return tuple(event_type.TOPIC for event_type in HANDLES[consumer])


def groups() -> dict[str, tuple[str, ...]]:
    """The topics of every consumer group."""
    return {group_of(consumer): topics_of(consumer) for consumer in CONSUMERS}


def readers() -> dict[str, tuple[str, ...]]:
    """The consumers of every topic that has any: who must finish an event of it."""
    topics = {topic for consumer in CONSUMERS for topic in topics_of(consumer)}
    return {topic: tuple(name for name in CONSUMERS if topic in topics_of(name)) for topic in sorted(topics)}
