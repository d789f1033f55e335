"""Personal texts sealed for one place, and indexes to look them up by."""

import base64
import hashlib
import hmac
import struct
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.encoding import to_text
from crypto.sealed_columns import SealedColumns
from domain.errors import KeyringUnavailable, PersonalKeyMissing, WrongKey
from domain.personal_texts import PersonalField, TextContext

OLD, NEW = b"o" * 32, b"n" * 32
LOOKUP, NEXT_LOOKUP = b"l" * 32, b"m" * 32
DOCUMENT = UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")
NAME = TextContext("acme", DOCUMENT, PersonalField.FILE_NAME)


def write(path: Path, *keys: bytes) -> Path:
    new = path.with_name(f"{path.name}.new")
    new.touch(0o600)
    new.write_text("".join(f"{to_text(key)}\n" for key in keys))
    new.replace(path)
    return path


def fields(*texts: str) -> bytes:
    return b"".join(struct.pack(">H", len(text.encode())) + text.encode() for text in texts)


@pytest.fixture
def keys(tmp_path: Path) -> SealedColumns:
    return SealedColumns.from_files(write(tmp_path / "column.key", OLD), write(tmp_path / "lookup.key", LOOKUP))


def seal(keys: SealedColumns, text: str, place: TextContext = NAME) -> str:
    return keys.seal(place, text, keys.current().sealing)


@pytest.mark.parametrize("text", ["", "a", "relevé d'identité.pdf", "🦊" * 255])
def test_what_is_sealed_opens_where_it_belongs(keys: SealedColumns, text: str) -> None:
    sealed = seal(keys, text)
    assert keys.open(NAME, sealed) == text
    assert seal(keys, text) != sealed


@pytest.mark.parametrize(
    "other",
    [
        TextContext("other", DOCUMENT, PersonalField.FILE_NAME),
        TextContext("acme", UUID(int=1), PersonalField.FILE_NAME),
        TextContext("acme", DOCUMENT, PersonalField.EMAIL),
        TextContext("acme", DOCUMENT, PersonalField.NOTE),
    ],
)
def test_it_opens_nowhere_else(keys: SealedColumns, other: TextContext) -> None:
    sealed = seal(keys, "a.pdf")
    with pytest.raises(WrongKey):
        keys.open(other, sealed)


def test_every_altered_character_is_refused(keys: SealedColumns) -> None:
    sealed = seal(keys, "a.pdf")
    for at, character in enumerate(sealed):
        altered = sealed[:at] + ("A" if character != "A" else "B") + sealed[at + 1 :]
        with pytest.raises((WrongKey, PersonalKeyMissing)):
            keys.open(NAME, altered)


@pytest.mark.parametrize("text", ["", "a.pdf", "p2", "p2.", "p1.00000000.AAAA", "p3.x.y"])
def test_what_is_not_sealed_is_refused(keys: SealedColumns, text: str) -> None:
    with pytest.raises((WrongKey, PersonalKeyMissing)):
        keys.open(NAME, text)


def test_the_published_forms(keys: SealedColumns) -> None:
    """Opened and computed here by the module's description alone."""
    version, name, body = seal(keys, "a.pdf").split(".")
    assert (version, name) == ("p2", hmac.new(OLD, b"dpj-column-key-id", hashlib.sha256).hexdigest()[:8])
    key = hmac.new(OLD, fields("dpj-column-2", "acme", str(DOCUMENT)), hashlib.sha256).digest()
    raw = base64.urlsafe_b64decode(body + "==")
    bound = fields("p2", name, "acme", str(DOCUMENT), "file_name")
    assert AESGCM(key).decrypt(raw[:12], raw[12:], bound) == b"a.pdf"
    said = fields("dpj-lookup-1", "acme", "depositor_email", "marie@example.org")
    index = hmac.new(LOOKUP, said, hashlib.sha256).digest()[:16]
    lookup = hmac.new(LOOKUP, b"dpj-lookup-key-id", hashlib.sha256).hexdigest()[:8]
    assert dict(keys.indexes("acme", PersonalField.EMAIL, "marie@example.org")) == {lookup: index}


@pytest.mark.parametrize("same", ["RELEVÉ.PDF", " relevé.pdf\t", "releve\u0301.pdf", "Releve\u0301.pdf"])
def test_what_a_person_takes_for_the_same_has_the_same_index(keys: SealedColumns, same: str) -> None:
    name = PersonalField.FILE_NAME
    assert keys.indexes("acme", name, same) == keys.indexes("acme", name, "relevé.pdf")


def test_indexes_can_not_be_compared_across_tenants_or_purposes(keys: SealedColumns) -> None:
    found = [
        next(iter(keys.indexes(tenant, field, "a").values()))
        for tenant in ("acme", "other")
        for field in (PersonalField.FILE_NAME, PersonalField.EMAIL)
    ]
    assert len(set(found)) == 4
    assert {len(index) for index in found} == {16}


def test_a_changed_file_is_read_again(keys: SealedColumns, tmp_path: Path) -> None:
    before, old = seal(keys, "a.pdf"), keys.current()
    write(tmp_path / "column.key", NEW, OLD)
    write(tmp_path / "lookup.key", NEXT_LOOKUP, LOOKUP)
    assert keys.current().sealing != old.sealing
    assert seal(keys, "a.pdf").split(".")[1] == keys.current().sealing
    assert keys.open(NAME, before) == "a.pdf"
    assert list(keys.indexes("acme", PersonalField.EMAIL, "a")) == [keys.current().lookup, old.lookup]
    write(tmp_path / "column.key", NEW)
    with pytest.raises(PersonalKeyMissing):
        keys.open(NAME, before)
    with pytest.raises(PersonalKeyMissing):
        keys.seal(NAME, "a", old.sealing)


def test_a_file_that_is_away_for_a_moment_leaves_its_keys(keys: SealedColumns, tmp_path: Path) -> None:
    sealed = seal(keys, "a.pdf")
    (tmp_path / "column.key").rename(tmp_path / "away")
    assert keys.open(NAME, sealed) == "a.pdf"


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "column.key", OLD)
    path.chmod(0o640)
    with pytest.raises(KeyringUnavailable):
        SealedColumns.from_files(path, path).current()


def test_no_secret_in_the_repr(keys: SealedColumns) -> None:
    seal(keys, "a")
    assert to_text(OLD) not in repr(vars(keys)) + repr(keys)
    assert repr(OLD) not in repr(keys)
