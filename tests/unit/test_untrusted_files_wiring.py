"""What settings make of antivirus, operators and parsers, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from antivirus.clamd import ClamdScanner
from crypto.encoding import to_text
from domain.antivirus import ScanResult
from domain.documents import Language
from domain.errors import AntivirusUnavailable, RendererUnavailable, Transient
from domain.lifecycle import CHECKED, READABLE
from domain.renderings import NoThumbnail
from processors.resilience.circuit_breakers import CircuitBreaker
from rendering.confinement import Layer
from runtime.wiring.http_api import api_dependencies
from runtime.wiring.site import Site
from runtime.wiring.untrusted_files import (
    ParserMetrics,
    ParsersUnconfined,
    check_confinement,
    create_scanner,
    operators_of,
)
from tests.support.builders import a_document
from tests.support.fakes_content import pieces
from tests.support.settings import settings_of


class Pool:
    """A render pool whose children are confined as told, or do not start."""

    def __init__(self, *layers: Layer, starts: bool = True, seen: bool = True) -> None:
        self.confinement = frozenset(layers) if seen else None
        self._starts = starts

    async def check(self) -> None:
        if not self._starts:
            raise RendererUnavailable


def unguarded(kind: type[Transient], clamd: ClamdScanner) -> CircuitBreaker:
    return CircuitBreaker(kind, clamd.check, clock=lambda: 0.0)


async def test_no_antivirus_is_said_aloud_and_passes_everything() -> None:
    registry = CollectorRegistry()
    with capture_logs() as logs:
        scanner = create_scanner(settings_of(), registry, unguarded)
    assert [(line["event"], line["log_level"]) for line in logs] == [("antivirus_off", "warning")]
    assert (await scanner.scan(pieces(b"a", b"b"), a_document())).finding is ScanResult.NOT_SCANNED
    assert registry.get_sample_value("dpj_antivirus_enabled") == 0
    assert registry.get_sample_value("dpj_antivirus_verdicts_total", {"finding": "not_scanned"}) == 1


async def test_an_antivirus_that_is_away_lets_nothing_pass() -> None:
    registry = CollectorRegistry()
    away = settings_of(antivirus="clamd", clamd_address="unix:/nonexistent/clamd.sock")
    scanner = create_scanner(away, registry, unguarded)
    with pytest.raises(AntivirusUnavailable):
        await scanner.scan(pieces(b"a"), a_document())
    assert registry.get_sample_value("dpj_antivirus_enabled") == 1
    assert registry.get_sample_value("dpj_antivirus_verdicts_total", {"finding": "clean"}) == 0


@pytest.mark.parametrize("antivirus", ["clamd", "off"])
async def test_who_serves_content_knows_of_the_antivirus(antivirus: str, tmp_path: Path) -> None:
    """Whichever way content leaves by: to a caller, or over a link."""
    keys = {name: tmp_path / name for name in ("personal_key_file", "pseudonym_key_file")}
    for path in keys.values():
        path.write_text(to_text(os.urandom(32)))
        path.chmod(0o600)
    local = {
        "objects_dir": tmp_path,
        "keyring_file": tmp_path / "keyring.json",
        "signing_key_file": tmp_path / "s.json",
    }
    site = Site(settings_of(antivirus=antivirus, **keys, **local))
    api = api_dependencies(site)
    assert api.reading._scanned_only is (antivirus == "clamd")
    assert api.links._open_states == (CHECKED if antivirus == "clamd" else READABLE)
    await site.aclose()


@pytest.mark.parametrize(
    ("text", "addresses"),
    [("", ()), (" , ", ()), ("a@b.fr", ("a@b.fr",)), ("a@b.fr, c@d.fr,a@b.fr", ("a@b.fr", "c@d.fr"))],
)
def test_operators_are_addresses_apart_by_commas(text: str, addresses: tuple[str, ...]) -> None:
    found = operators_of(settings_of(operators_mail=text, operators_language="en"))
    assert (tuple(found.addresses), found.language) == (addresses, Language.ENGLISH)
    assert "a@b.fr" not in repr(found)


async def test_a_demanded_filter_that_is_not_to_be_had_ends_the_worker() -> None:
    weak = Pool(Layer.LANDLOCK, Layer.NAMESPACES, starts=False)
    with pytest.raises(ParsersUnconfined):
        await check_confinement(weak, settings_of(render_confinement="required"))
    await check_confinement(weak, settings_of())


async def test_a_parser_that_does_not_start_for_another_reason_does_not() -> None:
    for pool in (Pool(starts=False, seen=False), Pool(*Layer, starts=False), Pool(*Layer)):
        await check_confinement(pool, settings_of(render_confinement="required"))


def test_metrics_say_what_holds_now_and_what_was_lost() -> None:
    registry = CollectorRegistry()
    metrics, pool = ParserMetrics(registry), Pool(seen=False)
    metrics.watch(pool)

    def holds(layer: Layer) -> float | None:
        return registry.get_sample_value("dpj_parsers_confined", {"layer": layer.value})

    assert [holds(layer) for layer in Layer] == [0, 0, 0]
    pool.confinement = frozenset({Layer.SECCOMP})
    assert [holds(layer) for layer in Layer] == [float(layer is Layer.SECCOMP) for layer in Layer]
    metrics.count_lost(NoThumbnail.FORBIDDEN_CALL)
    assert registry.get_sample_value("dpj_parsers_lost_total", {"reason": "FORBIDDEN_CALL"}) == 1
