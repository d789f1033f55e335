"""What the database says of documents' states, and before when their lines have had their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.lifecycle import Status
from processors.documents.transitions import Origin, transition
from schemas.codec import EventCodec
from storage.postgres.audit import timelines
from storage.postgres.audit.chain import PostgresUnchainedLines
from storage.postgres.audit.timelines import PostgresTimelines
from storage.postgres.database import Postgres, PostgresDatabase
from tests.support.audit_lines import a_line
from tests.support.builders import a_document, a_dossier

STATES = ["STORED", "VERIFIED", "QUARANTINED"]
GRACE = timedelta(minutes=10)


async def verified(database: PostgresDatabase, at: datetime, tenant: str = "acme") -> str:
    """A document that came to VERIFIED then."""
    async with database.transaction() as work:
        dossier = a_dossier(tenant=tenant)
        await work.dossiers.add(dossier)
        document = a_document(dossier, Status.STORED)
        await work.documents.add(document)
        origin = Origin(actor="system:integrity", at=at, correlation_id=uuid4())
        await transition(work, document, Status.VERIFIED, origin)
    return str(document.id)


async def states(postgres: Postgres, before: datetime, tenant: str = "acme") -> list[tuple[str, str]]:
    return [found async for found in PostgresTimelines(postgres, STATES).states(tenant, before)]


async def test_states_are_told_page_by_page_for_one_tenant_and_until_then(
    postgres: Postgres, database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timelines, "PAGE", 2)
    now = datetime.now(UTC)
    old = [await verified(database, now - timedelta(hours=1)) for _ in range(5)]
    await verified(database, now)
    await verified(database, now - timedelta(hours=1), "other")
    assert await states(postgres, now - GRACE) == [(one, "VERIFIED") for one in sorted(old)]
    assert len(await states(postgres, now - GRACE, "other")) == 1
    assert await states(postgres, now - GRACE, "nobody") == []


async def settled(postgres: Postgres) -> float:
    """Seconds ago."""
    return (datetime.now(UTC) - await PostgresTimelines(postgres, STATES).settled_before(GRACE)).total_seconds()


async def test_what_waits_anywhere_has_not_had_its_time(
    postgres: Postgres, database: PostgresDatabase, codec: EventCodec
) -> None:
    assert settled_at(await settled(postgres), GRACE)
    await verified(database, datetime.now(UTC))
    hours = timedelta(hours=3)
    await sql(postgres, "UPDATE outbox SET created_at = now() - $1::interval", hours)
    assert settled_at(await settled(postgres), hours)
    await sql(postgres, "UPDATE outbox SET published_at = now()")
    assert settled_at(await settled(postgres), hours)  # in Kafka, for all we know
    await sql(
        postgres,
        "INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)"
        " SELECT 'audit', event_id, 'd', 'DONE', gen_random_uuid(), now() FROM outbox",
    )
    assert settled_at(await settled(postgres), GRACE)
    line = a_line(occurred_at=datetime.now(UTC) - timedelta(hours=2))
    async with database.transaction() as work:
        await work.audit_chains.append(line)
    assert settled_at(await settled(postgres), timedelta(hours=2))
    await PostgresUnchainedLines(postgres).chain("acme", 10)
    assert settled_at(await settled(postgres), timedelta(hours=2))


def settled_at(seconds: float, expected: timedelta) -> bool:
    return abs(seconds - expected.total_seconds()) < 60


async def sql(postgres: Postgres, text: str, *values: Any) -> None:
    async with postgres.connection() as connection:
        await connection.execute(text, *values)
