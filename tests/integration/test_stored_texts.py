"""docs/stored-texts.md says of every column and field that can hold text what it holds; so do the real databases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import asyncpg
from pymongo import AsyncMongoClient

from domain.audit_chain import entry_of, genesis
from domain.file_facts import OTHER, known_facts
from storage.migrate import upgrade
from storage.mongodb.audit import MongoAuditStore
from storage.mongodb.metadata import MongoExtendedMetadata
from tests.support.audit_lines import a_line
from tests.support.pipeline import ROOT

_ROW = re.compile(r"\| `([^`]+)` \| ([^|]+) \|")
_KIND = re.compile(r"\| ([a-z ]+) \| ")
#: What holds no text, whatever is written into it.
_NO_TEXTS = (
    "uuid",
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "date",
    "interval",
)


def classified() -> dict[str, Mapping[str, frozenset[str]]]:
    """Kinds by column or field, by heading."""
    text = (ROOT / "docs" / "stored-texts.md").read_text()
    head, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    kinds = set(_KIND.findall(head)) - {"kind"}
    found: dict[str, Mapping[str, frozenset[str]]] = {}
    for part in parts:
        rows = {name: frozenset(said.strip().split(", ")) for name, said in _ROW.findall(part)}
        assert len(rows) == len(_ROW.findall(part))
        unknown = {name: said for name, said in rows.items() if not said <= kinds}
        assert unknown == {}
        found[part.partition("\n")[0]] = rows
    return found


async def test_every_column_that_can_hold_text_is_classified(empty_dsn: str) -> None:
    await upgrade(empty_dsn)
    connection = await asyncpg.connect(empty_dsn)
    try:
        rows = await connection.fetch(
            """
            SELECT table_name || '.' || column_name AS name FROM information_schema.columns
            JOIN pg_class ON pg_class.oid = format('%I.%I', table_schema, table_name)::regclass
            WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND NOT relispartition
            AND data_type <> ALL ($1) AND data_type NOT LIKE 'time%'
            """,
            _NO_TEXTS,
        )
    finally:
        await connection.close()
    there, said = {row["name"] for row in rows}, classified()["PostgreSQL"].keys()
    assert len(there) > 150
    assert sorted(there - said) == []
    assert sorted(said - there) == []


def texts_of(value: Any, place: str) -> Iterator[str]:
    """Places of texts and of what is in no other form."""
    if isinstance(value, Mapping):
        for name, held in value.items():
            yield from texts_of(held, f"{place}.{name}")
    elif isinstance(value, list):
        for held in value:
            yield from texts_of(held, place)
    elif not isinstance(value, bool | int | float | None) and not hasattr(value, "tzinfo"):
        yield place


async def test_every_field_of_mongodb_that_can_hold_text_is_classified(stack: Mapping[str, str]) -> None:
    url, name = stack["DPJ_MONGO_URL"], f"texts_{uuid4().hex[:12]}"
    audit, extended = MongoAuditStore(url, name), MongoExtendedMetadata(url, name)
    told = {
        "pages": 1,
        "pdf_version": "1.7",
        "page_sizes_pt": [{"width": 1, "height": 1}],
        "producer": "x",
        "creator_tool": "x",
        "creation_date": "D:2026",
        "color_mode": "RGB",
        "undecodable": "DAMAGED",
        "exif": {"make": "x", "model": "x", "date_time_original": "2026:02:10 18:32:05"},
    }
    facts = known_facts(told)
    assert facts.keys() == told.keys()
    assert facts["exif"] == {**told["exif"], "make": OTHER, "model": OTHER}
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        try:
            await audit.add([entry_of(a_line(user_agent_sealed="sealed:agent"), genesis("acme"))])
            await extended.put(uuid4(), "acme", {"mime_type": "application/pdf", **facts})
            there: set[str] = set()
            for collection in await client[name].list_collection_names():
                async for document in client[name][collection].find():
                    for field, value in document.items():
                        # What an event says of itself is one thing, whatever is in it.
                        whole = collection == "audit_logs" and isinstance(value, dict)
                        there |= {f"{collection}.{field}"} if whole else set(texts_of(value, f"{collection}.{field}"))
        finally:
            await client.drop_database(name)
            await audit.aclose()
            await extended.aclose()
    said = classified()["MongoDB"].keys()
    assert sorted(there - said) == []
    assert sorted(said - there) == []
