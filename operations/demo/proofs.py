"""What the demonstration proves about what it sent, each by looking from outside at what is really there."""

from __future__ import annotations

import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import httpx

from domain.consumers import groups
from domain.lifecycle import Status
from operations.api_client import ApiClient
from operations.demo.ged import GedClient
from operations.demo.mails import Mail, complaints, received
from operations.demo.plaintext_leaks import LEAK_BYTES, find_leaks
from operations.demo.run import Journey
from operations.kafka.lag import PartitionLag, measure

SETTLE_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.3
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Proof:
    """One statement: whether it ``holds``, and the figures or the first reason why not."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class StoreContents:
    """What the stores hold: object keys that the database knows, those that the object store has, outbox rows not yet
    published, audit entries not yet chained."""

    known_objects: frozenset[str]
    stored_objects: frozenset[str]
    unpublished: int
    unchained: int


class AuditOutcome(Protocol):
    @property
    def intact(self) -> bool: ...

    @property
    def detail(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSite:
    """The stack under demonstration. The callables look anew each time. ``stored_files(since)``: files of the object
    store's disk written since that Unix time; ``subjects``: the subject of each mail (template, language)."""

    api_url: str
    kafka_bootstrap: str
    ged_url: str
    ged_repository: str
    ged_user: str
    ged_password: str = field(repr=False)
    maildir: Path
    subjects: Mapping[tuple[str, str], str]
    kept: Callable[[], StoreContents]
    stored_files: Callable[[float], Sequence[Path]]
    verify_audit: Callable[[], AuditOutcome]
    #: What librdkafka is told beside the address, and whom to trust at the GED.
    kafka_security: Mapping[str, str] = field(default_factory=dict)
    ged_tls: ssl.SSLContext | None = None
    #: Where operators look; empty if this stack has no console.
    console_url: str = ""


def _held(name: str, detail: str) -> Proof:
    return Proof(name, holds=True, detail=detail)


def _failed(name: str, detail: str) -> Proof:
    return Proof(name, holds=False, detail=detail)


def ends_proof(journeys: Sequence[Journey]) -> Proof:
    """Every sample is at its expected end."""
    lost = [one for one in journeys if not one.arrived]
    if lost:
        first = lost[0]
        wanted = first.sample.refused or (first.sample.ends.value if first.sample.ends else "?")
        return _failed("expected ends", f"{first.sample.name}: {first.refusal or first.state}, not {wanted}")
    recorded = sum(one.recorded for one in journeys)
    return _held("expected ends", f"{len(journeys)} samples; {recorded} decided before verified (202)")


def ged_proof(site: DemoSite, journeys: Sequence[Journey]) -> Proof:
    """The GED gives, for every archived document, bytes of the SHA-256 that was computed before the upload."""
    archived = [one for one in journeys if one.sample.ends is Status.ARCHIVED]
    total = 0
    try:
        with GedClient(site.ged_url, site.ged_repository, site.ged_user, site.ged_password, site.ged_tls) as ged:
            for journey in archived:
                if ged.sha256_of(str(journey.answer["archive"]["ged_id"])) != journey.sha256:
                    return _failed("GED has the bytes", f"{journey.sample.name} differs in the GED")
                total += journey.size
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return _failed("GED has the bytes", f"the GED can't be read: {type(error).__name__}")
    return Proof(
        "GED has the bytes", bool(archived), f"{len(archived)} documents, {total / MEGABYTE:.0f} MB, SHA-256 equal"
    )


def encryption_proof(site: DemoSite, journeys: Sequence[Journey], since: float) -> Proof:
    """No 64-byte run of a clear file stands anywhere in what the object store wrote to its disk since ``since``."""
    clear = {one.sample.name: one.sample.path for one in journeys if one.document_id}
    found = find_leaks(clear, site.stored_files(since))
    expected = sum(one.size for one in journeys if one.document_id)
    if found.findings:
        first = found.findings[0]
        return _failed("nothing clear on disk", f"{first.clear} in {first.stored.name} at {first.offset}")
    if found.stored_bytes < expected:
        return _failed("nothing clear on disk", f"only {found.stored_bytes} of {expected} bytes found to look at")
    return _held(
        "nothing clear on disk",
        f"{found.stored_bytes / MEGABYTE:.0f} MB searched for {LEAK_BYTES}-byte runs, every offset",
    )


def mail_proof(site: DemoSite, journeys: Sequence[Journey]) -> Proof:
    """Every depositor got each expected mail once, in the right language, and no other."""
    expected = Counter(
        Mail(one.document_id, template, one.sample.language)
        for one in journeys
        if one.document_id
        for template in one.sample.mails
    )
    found = received(site.maildir, site.subjects, {one.document_id for one in journeys if one.document_id})
    wrong = complaints(expected, found)
    if wrong:
        return _failed("mails", f"{len(wrong)} wrong; first {wrong[0]}")
    languages = Counter(mail.language for mail in found.elements())
    return _held(
        "mails", ", ".join(f"{count} {language}" for language, count in sorted(languages.items())) + ", each once"
    )


def thumbnail_proof(portal: ApiClient, journeys: Sequence[Journey]) -> Proof:
    """Every document's timeline says of its thumbnails what is expected of its sample."""
    ready = without = 0
    for journey in journeys:
        if not journey.document_id or journey.sample.thumbnail is None:
            continue
        kind, _, reason = journey.sample.thumbnail.partition(": ")
        entries = [entry for entry in portal.events(journey.document_id)["items"] if entry["type"] == kind]
        if not entries or (reason and reason not in entries[-1]["details"].values()):
            return _failed("thumbnails", f"{journey.sample.name}: not {journey.sample.thumbnail}")
        ready += not reason
        without += bool(reason)
    return _held("thumbnails", f"{ready} made; {without} undecodable and said so")


def no_orphans_proof(site: DemoSite, journeys: Sequence[Journey]) -> Proof:
    """The object store has exactly the objects that the database knows: a refused upload left nothing."""
    refused = sum(one.sample.refused is not None for one in journeys)
    kept = site.kept()
    orphans, missing = kept.stored_objects - kept.known_objects, kept.known_objects - kept.stored_objects
    detail = f"{len(orphans)} unknown, {len(missing)} missing objects; {refused} uploads were refused"
    return Proof("refused left nothing", not orphans and not missing, detail)


def audit_proof(site: DemoSite) -> Proof:
    """Every tenant's audit chain verifies from its first entry to its head."""
    verdict = site.verify_audit()
    return Proof("audit chain", verdict.intact, verdict.detail)


def idle_proof(lag: Sequence[PartitionLag], kept: StoreContents) -> Proof:
    """Nothing is under way any more: no lag in any group, nothing in the outbox."""
    behind = {row.group: row.lag for row in lag if row.lag}
    holds = not behind and kept.unpublished == 0 and kept.unchained == 0 and bool(lag)
    detail = f"lag {sum(behind.values())} in {len({row.group for row in lag})} groups, outbox {kept.unpublished}"
    return Proof("all is done", holds, f"{detail}, {kept.unchained} to chain")


def settle(site: DemoSite) -> Proof:
    """Wait until nothing is under way, or SETTLE_SECONDS passed; what was last seen.

    A consumer acknowledges an event only after its effect: with no lag, mails are sent and entries chained.
    """
    ends = time.monotonic() + SETTLE_SECONDS
    while True:
        lag = measure(site.kafka_bootstrap, groups(), security=site.kafka_security)
        proof = idle_proof(lag, site.kept())
        if proof.holds or time.monotonic() > ends:
            return proof
        time.sleep(POLL_SECONDS)
