"""An upload's two transactions: over memory and over PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from domain.documents import Document
from domain.keys import WrappedKey
from domain.lifecycle import Status
from domain.refusals import TypeUnknown, UploadSuperseded
from processors.documents.transitions import Origin, plan_transition
from processors.ports.documents import Transition
from tests.support.builders import NOW, a_claim, a_document, a_dossier
from tests.support.database_backends import GONE, LONG, DatabaseBackend

SCOPE = ("acme", "portal-1", "key-1")
ANSWER = {"status": 201, "body": {"id": "x"}}


def _stored(document: Document) -> Transition:
    origin = Origin(actor="portal-1", at=NOW, correlation_id=uuid4())
    return plan_transition(
        document,
        Status.STORED,
        origin,
        mime_type="application/pdf",
        size=10,
        sha256="a" * 64,
        wrapped_key=WrappedKey("vault-transit", "k", 1, "c"),
        object_etag="e",
        object_size=107,
        deposited_at=NOW,
    )


async def _begin(site: DatabaseBackend, scope: tuple[str, str, str] | None = SCOPE, lease: float = LONG) -> Document:
    document = a_document(site.dossier, Status.PENDING)
    assert await site.database.uploads.begin(document, scope, a_claim(document), lease)
    return document


async def test_what_an_upload_refers_to(site: DatabaseBackend) -> None:
    around = site.database.uploads.references
    parent, attempt = a_document(site.dossier), a_document(site.dossier, Status.PENDING)
    other = a_dossier(tenant="other")
    await site.add(parent)
    assert await site.database.uploads.begin(attempt, None, a_claim(attempt), LONG)
    async with site.database.transaction() as work:
        await work.dossiers.add(other)
    tenant, code, dossier = site.dossier.tenant, parent.type_code, site.dossier.id

    found = await around(tenant, code, dossier, None, None)
    assert (found.rule.code, found.dossier_known) == (code, True)
    assert (found.mandatory_documents, found.parent_version) == (None, None)
    for step in site.dossier.steps:
        found = await around(tenant, code, dossier, step.id, parent.id)
        assert found.mandatory_documents == frozenset(step.mandatory_documents)
        assert found.parent_version == parent.version_number
    assert (await around(tenant, code, dossier, uuid4(), attempt.id)) == replace(
        found, mandatory_documents=None, parent_version=None
    )
    assert not (await around("other", code, dossier, None, parent.id)).dossier_known
    assert (await around("other", code, other.id, None, parent.id)).parent_version is None
    with pytest.raises(TypeUnknown):
        await around(tenant, "NO_SUCH_TYPE", dossier, None, None)


async def test_begun_and_completed(site: DatabaseBackend) -> None:
    document = await _begin(site)
    assert await site.get(document.id) == document
    change = _stored(document)
    await site.database.uploads.complete(change, SCOPE, ANSWER)
    assert await site.get(document.id) == change.new
    async with site.database.transaction() as work:
        held = await work.idempotency.claim(SCOPE, a_claim(a_document(site.dossier)), LONG)
        assert [entry.type for entry in await work.timeline.of(document.id)] == ["STORED"]
    assert held is not None
    assert (held.done, held.content_sha256, held.response) == (True, "a" * 64, ANSWER)
    with pytest.raises(UploadSuperseded):
        await site.database.uploads.complete(change, SCOPE, ANSWER)


async def test_without_a_key(site: DatabaseBackend) -> None:
    document = await _begin(site, None)
    await site.database.uploads.complete(_stored(document), None, ANSWER)
    assert (await site.get(document.id)).status is Status.STORED


async def test_a_key_that_is_held_begins_nothing(site: DatabaseBackend) -> None:
    await _begin(site)
    late = a_document(site.dossier, Status.PENDING)
    assert not await site.database.uploads.begin(late, SCOPE, a_claim(late), LONG)
    with pytest.raises(UploadSuperseded):
        await site.database.uploads.complete(_stored(late), SCOPE, ANSWER)


async def test_a_lease_that_ran_out_completes_nothing(site: DatabaseBackend) -> None:
    document = await _begin(site, lease=GONE)
    with pytest.raises(UploadSuperseded):
        await site.database.uploads.complete(_stored(document), SCOPE, ANSWER)
    assert (await site.get(document.id)).status is Status.PENDING


async def test_a_key_that_was_lost_leaves_the_row_as_it_was(site: DatabaseBackend) -> None:
    document = await _begin(site)
    async with site.database.transaction() as work:
        await work.idempotency.release(SCOPE, document.object_key)
    with pytest.raises(UploadSuperseded):
        await site.database.uploads.complete(_stored(document), SCOPE, ANSWER)
    assert await site.get(document.id) == document
    async with site.database.transaction() as work:
        assert await work.timeline.of(document.id) == []


async def test_many_at_once_have_each_their_own_outcome(site: DatabaseBackend) -> None:
    """They may share a transaction; one whose key is lost, and one whose row is gone, spoil it for nobody."""
    scopes = [("acme", "portal-1", f"many-{number}") for number in range(40)]
    documents = await asyncio.gather(*(_begin(site, scope) for scope in scopes))
    async with site.database.transaction() as work:
        await work.idempotency.release(scopes[7], documents[7].object_key)
    changes = [_stored(document) for document in documents]
    changes[9] = _stored(a_document(site.dossier, Status.PENDING))
    outcomes = await asyncio.gather(
        *(site.database.uploads.complete(change, scope, ANSWER) for change, scope in zip(changes, scopes, strict=True)),
        return_exceptions=True,
    )
    failed = [number for number, outcome in enumerate(outcomes) if outcome is not None]
    assert failed == [7, 9]
    assert all(isinstance(outcomes[number], UploadSuperseded) for number in failed)
    for number, document in enumerate(documents):
        expected = Status.PENDING if number in failed else Status.STORED
        assert (await site.get(document.id)).status is expected


async def test_racing_for_one_key_one_begins(site: DatabaseBackend) -> None:
    rivals = [a_document(site.dossier, Status.PENDING) for _ in range(12)]
    begun = await asyncio.gather(*(site.database.uploads.begin(rival, SCOPE, a_claim(rival), LONG) for rival in rivals))
    assert sum(begun) == 1
