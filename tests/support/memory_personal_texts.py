"""Rows with personal texts, and the keys that seal them, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from domain.documents import Document
from domain.personal_texts import AnswerCursor, ColumnUse, StoredTexts
from domain.refusals import PersonalKeyInUse
from tests.support.fakes_personal_texts import ReadableColumnKeys
from tests.support.memory import MemoryDatabase


class MemoryPersonalColumns:
    """``held``: rows that somebody holds; ``meanwhile``: run before a page is written, as another writer."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.held: set[UUID] = set()
        self.retired: set[str] = set()
        self.writes = 0
        self.meanwhile = lambda: None

    def _rows(self) -> list[Document]:
        return [row for row in self._database.rows.documents.values() if row.original_name]

    async def uses(self) -> Sequence[ColumnUse]:
        counts = Counter((row.personal_key, row.lookup_key) for row in self._rows())
        return [ColumnUse(*keys, number) for keys, number in counts.items()]

    async def page(self, use: ColumnUse, after: UUID | None, limit: int) -> Sequence[StoredTexts]:
        rows = [row for row in self._rows() if (row.personal_key, row.lookup_key) == (use.key, use.lookup)]
        later = sorted((row for row in rows if after is None or row.id > after), key=lambda row: row.id)
        return [StoredTexts(row, str(id(row))) for row in later[:limit]]

    async def replace(self, pairs: Sequence[tuple[StoredTexts, Document]]) -> int:
        self.meanwhile()
        written = 0
        for kept, new in pairs:
            row = self._database.rows.documents[kept.document.id]
            if row is kept.document and row.id not in self.held:
                self._database.put(new)
                written += 1
        self.writes += 1
        return written

    async def retire(self, *, key: str | None = None, lookup: str | None = None) -> None:
        if any({row.personal_key, row.lookup_key} & {key, lookup} - {None} for row in self._rows()):
            raise PersonalKeyInUse
        self.retired |= {key, lookup} - {None}

    async def forget_answers(self, after: AnswerCursor | None, limit: int) -> tuple[int, AnswerCursor | None]:
        forgotten = 0
        for scope, (kept, until) in self._database.rows.keys.items():
            if kept.response and kept.response["body"]["file_name"] is not None:
                body = {**kept.response["body"], "file_name": None}
                self._database.rows.keys[scope] = (replace(kept, response={**kept.response, "body": body}), until)
                forgotten += 1
        return forgotten, None


class MemoryColumnKeyStore:
    """The keys of ``columns``."""

    def __init__(self, columns: ReadableColumnKeys) -> None:
        self._columns = columns
        self._made = 0

    def _of(self, lookup: bool) -> list[str]:
        return self._columns.lookups if lookup else self._columns.sealing

    async def sealing(self) -> Sequence[str]:
        return list(self._columns.sealing)

    async def lookups(self) -> Sequence[str]:
        return list(self._columns.lookups)

    async def add(self, *, lookup: bool, first: bool) -> str:
        self._made += 1
        key = f"{'l' if lookup else 'k'}-new-{self._made}"
        self._of(lookup).insert(0 if first else len(self._of(lookup)), key)
        return key

    async def promote(self, key: str, *, lookup: bool) -> None:
        self._of(lookup).remove(key)
        self._of(lookup).insert(0, key)

    async def remove(self, key: str, *, lookup: bool) -> None:
        self._of(lookup).remove(key)
