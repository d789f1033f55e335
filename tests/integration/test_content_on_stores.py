"""Content over both pairs of adapters: folder and key file, MinIO and Vault."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from crypto.envelope import CHUNK_SIZE, Envelope
from crypto.vault_session import VaultSession
from crypto.vault_transit import VaultTransitKeyring
from domain.errors import IntegrityMismatch, ObjectMissing, WrongKey
from domain.keys import EncryptionContext
from processors.documents.content import EncryptedContent
from storage.objects.filesystem import FilesystemObjectStore
from storage.objects.s3 import MinioObjectStore
from tests.support.fakes_content import a_document, collect, cut
from tests.support.keyrings import a_keyring, create_vault_key

CLEAR = os.urandom(7 * CHUNK_SIZE + 4321)


def adapters(kind: str, stack: dict[str, str], folder: Path) -> tuple[Any, Any]:
    if kind == "embedded":
        return FilesystemObjectStore(folder / "objects"), a_keyring(folder / "keyring.json", "banque")
    objects = MinioObjectStore(
        stack["DPJ_MINIO_ENDPOINT"],
        stack["DPJ_MINIO_ACCESS_KEY"],
        stack["DPJ_MINIO_SECRET_KEY"],
        f"content-{uuid4().hex[:12]}",
        secure=False,
    )
    session = VaultSession.connect(stack["DPJ_VAULT_ADDR"], stack["DPJ_VAULT_ROLE_ID"], stack["DPJ_VAULT_SECRET_ID"])
    return objects, VaultTransitKeyring(session, "dpj-tenant-")


@pytest.fixture(params=["embedded", "full"])
async def content(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EncryptedContent]:
    stack = request.getfixturevalue("stack") if request.param == "full" else {}
    objects, keyring = adapters(request.param, stack, tmp_path)
    await objects.prepare()
    if request.param == "full":
        create_vault_key(stack, "banque")
    yield EncryptedContent(objects, Envelope(), keyring)
    await objects.aclose()
    await keyring.aclose()


async def test_a_document_s_way(content: EncryptedContent) -> None:
    document = a_document(len(CLEAR), id=uuid4(), object_key=f"banque/{uuid4().hex}")
    context = EncryptionContext(document.tenant, document.id)
    key, wrapped = await content.new_key(context)
    stored = await content.store(key, context, document.object_key, cut(CLEAR, 65_536))
    await content.verify_stored(stored, len(CLEAR))
    document = replace(document, wrapped_key=wrapped, object_etag=stored.etag, object_size=stored.size)

    assert await collect(content.read(document)) == CLEAR
    for start, end in [(0, 10), (CHUNK_SIZE - 1, CHUNK_SIZE + 1), (5 * CHUNK_SIZE, len(CLEAR)), (123, 6_000_000)]:
        assert await collect(content.read_range(document, start, end)) == CLEAR[start:end]
    with pytest.raises(WrongKey):
        await collect(content.read(replace(document, id=uuid4())))

    thumbnail = await content.store_rendition(document, "thumbnail-256", b"image")
    assert thumbnail.key.startswith(f"{document.object_key}.thumbnail-256.")
    await content.delete_renditions(document)
    with pytest.raises(ObjectMissing):
        await content.verify_stored(replace(thumbnail, proved=False), 5)

    again = await content.store(key, context, document.object_key, cut(CLEAR, 1 << 20))
    assert again.etag != stored.etag
    with pytest.raises(IntegrityMismatch):
        await collect(content.read(document))
    await content.delete(document.object_key)
    with pytest.raises(ObjectMissing):
        await collect(content.read(document))
