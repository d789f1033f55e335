"""The files of column and look-up keys as an operator's acts leave them."""

import stat
from pathlib import Path

import pytest

from crypto import key_files
from crypto.column_key_files import ColumnKeyFiles
from crypto.encoding import to_text
from crypto.sealed_columns import SealedColumns
from domain.errors import KeyringUnavailable, PersonalKeyMissing
from domain.personal_texts import PersonalField, TextContext
from tests.support.builders import a_document


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "column.key", tmp_path / "lookup.key"
    for path, key in zip(made, (b"c" * 32, b"l" * 32), strict=True):
        key_files.create_key_file(path, f"{to_text(key)}\n".encode())
    return made


@pytest.mark.parametrize("lookup", [False, True])
async def test_keys_are_added_promoted_and_removed(paths: tuple[Path, Path], lookup: bool) -> None:
    files, other = ColumnKeyFiles(*paths), paths[0 if lookup else 1].read_bytes()
    listed = files.lookups if lookup else files.sealing
    (old,) = await listed()
    staged = await files.add(lookup=lookup, first=False)
    first = await files.add(lookup=lookup, first=True)
    assert await listed() == [first, old, staged]
    await files.promote(staged, lookup=lookup)
    assert await listed() == [staged, first, old]
    await files.remove(first, lookup=lookup)
    await files.remove(staged, lookup=lookup)
    assert await listed() == [staged, old]
    with pytest.raises(PersonalKeyMissing):
        await files.promote(first, lookup=lookup)
    assert paths[0 if lookup else 1].read_bytes() == other
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


async def test_who_seals_sees_each_step(paths: tuple[Path, Path]) -> None:
    files, columns = ColumnKeyFiles(*paths), SealedColumns.from_files(*paths)
    place = TextContext("acme", a_document().id, PersonalField.EMAIL)
    (old,) = await files.sealing()
    sealed = columns.seal(place, "a", columns.current().sealing)
    new = await files.add(lookup=False, first=True)
    assert columns.current().sealing == new
    assert columns.open(place, sealed) == "a"
    await files.remove(old, lookup=False)
    with pytest.raises(PersonalKeyMissing):
        columns.open(place, sealed)


async def test_a_file_that_others_may_read_is_not_changed(paths: tuple[Path, Path]) -> None:
    paths[0].chmod(0o644)
    before = paths[0].read_bytes()
    with pytest.raises(KeyringUnavailable):
        await ColumnKeyFiles(*paths).add(lookup=False, first=True)
    assert paths[0].read_bytes() == before


async def test_two_writers_follow_each_other(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_files, "LOCK_SECONDS", 0.1)
    files = ColumnKeyFiles(*paths)
    with key_files.locked(paths[0]), pytest.raises(KeyringUnavailable):
        await files.add(lookup=False, first=True)
    await files.add(lookup=False, first=True)
    assert len(await files.sealing()) == 2
