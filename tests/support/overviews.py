"""Overviews in which all is unknown but what a test gives."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from domain.consumers import CONSUMERS
from domain.lifecycle import Status
from domain.overview import Holder, NextStep
from operations.overview.model import ConsumerOverview, OldestDocument, Overview, PartitionOverview
from tests.support.builders import NOW

DOCUMENT = UUID("0b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57")


def a_consumer(name: str, **known: Any) -> ConsumerOverview:
    unknown: dict[str, Any] = dict.fromkeys(
        (
            "lag", "behind_seconds", "partitions", "held", "dead_open", "waits_for", "waits_since", "stalled", "lost",
            "retention_margin_seconds", "trend", "drain_seconds", "paused", "oldest",
        )
    )  # fmt: skip
    return ConsumerOverview(**{"consumer": name, "known": False, **unknown, **known})


def a_partition(**changes: Any) -> PartitionOverview:
    """One that has been read to its end."""
    base: dict[str, Any] = {
        "topic": "dpj.document.uploaded",
        "partition": 0,
        "committed": 10,
        "end": 10,
        "lag": 0,
        "behind_seconds": 0.0,
        "head": None,
        "retention_margin_seconds": None,
    }
    return PartitionOverview(**{**base, **changes})


def an_oldest(**changes: Any) -> OldestDocument:
    base: dict[str, Any] = {
        "document_id": DOCUMENT,
        "tenant": "acme",
        "status": Status.STORED,
        "deposited_at": NOW,
        "waits_since": NOW,
        "held_by": Holder.OUTBOX,
        "held_since": NOW,
        "next_step": NextStep.RELAY_PUBLISHES,
        "topic": "dpj.document.uploaded",
        "consumer": "integrity",
        "caused_at": NOW,
        "waiting_for": None,
        "code": None,
        "attempts": None,
    }
    return OldestDocument(**{**base, **changes})


def an_overview(**known: Any) -> Overview:
    unknown: dict[str, Any] = dict.fromkeys(
        (
            "outbox", "outbox_trend", "states", "oldest", "checkpoints", "audit_steps_stopped", "erasures",
            "dependencies", "circuits", "watchdog_looked", "reconcile", "restores",
        )
    )  # fmt: skip
    base = {"at": NOW, "consumers": tuple(a_consumer(name) for name in CONSUMERS), "silent": (), "oldest_unknown": True}
    return Overview(**{**base, **unknown, **known})
