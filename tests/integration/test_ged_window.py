"""The demonstration's own look at the GED sees what was put there, and nothing where there is nothing."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from uuid import uuid4

import httpx
import pytest

from domain.archive import GedDocument
from ged.cmis import CmisRepository
from operations.demo.ged import GedClient

CONTENT = bytes(range(256)) * 1000


async def _pieces() -> AsyncIterator[bytes]:
    yield CONTENT


async def _archive(stack: Mapping[str, str], folder: str) -> str:
    repository = CmisRepository(
        stack["DPJ_GED_URL"], stack["DPJ_GED_REPOSITORY"], stack["DPJ_GED_USER"], stack["DPJ_GED_PASSWORD"]
    )
    try:
        await repository.create_folder([folder])
        document = GedDocument(name="a b é.pdf", mime_type="application/pdf", description="test", size=len(CONTENT))
        created = await repository.create([folder], document, _pieces())
    finally:
        await repository.aclose()
    assert created is not None
    return created.id


async def test_bytes_and_folder_are_seen(stack: Mapping[str, str]) -> None:
    folder = f"test-{uuid4().hex}"
    object_id = await _archive(stack, folder)
    with GedClient(
        stack["DPJ_GED_URL"], stack["DPJ_GED_REPOSITORY"], stack["DPJ_GED_USER"], stack["DPJ_GED_PASSWORD"]
    ) as window:
        assert window.sha256_of(object_id) == hashlib.sha256(CONTENT).hexdigest()
        link = window.folder_link(f"/{folder}/a b é.pdf")
        with pytest.raises(httpx.HTTPStatusError):
            window.sha256_of("no-such-object")
    async with httpx.AsyncClient(auth=(stack["DPJ_GED_USER"], stack["DPJ_GED_PASSWORD"]), trust_env=False) as client:
        children = (await client.get(link)).raise_for_status().json()
    names = [child["object"]["succinctProperties"]["cmis:name"] for child in children["objects"]]
    assert names == ["a b é.pdf"]
