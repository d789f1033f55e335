"""The demonstration: samples and a large file through the running pipeline, then proof of what came of them."""

from __future__ import annotations

import secrets
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from operations.api_client import ApiClient
from operations.demo import proofs
from operations.demo.ged import GedClient
from operations.demo.progress_view import live, view_for
from operations.demo.proofs import DemoSite, Proof
from operations.demo.run import DemoRun, Journey
from operations.demo.samples import large_sample, load

DEADLINE: Final = 180.0
WIDTH: Final = 80
_DETAIL: Final = WIDTH - 31


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of it; times in seconds since the command began."""

    journeys: tuple[Journey, ...]
    proofs: tuple[Proof, ...]
    dossier_id: str
    first_archived: float | None
    seconds: float
    ged_link: str

    @property
    def holds(self) -> bool:
        return all(proof.holds for proof in self.proofs)

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "holds": self.holds,
            "first_archived_seconds": self.first_archived,
            "seconds": self.seconds,
            "dossier_id": self.dossier_id,
            "documents": [
                {"file": one.sample.name, "id": one.document_id or None, "state": one.refusal or one.state}
                for one in self.journeys
            ],
            "proofs": [asdict(proof) for proof in self.proofs],
            "ged": self.ged_link,
        }


def run(
    site: DemoSite,
    portal: ApiClient,
    validator: ApiClient,
    *,
    samples: Path,
    scratch: Path,
    clock: Callable[[], float],
    check: Callable[[], None],
) -> DemoResult:
    """Send, decide, wait and prove. ``samples`` is the manifest, ``scratch`` a folder for the large file, ``clock`` gives
    seconds since the command began. ``check`` is called while documents are waited for, and raises if that is in vain.
    Raises ApiUnreachable, ApiProblem and BrokerUnavailable."""
    console = Console(stderr=True)
    archived_types = {one["code"] for one in portal.types() if one["archived"]}
    chosen = [*load(samples, archived_types=archived_types), large_sample(scratch)]
    since = time.time() - 1
    work = DemoRun(portal, validator, chosen, view_for(console), clock)
    with live(console, work.journeys, clock):
        work.send_and_follow(new_dossier(), DEADLINE, check)
    found = [proofs.ends_proof(work.journeys)]
    found.append(proofs.settle(site))
    found += _prove(site, portal, work.journeys, since)
    return DemoResult(
        tuple(work.journeys),
        tuple(found),
        work.dossier_id,
        work.first_archived,
        clock(),
        _ged_link(site, work.journeys),
    )


def new_dossier() -> dict[str, Any]:
    """A loan file of a number that nobody has."""
    number = f"DEMO-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return {"number": number, "client_id": "demo-client", "journey_type": "PRET_IMMOBILIER"}


def _prove(site: DemoSite, portal: ApiClient, journeys: Sequence[Journey], since: float) -> list[Proof]:
    return [
        proofs.ged_proof(site, journeys),
        proofs.encryption_proof(site, journeys, since),
        proofs.mail_proof(site, journeys),
        proofs.thumbnail_proof(portal, journeys),
        proofs.no_orphans_proof(site, journeys),
        proofs.audit_proof(site),
    ]


def _ged_link(site: DemoSite, journeys: Sequence[Journey]) -> str:
    paths = [one.answer["archive"]["ged_path"] for one in journeys if one.answer and one.answer["archive"]["ged_path"]]
    if not paths:
        return site.ged_url
    with GedClient(site.ged_url, site.ged_repository, site.ged_user, site.ged_password, site.ged_tls) as ged:
        return ged.folder_link(paths[0])


def _size(octets: int) -> str:
    return f"{octets / 1_000_000:.1f} MB" if octets >= 1_000_000 else f"{octets / 1_000:.1f} kB"


def summary(result: DemoResult, site: DemoSite, stack: str, *, running: bool, dpj: str = "dpj") -> Iterator[str]:
    """What the person reads at the end: two tables of at most 80 characters and, if all is still ``running``, links and
    what to try next. ``dpj`` is how to call the command from here."""
    yield f"{'FILE':<34} {'SIZE':>8}  {'END':<12} ID"
    for one in result.journeys:
        end = f"refused ({one.refusal})" if one.refusal else one.state
        identity = "" if one.refusal else one.document_id.split("-", 1)[0]
        yield f"{one.sample.name[:34]:<34} {_size(one.size):>8}  {end:<12} {identity}".rstrip()
    yield ""
    for proof in result.proofs:
        verdict = "proved" if proof.holds else "FAILED"
        first, *more = textwrap.wrap(proof.detail, _DETAIL) or [""]
        yield f"{verdict:<7} {proof.name:<22} {first}".rstrip()
        yield from (" " * (WIDTH - _DETAIL) + line for line in more)
    yield ""
    if result.first_archived is not None:
        yield f"First document archived {result.first_archived:.1f} s after the command began; all in {result.seconds:.1f} s."
    if not running:
        yield "Everything was stopped again."
        return
    yield f"API    {site.api_url}/api/v1/openapi.json"
    yield f"GED    {result.ged_link}"
    yield f"       (user {site.ged_user}; password: DPJ_GED_PASSWORD in .dpj/{stack}/settings.env)"
    yield ""
    yield "Try next:"
    yield f"  {dpj} doc show {_shown(result)} --stack {stack}"
    yield f"  {dpj} doc submit samples/rib.pdf --type RIB --stack {stack}"
    yield f"  {dpj} lag --totals --stack {stack}"
    if site.console_url:
        yield ""
        yield f"Look around: {site.console_url} (the operators' console)"


def _shown(result: DemoResult) -> str:
    return next((one.document_id for one in result.journeys if one.document_id), "ID")
