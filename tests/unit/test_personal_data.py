"""Sealed personal texts and pseudonyms."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from crypto.personal_data import PersonalDataKeys
from domain.errors import KeyringUnavailable, WrongKey

SEALING, OLDER, PSEUDONYM = bytes(range(32)), b"o" * 32, b"p" * 32


def write(path: Path, *keys: bytes, mode: int = 0o600) -> Path:
    path.write_text("".join(base64.urlsafe_b64encode(key).decode() + "\n" for key in keys), "ascii")
    path.chmod(mode)
    return path


@pytest.fixture
def keys(tmp_path: Path) -> PersonalDataKeys:
    return PersonalDataKeys.from_files(
        write(tmp_path / "personal.key", SEALING), write(tmp_path / "pseudonym.key", PSEUDONYM)
    )


@pytest.mark.parametrize("text", ["", "192.0.2.7", "client@exemple.fr", "Mozilla/5.0 … é 漢 🙂", "x" * 10_000])
def test_what_is_sealed_opens(keys: PersonalDataKeys, text: str) -> None:
    sealed = keys.seal(text)
    assert keys.unseal(sealed) == text
    assert not text or text not in sealed
    assert sealed != keys.seal(text)


def test_the_published_form(keys: PersonalDataKeys) -> None:
    version, key_id, body = keys.seal("hello").split(".")
    assert version == "p1"
    assert key_id == hmac.new(SEALING, b"dpj-personal-key-id", hashlib.sha256).hexdigest()[:8]
    assert len(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) == 12 + 5 + 16


def test_every_altered_character_is_refused(keys: PersonalDataKeys) -> None:
    sealed = keys.seal("192.0.2.7")
    for place in range(len(sealed) - 1):
        other = "A" if sealed[place] != "A" else "B"
        with pytest.raises(WrongKey):
            keys.unseal(sealed[:place] + other + sealed[place + 1 :])
    for length in range(len(sealed)):
        with pytest.raises(WrongKey):
            keys.unseal(sealed[:length])


@pytest.mark.parametrize("text", ["", ".", "..", "p1", "p1.", "p1..", "clear text", "192.0.2.7", "p1.00000000.AAAA"])
def test_what_is_not_sealed_is_refused(keys: PersonalDataKeys, text: str) -> None:
    with pytest.raises(WrongKey):
        keys.unseal(text)


def test_older_keys_open_and_the_first_seals(tmp_path: Path, keys: PersonalDataKeys) -> None:
    pseudonym = tmp_path / "pseudonym.key"
    before = keys.seal("text")
    rotated = PersonalDataKeys.from_files(write(tmp_path / "new.key", OLDER, SEALING), pseudonym)
    assert rotated.unseal(before) == "text"
    after = rotated.seal("text")
    assert after.split(".")[1] != before.split(".")[1]
    with pytest.raises(WrongKey):
        keys.unseal(after)
    forgotten = PersonalDataKeys.from_files(write(tmp_path / "new.key", OLDER), pseudonym)
    with pytest.raises(WrongKey):
        forgotten.unseal(before)


def test_pseudonyms(keys: PersonalDataKeys) -> None:
    one = keys.pseudonym("depositor", "client@exemple.fr")
    assert one == keys.pseudonym("depositor", "client@exemple.fr")
    assert len(one) == 32
    assert set(one) <= set("0123456789abcdef")
    assert one != keys.pseudonym("validator", "client@exemple.fr")
    assert one != keys.pseudonym("depositor", "client@exemple.com")
    assert keys.pseudonym("ab", "c") != keys.pseudonym("a", "bc")
    other = PersonalDataKeys([SEALING], b"q" * 32)
    assert one != other.pseudonym("depositor", "client@exemple.fr")


def test_the_published_pseudonym(keys: PersonalDataKeys) -> None:
    message = b"\x00\x09depositor\x00\x02\xc3\xa9"
    assert keys.pseudonym("depositor", "é") == hmac.new(PSEUDONYM, message, hashlib.sha256).hexdigest()[:32]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_files_open_to_others_are_refused(tmp_path: Path, mode: int) -> None:
    good, bad = write(tmp_path / "good", SEALING), write(tmp_path / "bad", PSEUDONYM, mode=mode)
    for personal, pseudonym in ((good, bad), (bad, good)):
        with pytest.raises(KeyringUnavailable):
            PersonalDataKeys.from_files(personal, pseudonym)


@pytest.mark.parametrize("content", [b"", b"\n", b"c2hvcnQ=", b"!" * 43, b"\xff" * 43, bytes(range(224, 256))])
def test_files_without_keys_are_refused(tmp_path: Path, content: bytes) -> None:
    good, bad = write(tmp_path / "good", SEALING), tmp_path / "bad"
    bad.write_bytes(content)
    bad.chmod(0o600)
    for personal, pseudonym in ((good, bad), (bad, good)):
        with pytest.raises(KeyringUnavailable):
            PersonalDataKeys.from_files(personal, pseudonym)


def test_there_is_one_pseudonym_key(tmp_path: Path) -> None:
    with pytest.raises(KeyringUnavailable):
        PersonalDataKeys.from_files(write(tmp_path / "a", SEALING), write(tmp_path / "b", PSEUDONYM, OLDER))


def test_no_secret_in_the_repr(keys: PersonalDataKeys) -> None:
    assert repr(PSEUDONYM)[2:20] not in repr(keys)
