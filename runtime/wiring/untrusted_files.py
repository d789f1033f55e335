"""What stands between a stranger's file and us, and what is told of it: the antivirus, the confinement of the parsers."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from antivirus.clamd import ClamdScanner
from domain.antivirus import ScanResult, ScanVerdict
from domain.documents import Language
from domain.errors import AntivirusUnavailable, RendererUnavailable, Transient
from domain.renderings import NoThumbnail
from processors.events.antivirus import CountedScanner, DocumentScanner, NoAntivirus
from processors.events.operator_mails import OperatorRecipients
from processors.events.retry_limited_scanner import RetryLimitedScanner
from processors.resilience.circuit_breakers import CircuitBreaker
from processors.resilience.guarded_ports import GuardedAntivirusEngine
from rendering.confinement import Layer
from rendering.pool import RenderPool
from runtime.config.settings import Settings

log = structlog.get_logger()

REQUIRED = "required"


class ParsersUnconfined(Exception):
    """The settings demand a system call filter over the parsers, and this machine takes none."""


def operators_of(settings: Settings) -> OperatorRecipients:
    """Who is told of quarantined documents; no address: nobody."""
    addresses = tuple(dict.fromkeys(part.strip() for part in settings.operators_mail.split(",") if part.strip()))
    return OperatorRecipients(addresses=addresses, language=Language(settings.operators_language))


class AntivirusMetrics:
    """What the antivirus says, and whether there is one; label: finding."""

    def __init__(self, registry: CollectorRegistry, *, enabled: bool) -> None:
        Gauge("dpj_antivirus_enabled", "1 where documents are scanned", registry=registry).set(int(enabled))
        self._verdicts = Counter(
            "dpj_antivirus_verdicts_total", "Documents by what was found", ["finding"], registry=registry
        )
        for finding in ScanResult:
            self._verdicts.labels(finding.value)

    def count(self, verdict: ScanVerdict) -> None:
        self._verdicts.labels(verdict.finding.value).inc()


class ParserMetrics:
    """What confines the parsers, and how many were lost; labels: layer, reason."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._confined = Gauge("dpj_parsers_confined", "1 while this layer holds", ["layer"], registry=registry)
        self._lost = Counter(
            "dpj_parsers_lost_total", "Parsers that were killed or died", ["reason"], registry=registry
        )
        for layer in Layer:
            self._confined.labels(layer.value)

    def watch(self, pool: RenderPool) -> None:
        """Show what confines the pool's children, as it is when somebody asks."""
        for layer in Layer:
            self._confined.labels(layer.value).set_function(_holds(pool, layer))

    def count_lost(self, reason: NoThumbnail) -> None:
        self._lost.labels(reason.value).inc()


def _holds(pool: RenderPool, layer: Layer) -> Callable[[], float]:
    return lambda: float(layer in (pool.confinement or ()))


def create_render_pool(settings: Settings, registry: CollectorRegistry) -> RenderPool:
    """The parsers of this process; they start when they are first needed."""
    metrics = ParserMetrics(registry)
    pool = RenderPool(
        children=settings.render_children,
        timeout=settings.render_timeout,
        memory_bytes=settings.render_memory,
        confined=settings.render_confinement == REQUIRED,
        on_lost=metrics.count_lost,
    )
    metrics.watch(pool)
    return pool


def confinement_of(pool: RenderPool) -> list[str]:
    """The layers that hold, for /readyz; empty until the first parser has started, and where nothing does."""
    return sorted(layer.value for layer in pool.confinement or ())


async def check_confinement(pool: RenderPool, settings: Settings) -> None:
    """Start one parser and see what confines it. Raises ParsersUnconfined where that is less than the settings demand.

    A parser that can't be started for another reason is tried again with the first document.
    """
    try:
        await pool.check()
    except RendererUnavailable:
        held = pool.confinement
        if settings.render_confinement == REQUIRED and held is not None and Layer.SECCOMP not in held:
            raise ParsersUnconfined from None


def create_scanner(
    settings: Settings,
    registry: CollectorRegistry,
    guard: Callable[[type[Transient], ClamdScanner], CircuitBreaker],
) -> DocumentScanner:
    """The antivirus that the settings name, behind its circuit breaker; none where they say so, which is said aloud."""
    enabled = settings.antivirus != "off"
    metrics = AntivirusMetrics(registry, enabled=enabled)
    if not enabled:
        log.warning("antivirus_off")
        return CountedScanner(NoAntivirus(), metrics.count)
    clamd = ClamdScanner(
        settings.clamd_address,
        piece_seconds=settings.clamd_piece_timeout,
        verdict_seconds=settings.clamd_verdict_timeout,
    )
    engine = GuardedAntivirusEngine(clamd, guard(AntivirusUnavailable, clamd))
    return CountedScanner(RetryLimitedScanner(engine), metrics.count)
