"""All metrics that our processes have, in one registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from console.security import ConsoleMetrics
from ingest_api.metrics import ApiMetrics
from runtime.observability.telemetry import (
    AuditStepMetrics,
    CircuitMetrics,
    DeliveryMetrics,
    PauseMetrics,
    ReconcileMetrics,
    RelayMetrics,
    WatchdogMetrics,
)
from runtime.processes.erasure_jobs import ErasureMetrics, PurgeMetrics
from runtime.processes.owed_events_job import OwedMetrics
from runtime.processes.restore_jobs import RestoreMetrics
from runtime.processes.schema_ids_job import SchemaMetrics
from runtime.wiring.untrusted_files import AntivirusMetrics, ParserMetrics


def all_metrics() -> CollectorRegistry:
    """But those of the overview, which has a collector of its own (``runtime.observability.overview_metrics``)."""
    registry = CollectorRegistry()
    for metrics in (
        DeliveryMetrics,
        RelayMetrics,
        CircuitMetrics,
        WatchdogMetrics,
        ReconcileMetrics,
        ErasureMetrics,
        PurgeMetrics,
        OwedMetrics,
        SchemaMetrics,
        RestoreMetrics,
        ApiMetrics,
        ConsoleMetrics,
        ParserMetrics,
    ):
        metrics(registry)
    PauseMetrics(registry, ["audit"], lambda _: None)
    AuditStepMetrics(registry, {"flush": lambda: False})
    AntivirusMetrics(registry, enabled=True)
    return registry
