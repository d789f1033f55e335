"""What keeps two from doing one thing: idempotency keys, inbox claims, audit chains, locks; over memory and over PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from domain.audit_chain import verify
from domain.documents import Document
from domain.errors import ClaimLost, DocumentBusy
from domain.events import AuditRecorded
from domain.lifecycle import Status
from domain.refusals import UploadSuperseded
from tests.support.audit_lines import chain_of
from tests.support.builders import a_claim, a_document
from tests.support.database_backends import GONE, LONG, DatabaseBackend, Rolled

# --- idempotency keys ------------------------------------------------------------------------------------------------

SCOPE = ("acme", "portal-1", "key-1")


async def _begun(site: DatabaseBackend, lease: float = LONG) -> Document:
    """A PENDING upload that holds the key of SCOPE."""
    document = a_document(site.dossier, Status.PENDING)
    async with site.database.transaction() as work:
        assert await work.idempotency.claim(SCOPE, a_claim(document), lease) is None
        await work.uploads.begin(document, LONG)
    return document


async def test_a_key_is_claimed_once_and_then_remembers_its_answer(site: DatabaseBackend) -> None:
    first = await _begun(site)
    async with site.database.transaction() as work:
        held = await work.idempotency.claim(SCOPE, a_claim(a_document(site.dossier)), LONG)
        assert held == a_claim(first)
        assert await work.idempotency.claim(("acme", "portal-2", "key-1"), a_claim(first), LONG) is None
        await work.idempotency.renew(SCOPE, first.object_key, LONG)
        await work.idempotency.complete(SCOPE, first.object_key, "a" * 64, {"id": str(first.id), "n": [1]})
    async with site.database.transaction() as work:
        await work.idempotency.release(SCOPE, first.object_key)  # a finished key is not freed
        held = await work.idempotency.claim(SCOPE, a_claim(a_document(site.dossier)), LONG)
    assert held is not None
    assert (held.done, held.content_sha256, held.response) == (True, "a" * 64, {"id": str(first.id), "n": [1]})


async def test_a_key_is_free_again_after_release(site: DatabaseBackend) -> None:
    first = await _begun(site)
    async with site.database.transaction() as work:
        await work.idempotency.release(SCOPE, "another attempt")
        assert await work.idempotency.claim(SCOPE, a_claim(a_document(site.dossier)), LONG) is not None
        await work.idempotency.release(SCOPE, first.object_key)
        assert await work.idempotency.claim(SCOPE, a_claim(a_document(site.dossier)), LONG) is None


async def test_an_expired_or_abandoned_attempt_loses_its_key(site: DatabaseBackend) -> None:
    first = await _begun(site, GONE)
    second = await _begun(site)
    async with site.database.transaction() as work:
        for call in (
            work.idempotency.renew(SCOPE, first.object_key, LONG),
            work.idempotency.complete(SCOPE, first.object_key, "a" * 64, {}),
        ):
            with pytest.raises(UploadSuperseded):
                await call
    async with site.database.transaction() as work:
        held = await work.uploads.hold(second.id, second.object_key)
        await work.documents.update(held, replace(held, status=Status.ABANDONED))
    async with site.database.transaction() as work:
        assert await work.idempotency.claim(SCOPE, a_claim(a_document(site.dossier)), LONG) is None


async def test_a_key_that_a_release_before_holds_in_clear_counts(site: DatabaseBackend) -> None:
    first = await _begun(site)
    hashed = ("acme", "portal-1", "5" * 32)
    new = a_document(site.dossier, Status.PENDING)
    claim = replace(a_claim(new), clear_key=SCOPE[2])
    async with site.database.transaction() as work:
        assert await work.idempotency.claim(hashed, claim, LONG) == a_claim(first)
        other = ("acme", "portal-2", "5" * 32)
        assert await work.idempotency.claim(other, replace(claim, object_key="o"), LONG) is None
        await work.idempotency.complete(SCOPE, first.object_key, "a" * 64, {})
    assert not await site.database.uploads.begin(new, hashed, claim, LONG)
    async with site.database.transaction() as work:
        held = await work.idempotency.claim(hashed, claim, LONG)
    assert held is not None
    assert (held.done, held.document_id) == (True, first.id)


async def test_a_clear_key_that_is_free_gives_way_to_its_hash(site: DatabaseBackend) -> None:
    first = await _begun(site, GONE)
    hashed = ("acme", "portal-1", "5" * 32)
    new = a_document(site.dossier, Status.PENDING)
    async with site.database.transaction() as work:
        assert await work.idempotency.claim(hashed, replace(a_claim(new), clear_key=SCOPE[2]), LONG) is None
        await work.uploads.begin(new, LONG)
    async with site.database.transaction() as work:
        with pytest.raises(UploadSuperseded):
            await work.idempotency.complete(SCOPE, first.object_key, "a" * 64, {})
    async with site.database.transaction() as work:
        held = await work.idempotency.claim(hashed, a_claim(a_document(site.dossier)), LONG)
    assert held == a_claim(new)


async def test_of_many_claims_at_once_one_wins(site: DatabaseBackend) -> None:
    async def claim() -> bool:
        document = a_document(site.dossier, Status.PENDING)
        async with site.database.transaction() as work:
            if await work.idempotency.claim(SCOPE, a_claim(document), LONG) is not None:
                return False
            await work.uploads.begin(document, LONG)
            return True

    assert sum(await asyncio.gather(*(claim() for _ in range(8)))) == 1


# --- inbox -----------------------------------------------------------------------------------------------------------


async def _claim(
    site: DatabaseBackend, event: UUID, key: str = "d1", owner: UUID | None = None, lease: float = LONG
) -> str:
    return (await site.inbox.claim("c", event, key, owner or uuid4(), lease)).name


async def _finish(site: DatabaseBackend, event: UUID, owner: UUID, outcome: str = "DONE") -> None:
    async with site.database.transaction() as work:
        await work.inbox.finish("c", event, owner, outcome)


@pytest.mark.parametrize("outcome", ["DONE", "DEAD"])
async def test_a_finished_event_is_done_for_everyone(site: DatabaseBackend, outcome: str) -> None:
    event, owner = uuid4(), uuid4()
    assert await _claim(site, event, owner=owner) == "ACQUIRED"
    assert await _claim(site, event) == "BUSY"
    await _finish(site, event, owner, outcome)
    assert await _claim(site, event) == "DONE"
    assert await _claim(site, uuid4()) == "ACQUIRED"  # the document is free for its next event
    assert (await site.inbox.claim("other", event, "d1", uuid4(), LONG)).name == "ACQUIRED"


async def test_one_event_of_a_document_at_a_time(site: DatabaseBackend) -> None:
    first, second, owner = uuid4(), uuid4(), uuid4()
    assert await _claim(site, first, owner=owner) == "ACQUIRED"
    assert await _claim(site, second) == "BUSY"
    assert await _claim(site, uuid4(), key="d2") == "ACQUIRED"
    await site.inbox.release("c", first, uuid4())  # not the owner
    assert await _claim(site, second) == "BUSY"
    await site.inbox.release("c", first, owner)
    assert await _claim(site, second) == "ACQUIRED"


async def test_an_expired_claim_passes_on_and_its_owner_can_not_finish(site: DatabaseBackend) -> None:
    event, late, next_owner = uuid4(), uuid4(), uuid4()
    assert await _claim(site, event, owner=late, lease=GONE) == "ACQUIRED"
    assert await _claim(site, event, owner=next_owner) == "ACQUIRED"
    assert not await site.inbox.renew("c", event, late, LONG)
    with pytest.raises(ClaimLost):
        await _finish(site, event, late)
    assert await site.inbox.renew("c", event, next_owner, LONG)
    await _finish(site, event, next_owner)
    assert not await site.inbox.renew("c", event, next_owner, LONG)


async def test_an_expired_claim_on_another_event_gives_the_document_free(site: DatabaseBackend) -> None:
    first, second, late = uuid4(), uuid4(), uuid4()
    assert await _claim(site, first, owner=late, lease=GONE) == "ACQUIRED"
    assert await _claim(site, second) == "ACQUIRED"
    with pytest.raises(ClaimLost):
        await _finish(site, first, late)


async def test_a_lost_claim_undoes_the_business_rows(site: DatabaseBackend) -> None:
    document = a_document(site.dossier)
    await site.add(document)

    async def write() -> None:
        async with site.database.transaction() as work:
            await work.documents.update(document, replace(document, sequence=99))
            await work.inbox.finish("c", uuid4(), uuid4(), "DONE")

    with pytest.raises(ClaimLost):
        await write()
    assert await site.get(document.id) == document


async def test_of_many_owners_at_once_one_acquires(site: DatabaseBackend) -> None:
    event = uuid4()
    answers = await asyncio.gather(*(_claim(site, event) for _ in range(8)))
    assert sorted(answers) == ["ACQUIRED", *["BUSY"] * 7]
    others = await asyncio.gather(*(_claim(site, uuid4(), key="d9") for _ in range(8)))
    assert sorted(others) == ["ACQUIRED", *["BUSY"] * 7]


async def test_an_owner_may_claim_its_event_again(site: DatabaseBackend) -> None:
    event, owner = uuid4(), uuid4()
    assert await _claim(site, event, owner=owner) == "ACQUIRED"
    assert await _claim(site, event, owner=owner) == "ACQUIRED"


# --- audit chains ----------------------------------------------------------------------------------------------------


def _line(tenant: str = "acme") -> AuditRecorded:
    return AuditRecorded(
        event_id=uuid4(),
        sequence=0,
        occurred_at=datetime(2026, 3, 1, tzinfo=UTC),
        correlation_id=uuid4(),
        tenant=tenant,
        actor="u",
        entity_type="document",
        entity_id=str(uuid4()),
        action="document.read",
        details="{}",
        old_state=None,
        new_state=None,
        ip_sealed=None,
        user_agent_sealed=None,
    )


async def test_lines_chain_per_tenant_also_when_written_at_once(site: DatabaseBackend) -> None:
    async def append(line: AuditRecorded) -> None:
        async with site.database.transaction() as work:
            await work.audit_chains.append(line)

    lines = [_line() for _ in range(12)]
    await asyncio.gather(*(append(line) for line in (*lines, _line("other"))))
    assert await site.waiting.tenants() == ["acme", "other"]
    assert not await site.pending("acme")
    assert await _chained(site, limit=5) == 13
    entries = await site.pending("acme")
    assert verify("acme", entries) is None
    assert {entry.event_id for entry in entries} == {line.event_id for line in lines}
    assert verify("other", await site.pending("other")) is None
    assert len(await site.pending("other")) == 1


async def _chained(site: DatabaseBackend, limit: int = 100) -> int:
    """Have all that wait chained by several at once; how many lines that were."""

    async def chain() -> int:
        total = 0
        for tenant in await site.waiting.tenants():
            while taken := await site.waiting.chain(tenant, limit):
                total += taken
        return total

    total = 0
    while await site.waiting.tenants():
        total += sum(await asyncio.gather(*(chain() for _ in range(3))))
    return total


@pytest.mark.parametrize("chained_between", [False, True])
async def test_a_line_has_one_place_however_often_it_comes(site: DatabaseBackend, chained_between: bool) -> None:
    line, other = _line(), _line()
    for event in (line, other, line):
        async with site.database.transaction() as work:
            await work.audit_chains.append(event)
            await work.audit_chains.append(event)
        if chained_between:
            await _chained(site)

    async def undone() -> None:
        async with site.database.transaction() as work:
            await work.audit_chains.append(_line())
            raise Rolled

    with pytest.raises(Rolled):
        await undone()
    assert await _chained(site) == (0 if chained_between else 2)
    assert await site.waiting.chain("acme", 10) == 0
    entries = await site.pending("acme")
    assert [entry.event_id for entry in entries] == [line.event_id, other.event_id]
    assert verify("acme", entries) is None


async def test_lines_of_one_entity_are_chained_in_the_order_in_which_they_were_written(site: DatabaseBackend) -> None:
    lines = [_line() for _ in range(20)]
    for line in lines[:10]:
        async with site.database.transaction() as work:
            await work.audit_chains.append(line)
    async with site.database.transaction() as work:
        for line in lines[10:]:
            await work.audit_chains.append(line)
    assert await _chained(site, limit=7) == 20
    entries = await site.pending("acme")
    assert [entry.event_id for entry in entries] == [line.event_id for line in lines]
    assert [entry.body for entry in entries] == [entry.body for entry in chain_of(lines)]


# --- locks -----------------------------------------------------------------------------------------------------------


async def test_a_lock_is_held_by_one_and_given_back(site: DatabaseBackend) -> None:
    inside = 0

    async def hold() -> None:
        nonlocal inside
        async with site.lock("l"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(hold() for _ in range(4)))


async def test_waiting_for_a_lock_ends(site: DatabaseBackend) -> None:
    async with site.lock("l"), site.lock("other"):
        with pytest.raises(DocumentBusy):
            await asyncio.create_task(_take(site, "l"))
    await _take(site, "l")


async def test_an_exception_gives_the_lock_back(site: DatabaseBackend) -> None:
    with pytest.raises(Rolled):
        async with site.lock("l"):
            raise Rolled
    await _take(site, "l")


async def _take(site: DatabaseBackend, name: str) -> None:
    async with site.lock(name):
        pass
