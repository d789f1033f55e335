"""From 201 to ARCHIVED in an idle pipeline, with the decision sent at once, and where that time goes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx

from benchmarks.console import note
from benchmarks.measurement import percentile
from benchmarks.report import BenchReport, Cell, Chart, Ratio
from benchmarks.results import REPOSITORY
from benchmarks.site import BenchSite
from domain.documents import Role

GOAL: Final = 1.5
SAMPLE: Final = ("contrat-signe-scan.pdf", "application/pdf", "CONTRAT")
GIVE_UP_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.01
#: Between two documents, so that nothing of the one before (thumbnails, mails, audit) is still under way; drawn anew each time,
#: so that no timer of ours is always met at the same moment.
REST_SECONDS: Final = (1.5, 3.0)
WARM_UP: Final = 3
STAGES: Final = (
    "relay: uploaded",
    "Kafka to integrity",
    "integrity",
    "relay: validated",
    "Kafka to archiving",
    "archiving",
)
METHOD: Final = (
    f"""One client, one document at a time ({SAMPLE[0]}, 315 KB), each in a dossier of its own, all of the pipeline's
    processes running and otherwise idle. The clock starts when the client has the 201; the decision (validate) is sent at once;
    it stops when the document's row says ARCHIVED.""",
    """The stages are read afterwards from what the pipeline writes anyway: when an outbox row was published, when a consumer
    claimed the event (its inbox row's lease) and when it committed. A stage that began before the 201 was read counts from
    the 201 on.""",
    """relay: from the commit to the broker's confirmation, marked in the outbox. Kafka: from there to the consumer's claim.
    integrity and archiving: from claim to commit; integrity carries out the waiting decision.""",
)

_TIMES: Final = """
    SELECT i.lease_until, i.updated_at, o.published_at
    FROM inbox i JOIN outbox o USING (event_id)
    WHERE i.document_key = $1 AND o.topic = $2 AND i.consumer = $3 AND i.state = 'DONE'
"""


@dataclass(frozen=True, slots=True)
class DocumentTimes:
    """One document: seconds from 201 to ARCHIVED, what the decision was answered with, and the stages in order."""

    seconds: float
    decision: int
    stages: tuple[float, ...]


async def run(site: BenchSite, quick: bool) -> BenchReport:
    """Send documents one by one through a pipeline that has nothing else to do."""
    count = 8 if quick else 60
    async with site.running():
        database = await asyncpg.connect(site.settings.postgres_dsn.get_secret_value())
        headers = {"Authorization": f"Bearer {site.token(Role.PORTAL, Role.VALIDATOR)}"}
        try:
            async with httpx.AsyncClient(base_url=f"{site.api}/api/v1", headers=headers, trust_env=False) as client:
                journeys = []
                for number in range(WARM_UP + count):
                    dossier = await create_dossier(client)
                    journey = await _send(client, database, dossier, site.settings.event_lease)
                    if number >= WARM_UP:
                        journeys.append(journey)
                        note(f"latency {len(journeys)}/{count}: {journey.seconds * 1000:.0f} ms")
                    await asyncio.sleep(random.uniform(*REST_SECONDS))  # noqa: S311 - no secret, only a spread
        finally:
            await database.close()
    return _report(journeys)


async def create_dossier(client: httpx.AsyncClient) -> str:
    """A dossier of a number of its own; its id. Raises httpx.HTTPStatusError."""
    number = f"BENCH-{time.time_ns()}"
    answer = await client.post(
        "/dossiers", json={"number": number, "client_id": "bench", "journey_type": "BENCH", "steps": []}
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


@dataclass(frozen=True, slots=True)
class Sent:
    """A document that was deposited and validated: when its 201 came, by two clocks, and what the decision was answered with."""

    document_id: UUID
    began: float
    answered: datetime
    decision: int


async def upload_and_validate(client: httpx.AsyncClient, dossier: str) -> Sent:
    """``SAMPLE`` into ``dossier``. Raises httpx.HTTPStatusError."""
    name, media_type, type_code = SAMPLE
    data = (REPOSITORY / "samples" / name).read_bytes()
    metadata = {
        "type": type_code,
        "dossier_id": dossier,
        "depositor": {"email": "claire.martin@client.example", "language": "fr"},
        "file_name": name,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    parts: list[tuple[str, Any]] = [
        ("metadata", (None, json.dumps(metadata).encode(), "application/json")),
        ("file", (name, data, media_type)),
    ]
    created = await client.post("/documents", files=parts, timeout=30)
    began, answered = time.perf_counter(), datetime.now(UTC)
    created.raise_for_status()
    document_id = UUID(created.json()["id"])
    decided = await client.post(f"/documents/{document_id}/validate", json={})
    decided.raise_for_status()
    return Sent(document_id, began, answered, decided.status_code)


async def _send(client: httpx.AsyncClient, database: Any, dossier: str, lease: float) -> DocumentTimes:
    sent = await upload_and_validate(client, dossier)
    while await database.fetchval("SELECT statut FROM documents WHERE id = $1", sent.document_id) != "ARCHIVED":
        if time.perf_counter() - sent.began > GIVE_UP_SECONDS:
            raise TimeoutError("the document does not become ARCHIVED")
        await asyncio.sleep(POLL_SECONDS)
    seconds = time.perf_counter() - sent.began
    return DocumentTimes(seconds, sent.decision, await _stages(database, sent.document_id, sent.answered, lease))


async def _stages(database: Any, document_id: UUID, answered: datetime, lease: float) -> tuple[float, ...]:
    marks = [answered]
    for topic, consumer in (("dpj.document.uploaded", "integrity"), ("dpj.document.validated", "archiving")):
        row = await database.fetchrow(_TIMES, str(document_id), topic, consumer)
        claimed = row["lease_until"] - timedelta(seconds=lease)
        marks += [row["published_at"], claimed, row["updated_at"]]
    # Never backwards: a mark before its predecessor belongs to work that was done in the shadow of another.
    for number in range(1, len(marks)):
        marks[number] = max(marks[number], marks[number - 1])
    return tuple((after - before).total_seconds() for before, after in pairwise(marks))


def _report(journeys: Sequence[DocumentTimes]) -> BenchReport:
    totals = [journey.seconds * 1000 for journey in journeys]
    stages = {name: [journey.stages[at] * 1000 for journey in journeys] for at, name in enumerate(STAGES)}
    stages["seen by the client"] = [max(0.0, journey.seconds - sum(journey.stages)) * 1000 for journey in journeys]
    rows = [_row(name, values) for name, values in {**stages, "201 to ARCHIVED": totals}.items()]
    slow = sorted(journeys, key=lambda one: one.seconds)[max(0, int(len(journeys) * 0.95) - 1)]
    recorded = sum(journey.decision == httpx.codes.ACCEPTED for journey in journeys)
    return BenchReport(
        name="latency",
        title="From 201 to ARCHIVED, idle, milliseconds",
        method=METHOD,
        columns=("stage", "median", "P95", "highest"),
        rows=tuple(rows),
        ratios=(
            Ratio(
                name="201 to ARCHIVED, P95", value=percentile(totals, 0.95) / 1000, goal=GOAL, at_most=True, unit="s"
            ),
        ),
        notes=(
            f"{len(journeys)} documents; {recorded} decisions were recorded (202), the others came after VERIFIED (200).",
        ),
        chart=_chart(stages, slow),
    )


def _row(name: str, values: Sequence[float]) -> tuple[Cell, ...]:
    return name, statistics.median(values), percentile(values, 0.95), max(values)


def _chart(stages: Mapping[str, Sequence[float]], slow: DocumentTimes) -> Chart:
    slowest = [stage * 1000 for stage in slow.stages]
    slowest.append(max(0.0, slow.seconds * 1000 - sum(slowest)))
    return Chart(
        title="Where the time from 201 to ARCHIVED goes",
        unit="milliseconds, less is better",
        categories=("median of each", "the one at P95"),
        series={name: (statistics.median(values), slowest[at]) for at, (name, values) in enumerate(stages.items())},
        stacked=True,
    )
