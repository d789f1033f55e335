"""The consumers of the pipeline, their groups and the topics that they read."""

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

#: What each processor handles, spelled out so that a tool needs none of them; a test holds the two equal.
HANDLES: Final[Mapping[str, tuple[type[Event], ...]]] = {
    "integrity": (DocumentUploaded,),
    "renditions": (DocumentVerified,),
    "archiving": (DocumentUploaded, DocumentValidated),
    "notification": (DocumentUploaded, DocumentValidated, DocumentRejected, DocumentQuarantined, DocumentArchived),
    "audit": (AuditRecorded,),
}

CONSUMERS: Final = tuple(HANDLES)


def group_of(consumer: str) -> str:
    """The consumer group of a processor."""
    return f"dpj.{consumer}"


def groups() -> dict[str, tuple[str, ...]]:
    """The topics of every consumer group."""
    return {
        group_of(consumer): tuple(event_type.TOPIC for event_type in handled) for consumer, handled in HANDLES.items()
    }
