"""Extended metadata on the MongoDB wire protocol and in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient

from domain.errors import DatabaseUnavailable
from storage.mongodb.metadata import MongoExtendedMetadata
from storage.postgres.database import Postgres
from storage.postgres.extended_metadata import PostgresExtendedMetadata


@pytest.fixture(params=["mongodb", "postgresql"])
async def extended(request: pytest.FixtureRequest, stack: Mapping[str, str], postgres: Postgres) -> AsyncIterator[Any]:
    """A store of the test's own."""
    if request.param == "postgresql":
        yield PostgresExtendedMetadata(postgres)
        return
    url, name = stack["DPJ_MONGO_URL"], f"test_{uuid4().hex[:12]}"
    store = MongoExtendedMetadata(url, name)
    yield store
    await store.aclose()
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        await client.drop_database(name)


async def test_metadata_are_replaced_and_removed(extended: Any) -> None:
    document_id, other = uuid4(), uuid4()
    assert await extended.get(document_id) is None
    await extended.put(document_id, "acme", {"pages": 1, "old": True})
    await extended.put(other, "acme", {"pages": 9})
    await extended.put(document_id, "acme", {"pages": 2, "pdf": {"version": "1.7"}, "scale": 1.5})
    assert await extended.get(document_id) == {"pages": 2, "pdf": {"version": "1.7"}, "scale": 1.5}
    await extended.delete(document_id, "other")
    assert await extended.get(document_id) is not None
    await extended.delete(document_id, "acme")
    await extended.delete(document_id, "acme")
    assert await extended.get(document_id) is None
    assert await extended.get(other) == {"pages": 9}


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"dpi": float("nan")}, '{"dpi": NaN}'),
        ({"title": "\0"}, '{"title": "\\u0000"}'),
        ({"title": "\ud800"}, '{"title": "\\ud800"}'),
    ],
)
async def test_what_the_store_could_not_hold_is_kept_as_text(
    extended: Any, metadata: Mapping[str, Any], text: str
) -> None:
    document_id = uuid4()
    await extended.put(document_id, "acme", metadata)
    assert await extended.get(document_id) == text


async def test_a_database_that_is_away_is_said_so() -> None:
    postgres = Postgres("postgresql://dpj:none@127.0.0.1:1/none")
    store = PostgresExtendedMetadata(postgres)
    for call in (store.put(uuid4(), "acme", {}), store.get(uuid4()), store.delete(uuid4(), "acme")):
        with pytest.raises(DatabaseUnavailable):
            await call
    await postgres.aclose()


async def test_which_documents_have_any(extended: Any) -> None:
    one, two, none = uuid4(), uuid4(), uuid4()
    await extended.put(one, "acme", {"pages": 1})
    await extended.put(two, "other", {"pages": 1})
    assert await extended.known([none, one, two]) == {one, two}
    assert await extended.known([]) == set()
