"""Intake: what a 201 promises, and that without one nothing stays."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.errors import DatabaseUnavailable, DPJError, IntegrityMismatch, KeyringUnavailable, ObjectStoreUnavailable
from domain.events import DocumentUploaded
from domain.lifecycle import Status
from domain.refusals import (
    BodyTruncated,
    ChecksumMismatch,
    ContentMismatch,
    DossierUnknown,
    ExtensionMismatch,
    FileEmpty,
    FileTooLarge,
    FormatNotAllowed,
    IdempotencyInProgress,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    ParentUnknown,
    StepUnknown,
    TypeInactive,
    TypeUnknown,
    UploadSuperseded,
)
from ingest_api.presenters import document_body
from tests.support.fakes_content import collect, cut
from tests.support.fakes_intake import PDF, IntakeBench, PrefixSniffer, opened

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 50


def only_document(bench: IntakeBench) -> Any:
    (document,) = bench.database.rows.documents.values()
    return document


async def broken(*pieces: bytes, error: BaseException) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    raise error


async def test_a_document_is_stored_encrypted_with_its_event_and_audit_line(bench: IntakeBench) -> None:
    step = bench.dossier.steps[0]
    receipt = await bench.receive(
        cut(PDF, 7), step_id=step.id, tags=("a",), metadata={"pages": 2}, declared_type="application/pdf"
    )
    document = only_document(bench)
    assert (receipt.status, receipt.replayed, receipt.body["id"]) == (201, False, str(document.id))
    assert document.status is Status.STORED
    assert (document.size, document.sha256) == (len(PDF), hashlib.sha256(PDF).hexdigest())
    assert (document.mime_type, document.mandatory, document.version_number) == ("application/pdf", True, 1)
    assert document.deposited_at == document.updated_at > document.created_at
    (sealed,) = bench.objects.objects.values()
    assert len(sealed) == document.object_size
    assert b"content of a paper" not in sealed
    assert await collect(bench.content.read(document)) == PDF
    (event,) = bench.events()
    assert isinstance(event, DocumentUploaded)
    assert (event.document_id, event.object_key, event.sha256) == (document.id, document.object_key, document.sha256)
    assert str(bench.dossier.id) not in (event.dossier_ref, event.actor)
    (line,) = bench.audited()
    assert (line.action, line.sequence, event.sequence, document.sequence) == ("document.stored", 2, 1, 2)
    assert [entry.type for entry in bench.database.rows.timeline] == ["STORED"]


async def test_personal_data_leaves_sealed_or_as_pseudonyms(bench: IntakeBench) -> None:
    await bench.receive()
    document = only_document(bench)
    assert bench.texts.email(document) == "marie@example.org"
    assert bench.texts.file_name(document) == "scan.pdf"
    held = str(asdict(document))
    assert "p2." in held
    assert not [text for text in ("marie", "scan.pdf") if text in held]
    (line,) = bench.audited()
    assert opened(bench, line) == ("192.0.2.7", "agent/1")
    written = repr(bench.database.rows.outbox)
    assert "u1" not in {document.depositor_id, line.actor}
    for personal in ("marie@example.org", "192.0.2.7", "agent/1", "scan.pdf"):
        assert personal not in written


async def test_object_keys_are_random_and_of_the_attempt(bench: IntakeBench) -> None:
    await bench.receive()
    await bench.receive()
    first, second = bench.database.rows.documents.values()
    assert first.object_key != second.object_key
    assert first.object_key.startswith(f"documents/{first.id.hex[:2]}/{first.id}/")


async def test_the_announced_checksum_is_checked(bench: IntakeBench) -> None:
    await bench.receive(sha256=hashlib.sha256(PDF).hexdigest())
    with pytest.raises(ChecksumMismatch):
        await bench.receive(sha256="0" * 64)
    assert len(bench.objects.objects) == 1


async def test_a_later_version_follows_its_parent(bench: IntakeBench) -> None:
    parent = await bench.stored()
    await bench.receive(parent_id=parent.id)
    child = next(row for row in bench.database.rows.documents.values() if row.parent_id == parent.id)
    assert (parent.version_number, child.version_number) == (1, 2)


async def test_a_parent_is_a_document_of_the_same_dossier(bench: IntakeBench) -> None:
    parent = await bench.stored()
    other = bench.add_dossier("acme", "D-2")
    for changes in ({"parent_id": uuid4()}, {"parent_id": parent.id, "dossier_id": other.id}):
        with pytest.raises(ParentUnknown):
            await bench.receive(**changes)
    attempt = await bench.stored(Status.ABANDONED)
    with pytest.raises(ParentUnknown):
        await bench.receive(parent_id=attempt.id)


@pytest.mark.parametrize(
    ("content", "changes", "error"),
    [
        (PDF, {"type_code": "NONE"}, TypeUnknown),
        (PDF, {"type_code": "OLD"}, TypeInactive),
        (PDF, {"dossier_id": uuid4()}, DossierUnknown),
        (PDF, {"step_id": uuid4()}, StepUnknown),
        (PDF, {"parent_id": uuid4()}, ParentUnknown),
        (PDF, {"at_least": 2 << 20}, FileTooLarge),
        (PDF + b"x", {"type_code": "SMALL"}, FileTooLarge),
        (b"", {}, FileEmpty),
        (PNG, {}, FormatNotAllowed),
        (PNG, {"declared_type": "application/pdf"}, ContentMismatch),
        (PDF, {"sha256": "0" * 64}, ChecksumMismatch),
        (PDF, {"idempotency_key": ""}, IdempotencyKeyInvalid),
        (PDF, {"idempotency_key": "k" * 129}, IdempotencyKeyInvalid),
        (PDF, {"idempotency_key": "é"}, IdempotencyKeyInvalid),
    ],
)
async def test_a_refusal_leaves_nothing(
    bench: IntakeBench, content: bytes, changes: dict[str, Any], error: type[DPJError]
) -> None:
    with pytest.raises(error):
        await bench.receive(content, **{"idempotency_key": "k", **changes})
    assert bench.nothing_left()


@pytest.mark.parametrize(("name", "taken"), [("a.PDF", True), ("a", True), ("a.hta", False), ("a.pdf.exe", False)])
async def test_a_name_that_does_not_fit_is_refused_where_the_site_wants_it(
    bench: IntakeBench, name: str, *, taken: bool
) -> None:
    assert (await bench.receive(file_name=name)).body["file_name"] == name
    bench = IntakeBench()
    bench.intake = bench.an_intake(PrefixSniffer(), match_extension=True)
    if taken:
        assert (await bench.receive(file_name=name)).status == 201
        return
    with pytest.raises(ExtensionMismatch):
        await bench.receive(file_name=name)
    assert bench.nothing_left()


async def test_a_file_of_exactly_the_limit_is_taken(bench: IntakeBench) -> None:
    assert (await bench.receive(PDF, type_code="SMALL")).status == 201


async def test_a_body_that_breaks_off_leaves_nothing(bench: IntakeBench) -> None:
    for pieces in ((), (PDF[:4],), (PDF, PDF)):
        with pytest.raises(BodyTruncated):
            await bench.receive(broken(*pieces, error=BodyTruncated("")), idempotency_key="k")
        assert bench.nothing_left()


async def test_dependencies_that_are_away_leave_nothing(bench: IntakeBench) -> None:
    bench.objects.fail_puts = 1
    with pytest.raises(ObjectStoreUnavailable):
        await bench.receive(idempotency_key="k")
    assert bench.nothing_left()
    bench.keyring.away = True
    with pytest.raises(KeyringUnavailable):
        await bench.receive(idempotency_key="k")
    assert bench.nothing_left()


async def test_a_store_that_holds_something_else_is_noticed(
    bench: IntakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = bench.objects.put

    async def damaging(key: str, data: Any) -> Any:
        described = await put(key, data)
        bench.objects.objects[key] = bench.objects.objects[key][:-1]
        return described

    monkeypatch.setattr(bench.objects, "put", damaging)
    with pytest.raises(IntegrityMismatch):
        await bench.receive()
    assert bench.nothing_left()


async def test_a_defect_leaves_nothing(bench: IntakeBench) -> None:
    with pytest.raises(ZeroDivisionError):
        await bench.receive(broken(PDF, error=ZeroDivisionError()))
    assert bench.nothing_left()


async def test_a_cancelled_request_leaves_nothing(bench: IntakeBench) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield PDF
        await asyncio.sleep(60)

    task = asyncio.create_task(bench.receive(endless(), idempotency_key="k"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.nothing_left()


async def test_a_commit_that_fails_leaves_nothing(bench: IntakeBench) -> None:
    bench.database.faults = [None, "rollback"]
    with pytest.raises(DatabaseUnavailable):
        await bench.receive(idempotency_key="k")
    assert bench.nothing_left()


async def test_a_commit_whose_answer_is_lost_keeps_the_whole_document(bench: IntakeBench) -> None:
    """The client got a 503; the same key then gives it the document."""
    bench.database.faults = [None, "lost"]
    with pytest.raises(DatabaseUnavailable):
        await bench.receive(idempotency_key="k")
    document = only_document(bench)
    assert document.status is Status.STORED
    assert await collect(bench.content.read(document)) == PDF
    again = await bench.receive(idempotency_key="k")
    assert (again.replayed, again.body["id"]) == (True, str(document.id))
    assert len(bench.objects.objects) == 1


async def test_a_beginning_whose_answer_is_lost_is_swept(bench: IntakeBench) -> None:
    bench.database.faults = ["lost"]
    with pytest.raises(DatabaseUnavailable):
        await bench.receive(idempotency_key="k")
    assert only_document(bench).status is Status.PENDING
    bench.clock.at += timedelta(seconds=61)
    await bench.sweep.run_once()
    assert only_document(bench).status is Status.ABANDONED
    assert not bench.objects.objects
    assert not bench.database.rows.outbox


async def test_an_attempt_that_cannot_be_discarded_is_left_to_the_sweep(bench: IntakeBench) -> None:
    bench.database.faults = [None, "rollback", "away"]
    with pytest.raises(DatabaseUnavailable):
        await bench.receive(idempotency_key="k")
    assert only_document(bench).status is Status.PENDING
    with pytest.raises(IdempotencyInProgress):
        await bench.receive(idempotency_key="k")
    assert await bench.sweep.run_once() == 0
    bench.clock.at += timedelta(seconds=61)
    assert await bench.sweep.run_once() == 1
    assert only_document(bench).status is Status.ABANDONED
    assert not bench.objects.objects
    assert (await bench.receive(idempotency_key="k")).status == 201


async def test_an_object_that_cannot_be_deleted_is_noted(bench: IntakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(key: str) -> None:
        raise ObjectStoreUnavailable

    monkeypatch.setattr(bench.objects, "delete", away)
    with pytest.raises(ChecksumMismatch):
        await bench.receive(sha256="0" * 64)
    assert only_document(bench).status is Status.ABANDONED


# --- Idempotency-Key -------------------------------------------------------------------------------------------------


async def test_the_same_request_again_gives_the_first_answer(bench: IntakeBench) -> None:
    first = await bench.receive(idempotency_key="k")
    again = await bench.receive(cut(PDF, 100), idempotency_key="k")
    assert (again.status, again.body, again.replayed) == (first.status, first.body, True)
    assert len(bench.database.rows.documents) == len(bench.objects.objects) == len(bench.events()) == 1


async def test_what_is_kept_for_a_key_has_no_personal_text(bench: IntakeBench) -> None:
    said = {"file_name": "Durand.pdf", "tags": ("durand",), "metadata": {"nom": "Durand", "pages": 3}}
    first = await bench.receive(idempotency_key="k", **said)
    assert first.body["file_name"] == "Durand.pdf"
    ((kept, _),) = bench.database.rows.keys.values()
    assert kept.response is not None
    assert kept.response["body"]["id"] == first.body["id"]
    assert "urand" not in str(kept.response)
    again = await bench.receive(idempotency_key="k", **said)
    assert (again.body, list(again.body), again.replayed) == (first.body, list(first.body), True)


async def test_a_key_is_kept_as_a_hash_of_its_tenant_and_caller(bench: IntakeBench) -> None:
    for caller in (bench.caller(), bench.caller(subject="u2")):
        await bench.receive(idempotency_key="Durand.pdf", caller=caller)
    keys = [key for _, _, key in bench.database.rows.keys]
    assert len(set(keys)) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in keys)
    assert "Durand" not in str(bench.database.rows.keys)


async def test_a_key_in_clear_of_a_release_before_is_known(bench: IntakeBench) -> None:
    first = await bench.receive(idempotency_key="k")
    ((tenant, caller, _),) = bench.database.rows.keys
    bench.database.rows.keys[tenant, caller, "k"] = bench.database.rows.keys.popitem()[1]
    again = await bench.receive(idempotency_key="k")
    assert (again.body, again.replayed) == (first.body, True)
    with pytest.raises(IdempotencyKeyReused):
        await bench.receive(idempotency_key="k", file_name="other.pdf")


async def test_the_answer_stays_the_first_one_when_the_document_moves_on(bench: IntakeBench) -> None:
    first = await bench.receive(idempotency_key="k")
    document = only_document(bench)
    bench.database.rows.documents[document.id] = replace(document, status=Status.VERIFIED)
    assert (await bench.receive(idempotency_key="k")).body == first.body


@pytest.mark.parametrize(
    "changes",
    [{"file_name": "other.pdf"}, {"depositor_email": "other@example.org"}, {"tags": ("x",)}, {"metadata": {"a": 1}}],
)
async def test_a_key_with_other_metadata_is_refused(bench: IntakeBench, changes: dict[str, Any]) -> None:
    await bench.receive(idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused, match="metadata"):
        await bench.receive(idempotency_key="k", **changes)


async def test_a_key_with_other_content_is_refused(bench: IntakeBench) -> None:
    await bench.receive(idempotency_key="k")
    for content in (PDF[:-1], PDF + b"x", b""):
        with pytest.raises(IdempotencyKeyReused, match="content"):
            await bench.receive(content, idempotency_key="k")
    with pytest.raises(FileTooLarge):
        await bench.receive(PDF * 10_000, idempotency_key="k")
    assert len(bench.objects.objects) == 1


async def test_keys_belong_to_their_tenant_and_caller(bench: IntakeBench) -> None:
    await bench.receive(idempotency_key="k")
    await bench.receive(idempotency_key="k", caller=bench.caller(subject="u2"))
    assert len(bench.database.rows.documents) == 2


async def test_a_key_in_use_is_in_progress(bench: IntakeBench) -> None:
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield PDF
        await release.wait()

    first = asyncio.create_task(bench.receive(slow(), idempotency_key="k"))
    await asyncio.sleep(0.01)
    with pytest.raises(IdempotencyInProgress):
        await bench.receive(idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        await bench.receive(idempotency_key="k", file_name="other.pdf")
    release.set()
    assert (await first).status == 201
    assert (await bench.receive(idempotency_key="k")).replayed


async def test_a_failed_upload_frees_its_key(bench: IntakeBench) -> None:
    with pytest.raises(FileEmpty):
        await bench.receive(b"", idempotency_key="k")
    assert not (await bench.receive(idempotency_key="k")).replayed


# --- The lease -------------------------------------------------------------------------------------------------------


async def test_the_lease_of_a_slow_upload_is_renewed() -> None:
    bench = IntakeBench(lease_seconds=0.06)

    async def slow() -> AsyncIterator[bytes]:
        for at in range(0, len(PDF), 100):
            await asyncio.sleep(0.05)
            bench.clock.at += timedelta(seconds=0.05)
            yield PDF[at : at + 100]

    bench.database.faults = [None, "away"]
    assert (await bench.receive(slow(), idempotency_key="k")).status == 201
    assert (await bench.receive(slow())).status == 201


async def test_an_upload_that_was_swept_meanwhile_leaves_nothing() -> None:
    bench = IntakeBench(lease_seconds=0.03)

    async def overtaken() -> AsyncIterator[bytes]:
        yield PDF
        (document,) = bench.database.rows.documents.values()
        bench.database.rows.documents[document.id] = replace(document, status=Status.ABANDONED)
        for _ in range(100):
            await asyncio.sleep(0.01)
            yield b"more"

    with pytest.raises(UploadSuperseded, match="too long"):
        await bench.receive(overtaken())
    assert bench.nothing_left()


async def test_a_lease_lost_at_the_last_moment_stores_nothing(bench: IntakeBench) -> None:
    async def late() -> AsyncIterator[bytes]:
        yield PDF
        bench.clock.at += timedelta(seconds=120)
        await bench.sweep.run_once()

    with pytest.raises(UploadSuperseded):
        await bench.receive(late())
    assert bench.nothing_left()


async def test_an_expired_attempt_that_nobody_swept_keeps_its_object_for_the_sweep(bench: IntakeBench) -> None:
    async def late() -> AsyncIterator[bytes]:
        yield PDF
        bench.clock.at += timedelta(seconds=120)

    with pytest.raises(UploadSuperseded):
        await bench.receive(late())
    assert len(bench.objects.objects) == 1
    await bench.sweep.run_once()
    assert bench.nothing_left()


async def test_the_sweep_settles_its_debts_before_it_abandons_more(bench: IntakeBench) -> None:
    for _ in range(3):
        bench.database.faults = [None, "rollback", "away"]
        with pytest.raises(DatabaseUnavailable):
            await bench.receive()
    bench.clock.at += timedelta(seconds=61)
    bench.objects.away = True
    with pytest.raises(ObjectStoreUnavailable):
        await bench.sweep.run_once(limit=2)
    with pytest.raises(ObjectStoreUnavailable):
        await bench.sweep.run_once(limit=2)
    statuses = [row.status for row in bench.database.rows.documents.values()]
    assert sorted(status.value for status in statuses) == ["ABANDONED", "ABANDONED", "PENDING"]
    bench.objects.away = False
    assert await bench.sweep.run_once(limit=2) == 3
    assert bench.nothing_left()


async def test_the_answer_is_what_is_shown_later(bench: IntakeBench) -> None:
    receipt = await bench.receive()
    document = await bench.reading.document(bench.caller(), UUID(receipt.body["id"]))
    assert document_body(bench.texts.shown(document)) == receipt.body
    assert "depositor_email" not in receipt.body
