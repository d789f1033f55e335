"""Column keys and look-up keys that tests can see through, and real ones in memory."""

from __future__ import annotations

import os

from crypto.sealed_columns import COLUMN, LOOKUP, MemoryKeySource, SealedColumns
from domain.errors import PersonalKeyMissing, WrongKey
from domain.personal_texts import CurrentKeys, PersonalField, TextContext, normalised
from processors.documents.personal_texts import PersonalTexts
from tests.support.fakes_archiving import PlainSeals


class ReadableColumnKeys:
    """Seals by showing where a text belongs; looks up by the text itself."""

    def __init__(self, *sealing: str) -> None:
        self.sealing, self.lookups = list(sealing or ("k1",)), ["l1"]

    def current(self) -> CurrentKeys:
        return CurrentKeys(self.sealing[0], self.lookups[0])

    def seal(self, place: TextContext, text: str, key: str) -> str:
        if key not in self.sealing:
            raise PersonalKeyMissing
        return f"p2.{key}.{place.tenant}|{place.document_id}|{place.field.value}|{text}"

    def open(self, place: TextContext, sealed: str) -> str:
        version, key, rest = sealed.split(".", 2)
        if key not in self.sealing:
            raise PersonalKeyMissing
        begin = f"{place.tenant}|{place.document_id}|{place.field.value}|"
        if version != "p2" or not rest.startswith(begin):
            raise WrongKey
        return rest.removeprefix(begin)

    def indexes(self, tenant: str, field: PersonalField, text: str) -> dict[str, bytes]:
        return {key: f"{key}|{tenant}|{field.value}|{normalised(text)}".encode() for key in self.lookups}


def plain_texts(*sealing: str) -> PersonalTexts:
    """Texts that show what they are sealed as."""
    return PersonalTexts(ReadableColumnKeys(*sealing), PlainSeals())


def real_columns() -> SealedColumns:
    """New keys."""
    return SealedColumns(MemoryKeySource(COLUMN, [os.urandom(32)]), MemoryKeySource(LOOKUP, [os.urandom(32)]))
