"""What an operator does about the files of column and look-up keys. A file is its own authority: whoever may write it may do all of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from crypto.encoding import key_id, to_text
from crypto.key_files import KEY_BYTES, locked, read_keys, replace_key_file
from crypto.sealed_columns import COLUMN, LOOKUP
from domain.errors import PersonalKeyMissing


class ColumnKeyFiles:
    """The KeyLines port over two key files (``crypto.sealed_columns``). Raises KeyringUnavailable."""

    def __init__(self, column_key_file: Path, lookup_key_file: Path) -> None:
        self._columns = column_key_file
        self._lookups = lookup_key_file

    async def sealing(self) -> Sequence[str]:
        return list(await asyncio.to_thread(_read, self._columns, COLUMN))

    async def lookups(self) -> Sequence[str]:
        return list(await asyncio.to_thread(_read, self._lookups, LOOKUP))

    async def add(self, *, lookup: bool, first: bool) -> str:
        path, kind = self._of(lookup)
        key = os.urandom(KEY_BYTES)
        await asyncio.to_thread(_change, path, lambda keys: [key, *keys] if first else [*keys, key])
        return key_id(kind, key)

    async def promote(self, key: str, *, lookup: bool) -> None:
        path, kind = self._of(lookup)

        def act(keys: list[bytes]) -> list[bytes]:
            named = [one for one in keys if key_id(kind, one) == key]
            if not named:
                raise PersonalKeyMissing("There is no key of that id.")
            return [*named, *(one for one in keys if one not in named)]

        await asyncio.to_thread(_change, path, act)

    async def remove(self, key: str, *, lookup: bool) -> None:
        path, kind = self._of(lookup)

        def act(keys: list[bytes]) -> list[bytes]:
            first, *others = keys
            return [first, *(one for one in others if key_id(kind, one) != key)]

        await asyncio.to_thread(_change, path, act)

    def _of(self, lookup: bool) -> tuple[Path, str]:
        return (self._lookups, LOOKUP) if lookup else (self._columns, COLUMN)


def _read(path: Path, kind: str) -> dict[str, bytes]:
    return {key_id(kind, key): key for key in read_keys(path)}


def _change(path: Path, act: Callable[[list[bytes]], list[bytes]]) -> None:
    with locked(path):
        keys = act(read_keys(path))
        replace_key_file(path, "".join(f"{to_text(key)}\n" for key in keys).encode("ascii"))
