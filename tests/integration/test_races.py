"""Who comes at the same moment: uploads with one key, decisions, versions, and reconciling beside slow and stalled uploads."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from uuid import UUID, uuid4

import httpx
import pytest

from domain.errors import DPJError
from processors.reconcile.run import RepairMode
from tests.support.api_processes import PDF, ApiProcesses, a_pdf

MIB = 1 << 20
LEASE = 3.0


@pytest.fixture
async def two(stack: Mapping[str, str], database_dsn: str) -> AsyncIterator[ApiProcesses]:
    async with ApiProcesses(stack, database_dsn, 2).up() as apis:
        yield apis


@pytest.fixture
async def hasty(stack: Mapping[str, str], database_dsn: str) -> AsyncIterator[ApiProcesses]:
    """One process whose leases last a few seconds."""
    async with ApiProcesses(stack, database_dsn, upload_lease=str(LEASE)).up() as apis:
        yield apis


def _codes(answers: list[httpx.Response]) -> Counter[tuple[int, str]]:
    return Counter((answer.status_code, answer.json().get("code", "")) for answer in answers)


async def test_of_racing_uploads_with_one_key_one_document_comes(two: ApiProcesses) -> None:
    for _ in range(4):
        dossier, key, content = await two.dossier(), uuid4().hex, a_pdf(os.urandom(200_000))
        answers = await asyncio.gather(*(two.post(content, dossier, at=at, key=key) for at in range(8)))
        codes = _codes(answers)
        assert set(codes) <= {(201, ""), (409, "idempotency_in_progress")}
        assert codes[201, ""] >= 1
        again = [await two.post(content, dossier, at=at, key=key) for at in range(2)]
        assert [answer.status_code for answer in again] == [201, 201]
        assert [answer.headers["idempotent-replayed"] for answer in again] == ["true", "true"]
        taken = [answer for answer in (*answers, *again) if answer.status_code == 201]
        assert len({answer.text for answer in taken}) == 1
        rows = await two.sql("SELECT id, chemin_stockage, statut FROM documents WHERE dossier_id = $1", UUID(dossier))
        assert [(str(row["id"]), row["statut"]) for row in rows] == [(taken[0].json()["id"], "STORED")]
        events = await two.sql(
            "SELECT 1 FROM outbox WHERE topic = 'dpj.document.uploaded' AND key = $1", str(rows[0]["id"]).encode()
        )
        assert len(events) == 1
    stored = await two.sql("SELECT chemin_stockage FROM documents")
    assert sorted(await two.keys()) == sorted(row[0] for row in stored)


async def _decide(two: ApiProcesses, document_id: str, *verbs: str) -> list[httpx.Response]:
    bodies = {"validate": {"comment": "good"}, "reject": {"reason": "blurred"}}
    calls = [
        two.clients[at % 2].post(f"/documents/{document_id}/{verb}", json=bodies[verb]) for at, verb in enumerate(verbs)
    ]
    return list(await asyncio.gather(*calls))


async def _decisions(two: ApiProcesses, document_id: str) -> list[str]:
    rows = await two.sql(
        "SELECT topic FROM outbox WHERE key = $1 AND topic IN ('dpj.document.validated', 'dpj.document.rejected')",
        document_id.encode(),
    )
    return [row["topic"].rpartition(".")[2] for row in rows]


async def _document(two: ApiProcesses, status: str) -> str:
    answer = await two.post(PDF, await two.dossier())
    document_id = str(answer.json()["id"])
    await two.sql("UPDATE documents SET statut = $2 WHERE id = $1", UUID(document_id), status)
    return document_id


async def test_of_racing_decisions_one_wins(two: ApiProcesses) -> None:
    for number in range(8):
        document_id = await _document(two, "VERIFIED")
        verbs = ("validate", "reject") if number % 2 else ("reject", "validate")
        answers = await _decide(two, document_id, *verbs)
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        (won,) = [answer.json()["status"] for answer in answers if answer.status_code == 200]
        assert [answer.json()["code"] for answer in answers if answer.status_code == 409] == ["transition_refused"]
        assert await _decisions(two, document_id) == [won.lower()]


async def test_of_racing_decisions_before_the_check_one_is_recorded(two: ApiProcesses) -> None:
    for _ in range(4):
        document_id = await _document(two, "STORED")
        answers = await _decide(two, document_id, "validate", "reject")
        assert sorted(answer.status_code for answer in answers) == [202, 409]
        recorded = await two.sql("SELECT 1 FROM dossier_events WHERE type = 'DECISION_RECORDED'")
        assert len(recorded) == 1
        await two.sql("DELETE FROM dossier_events")
        assert await _decisions(two, document_id) == []


async def test_the_same_decision_twice_is_one(two: ApiProcesses) -> None:
    """Recorded, it is the same answer again; carried out, there is nothing left to decide."""
    recorded, verified = await _document(two, "STORED"), await _document(two, "VERIFIED")
    answers = await _decide(two, recorded, *["validate"] * 4)
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.text for answer in answers}) == 1
    answers = await _decide(two, verified, *["validate"] * 4)
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert await _decisions(two, verified) == ["validated"]


async def test_racing_versions_of_one_document_have_numbers_of_their_own(two: ApiProcesses) -> None:
    dossier = await two.dossier()
    parent = (await two.post(PDF, dossier)).json()["id"]
    refused = await two.post(b"no pdf at all", dossier, parent_id=parent)
    assert refused.status_code == 415
    key = uuid4().hex
    answers = await asyncio.gather(
        *(two.post(a_pdf(bytes([at])), dossier, at=at, parent_id=parent) for at in range(8)),
        *(two.post(PDF, dossier, at=at, parent_id=parent, key=key) for at in range(4)),
    )
    assert set(_codes(answers)) <= {(201, ""), (409, "idempotency_in_progress")}
    rows = await two.sql(
        "SELECT numero_version FROM documents WHERE document_parent_id = $1 AND statut = 'STORED'", UUID(parent)
    )
    assert sorted(row[0] for row in rows) == list(range(2, 11))


async def test_a_slow_upload_outlives_every_reconciliation(hasty: ApiProcesses) -> None:
    content = a_pdf(os.urandom(12 * MIB))

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(content), MIB):
            yield content[start : start + MIB]
            await asyncio.sleep(0.9)

    uploading = asyncio.create_task(hasty.post(slowly(), await hasty.dossier()))
    runs = 0
    while not uploading.done():
        report = await hasty.reconcile(grace=LEASE + 0.1)
        assert report.is_clean, report.findings
        runs += 1
        await asyncio.sleep(0.1)
    answer = await uploading
    assert answer.status_code == 201, answer.text
    assert runs >= 4
    assert (await hasty.reconcile(grace=LEASE + 0.1)).is_clean
    read = await hasty.clients[0].get(f"/documents/{answer.json()['id']}/content")
    assert hashlib.sha256(read.content).digest() == hashlib.sha256(content).digest()


@pytest.mark.parametrize("sent", [100_000, 9 * MIB])
async def test_an_upload_that_stalled_past_its_lease_is_told_so_and_leaves_nothing(
    hasty: ApiProcesses, sent: int
) -> None:
    """The whole process stands still, as on a machine that swaps or is suspended, while its upload is abandoned."""
    dossier, key, go_on = await hasty.dossier(), uuid4().hex, asyncio.Event()
    content = a_pdf(os.urandom(sent))

    async def in_two() -> AsyncIterator[bytes]:
        yield content
        await go_on.wait()
        yield b"the end"

    uploading = asyncio.create_task(hasty.post(in_two(), dossier, key=key))
    async with asyncio.timeout(20):
        while not await hasty.sql("SELECT 1 FROM documents WHERE statut = 'PENDING'"):
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.7)
    hasty.processes[0].send_signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE + 0.3)
    report = await hasty.reconcile(grace=LEASE + 0.1)
    assert [finding.fault.value for finding in report.findings] == ["expired_upload"]
    assert report.is_clean
    assert await hasty.keys() == []
    go_on.set()
    hasty.processes[0].send_signal(signal.SIGCONT)
    answer = await uploading
    assert (answer.status_code, answer.json()["code"]) in {
        (409, "upload_superseded"),
        (503, "object_store_unavailable"),
    }
    assert await _is_empty(hasty)
    again = await hasty.post(content, dossier, key=key)
    assert again.status_code == 201
    assert len(await hasty.keys()) == 1


async def _is_empty(apis: ApiProcesses) -> bool:
    async with asyncio.timeout(20):
        while await apis.keys() or [put async for put in apis.site.object_store.unfinished()]:
            await asyncio.sleep(0.1)
    rows = await apis.sql("SELECT statut FROM documents")
    return [row[0] for row in rows] == ["ABANDONED"]


async def test_a_killed_upload_leaves_nothing_once_its_lease_ran_out(hasty: ApiProcesses) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield a_pdf(os.urandom(9 * MIB))
        await asyncio.sleep(60)

    uploading = asyncio.create_task(hasty.post(endless(), await hasty.dossier(), key="k"))
    async with asyncio.timeout(20):
        while not [put async for put in hasty.site.object_store.unfinished()]:
            await asyncio.sleep(0.05)
    hasty.processes[0].kill()
    uploading.cancel()
    await asyncio.gather(uploading, return_exceptions=True)
    findings = (await hasty.reconcile(RepairMode.SAFE, grace=LEASE + 0.1)).findings
    await asyncio.sleep(LEASE)
    findings += (await hasty.reconcile(RepairMode.SAFE, grace=LEASE + 0.1)).findings
    assert [(finding.fault.value, finding.repaired) for finding in findings] == [("expired_upload", True)]
    assert await _is_empty(hasty)
    with pytest.raises(DPJError):
        await hasty.site.object_store.stat(findings[0].place)
