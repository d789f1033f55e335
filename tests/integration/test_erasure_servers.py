"""An erasure on the real servers: PostgreSQL, both object stores, the GED, MongoDB's protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from minio import Minio
from minio.commonconfig import ENABLED
from minio.versioningconfig import VersioningConfig

from crypto.local_signer import LocalSigner
from domain.documents import Document, Role
from domain.erasure import LegalBasis, RetentionPeriods
from domain.key_encryption_keys import StoredWrappedKey
from domain.lifecycle import Status
from ged.cmis import CmisRepository
from operations.audit.export import key_set
from processors.documents.callers import Caller
from processors.events.archive_copies import ArchiveCopies, CopyRemover, copies_in_place, location
from processors.events.archiving import ArchivingProcessor
from processors.retention.erasure_execution import ErasureExecutor
from processors.retention.erasure_request import ErasureRequests
from runtime.wiring.adapters import SystemClock
from storage.mongodb.metadata import MongoExtendedMetadata
from storage.objects.filesystem import FilesystemObjectStore
from storage.objects.s3 import MinioObjectStore
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.erasures import PostgresErasureQueue
from storage.postgres.keys.wrapped_keys import PostgresWrappedKeys
from tests.integration.test_ged_outcomes import a_repository
from tests.support.builders import a_document, a_dossier, add_documents
from tests.support.fakes_archiving import CONTENT, SHA256, MemoryContent, PlainSeals, validated
from tests.support.fakes_content import pieces
from verifier import dpj_verify

Store = FilesystemObjectStore | MinioObjectStore


def _minio(stack: Mapping[str, str], bucket: str) -> tuple[MinioObjectStore, Minio]:
    keys = stack["DPJ_MINIO_ACCESS_KEY"], stack["DPJ_MINIO_SECRET_KEY"]
    client = Minio(stack["DPJ_MINIO_ENDPOINT"], *keys, secure=False)
    return MinioObjectStore(stack["DPJ_MINIO_ENDPOINT"], *keys, bucket, secure=False), client


@pytest.fixture(params=["filesystem", "minio", "versioned"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, stack: Mapping[str, str]) -> AsyncIterator[Store]:
    made: Store = FilesystemObjectStore(tmp_path / "objects")
    bucket = f"erase-{uuid4().hex[:12]}"
    client: Minio | None = None
    if request.param != "filesystem":
        made, client = _minio(stack, bucket)
    await made.prepare()
    if client is not None and request.param == "versioned":
        client.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    yield made
    if client is not None:
        for left in [*client.list_objects(bucket, recursive=True, include_version=True)]:
            client.remove_object(bucket, str(left.object_name), version_id=left.version_id)
        client.remove_bucket(bucket)
    await made.aclose()


@pytest.fixture
async def ged(stack: Mapping[str, str]) -> AsyncIterator[CmisRepository]:
    repository = a_repository(stack)
    yield repository
    await repository.aclose()


@pytest.fixture
async def facts(stack: Mapping[str, str]) -> AsyncIterator[MongoExtendedMetadata]:
    made = MongoExtendedMetadata(stack["DPJ_MONGO_URL"], f"erase-{uuid4().hex[:8]}")
    yield made
    await made.aclose()


def a_validated() -> Document:
    dossier = a_dossier(tenant=f"test-{uuid4().hex[:8]}")
    one = uuid4()
    key = f"documents/{one.hex[:2]}/{one}/{uuid4().hex}"
    return replace(
        a_document(dossier, Status.VALIDATED, id=one, object_key=key, step_id=None), size=len(CONTENT), sha256=SHA256
    )


async def _move(stack: Mapping[str, str], ged: CmisRepository, document: Document, copy: str) -> None:
    """Rename the copy and put it into another folder, as a user of the GED does."""
    source, target = await ged.find(location(document)[0]), await ged.find(location(document)[0][:1])
    assert source is not None
    assert target is not None
    named = {"propertyId[0]": "cmis:name", "propertyValue[0]": f"renamed-{uuid4().hex}.pdf"}
    async with httpx.AsyncClient(auth=(stack["DPJ_GED_USER"], stack["DPJ_GED_PASSWORD"]), trust_env=False) as client:
        url = f"{stack['DPJ_GED_URL']}/{stack['DPJ_GED_REPOSITORY']}/root"
        for form in (
            {"cmisaction": "update", "objectId": copy, **named},
            {"cmisaction": "move", "objectId": copy, "sourceFolderId": source.id, "targetFolderId": target.id},
        ):
            (await client.post(url, data={**form, "_charset_": "UTF-8"})).raise_for_status()


async def test_nothing_is_left_of_an_archived_document(
    database: PostgresDatabase,
    postgres: Postgres,
    store: Store,
    ged: CmisRepository,
    facts: MongoExtendedMetadata,
    stack: Mapping[str, str],
    tmp_path: Path,
) -> None:
    document, neighbour = a_validated(), a_validated()
    dossier = a_dossier(tenant=document.tenant, id=document.dossier_id)
    await add_documents(database, dossier, document)
    for key in (document.object_key, document.object_key, f"{document.object_key}.thumbnail-256.aa"):
        await store.put(key, pieces(b"sealed"))
    longer = f"{document.object_key}0"  # begins like it, and is another's
    for key in (neighbour.object_key, longer):
        await store.put(key, pieces(b"stays"))
    await facts.put(document.id, document.tenant, {"pages": 3})
    await facts.put(neighbour.id, neighbour.tenant, {"pages": 4})

    archiving = ArchivingProcessor(database, ArchiveCopies(database, MemoryContent(), ged), SystemClock())
    commit = await archiving.process(validated(document))
    async with database.transaction() as work:
        await commit(work)
    assert len(await copies_in_place(ged, document)) == 1
    async with database.transaction() as work:
        copy = (await work.documents.get(document.id)).ged_id or ""
    await _move(stack, ged, document, copy)  # no erasure is held up by what somebody did in the GED
    assert await copies_in_place(ged, document) == []
    assert await ged.description_of(copy)

    clock = SystemClock()
    erasing = ErasureRequests(database, PlainSeals(), clock)
    caller = Caller(subject="op", tenant="bank", roles=frozenset({Role.OPERATOR}), correlation_id=uuid4())
    asked = await erasing.request(caller, document.id, "TICKET-1", LegalBasis.GDPR_17_1_B)
    assert asked.document.status is Status.ERASING
    signer = LocalSigner.create(tmp_path / "signing.json")
    eraser = ErasureExecutor(
        database,
        PostgresErasureQueue(postgres),
        store,
        CopyRemover(database, ged),
        facts,
        signer,
        clock,
        RetentionPeriods(topic_days=30, backup_days=30, row_days=60, key_hours=72),
    )
    assert await eraser.run_once() == 1
    assert await eraser.run_once() == 0

    assert {stored.key async for stored in store.list("")} == {neighbour.object_key, longer}
    if isinstance(store, MinioObjectStore):
        versions = store._client.list_objects(store._bucket, recursive=True, include_version=True)
        assert {version.object_name for version in versions} == {neighbour.object_key, longer}
    assert await ged.description_of(copy) is None
    assert await facts.get(document.id) is None
    assert await facts.get(neighbour.id) == {"pages": 4}
    async with database.transaction() as work:
        row = await work.documents.get(document.id)
        assert (row.status, row.wrapped_key, row.original_name) == (Status.ERASED, None, "")
    receipt = await erasing.receipt(caller, document.id)
    assert receipt.fields()["document"]["id"] == str(document.id)
    file, keys = tmp_path / "receipt.jws", tmp_path / "keys.json"
    file.write_text(receipt.text)
    keys.write_bytes(key_set(await signer.public_keys()))
    assert dpj_verify.main(["receipt", str(file), "--keys", str(keys)]) == 0


async def test_rewrapping_brings_no_key_back(database: PostgresDatabase, postgres: Postgres) -> None:
    document = a_validated()
    assert document.wrapped_key is not None
    await add_documents(database, a_dossier(tenant=document.tenant, id=document.dossier_id), document)
    wrapped = PostgresWrappedKeys(postgres)
    read = StoredWrappedKey(document.id, document.tenant, document.wrapped_key)
    assert document.tenant in {use.tenant for use in await wrapped.uses()}
    caller = Caller(subject="op", tenant="bank", roles=frozenset({Role.OPERATOR}), correlation_id=uuid4())
    await ErasureRequests(database, PlainSeals(), SystemClock()).request(
        caller, document.id, "T-1", LegalBasis.GDPR_17_1_B
    )
    assert await wrapped.replace([(read, replace(document.wrapped_key, key_version=2, ciphertext="new"))]) == 0
    assert document.tenant not in {use.tenant for use in await wrapped.uses()}
    async with database.transaction() as work:
        assert (await work.documents.get(document.id)).wrapped_key is None


async def test_purging_what_is_not_there_is_fine(store: Store) -> None:
    for _ in range(2):
        await store.purge("documents/00/none")


async def test_what_was_begun_goes_too(store: Store) -> None:
    key = "documents/00/begun"
    if isinstance(store, MinioObjectStore):
        store._client.begin(store._bucket, key)
    else:
        (store._root / ".incoming" / f"documents+00+begun+{uuid4().hex}").write_bytes(b"half")
    assert [put async for put in store.unfinished(key)]
    await store.purge(key)
    assert not [put async for put in store.unfinished(key)]
