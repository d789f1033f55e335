"""Keys of subjects: the published forms, what opens what, and what a key that is gone leaves."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.personal_data import PersonalDataKeys
from crypto.subject_keys import SubjectKeys
from domain.errors import WrongKey
from domain.subjects import SealedAuditField, Subject, SubjectKey

SITE, OLDER = bytes(range(32)), b"o" * 32
SUBJECT = Subject("acme", uuid4())


def site(*keys: bytes) -> SubjectKeys:
    return PersonalDataKeys(list(keys or (SITE,)), b"p" * 32).subjects


def key_id(key: bytes) -> str:
    return hmac.new(key, b"dpj-personal-key-id", hashlib.sha256).hexdigest()[:8]


def parts(text: str) -> tuple[str, bytes, bytes]:
    """What is before the second dot, nonce, and the rest."""
    version, name, body = text.split(".")
    raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    return f"{version}.{name}", raw[:12], raw[12:]


def prefixed(*texts: str) -> bytes:
    return b"".join(len(text.encode()).to_bytes(2, "big") + text.encode() for text in texts)


@pytest.mark.parametrize("text", ["", "192.0.2.7", "Mozilla/5.0 … é 漢 🙂", "x" * 10_000])
def test_what_is_sealed_opens(text: str) -> None:
    keys = site()
    wrapped = keys.new(SUBJECT)
    sealed = keys.seal(wrapped, SUBJECT, {SealedAuditField.IP: text})[SealedAuditField.IP]
    assert keys.unseal(wrapped, SUBJECT, SealedAuditField.IP, sealed) == text
    assert sealed != keys.seal(wrapped, SUBJECT, {SealedAuditField.IP: text})[SealedAuditField.IP]
    assert keys.is_of_subject(sealed)
    assert not keys.is_of_subject(PersonalDataKeys([SITE], b"p" * 32).seal(text))


def test_the_published_forms() -> None:
    keys = site()
    wrapped = keys.new(SUBJECT)
    prefix, nonce, body = parts(wrapped)
    assert prefix == f"k1.{key_id(SITE)}"
    key = AESGCM(SITE).decrypt(nonce, body, prefixed(prefix, "acme", str(SUBJECT.id)))
    assert len(key) == 32
    prefix, nonce, body = parts(
        keys.seal(wrapped, SUBJECT, {SealedAuditField.USER_AGENT: "é"})[SealedAuditField.USER_AGENT]
    )
    assert prefix == f"s1.{key_id(key)}"
    associated = prefixed(prefix, "acme", str(SUBJECT.id), "user_agent")
    assert AESGCM(key).decrypt(nonce, body, associated) == "é".encode()


def test_each_subject_has_a_key_of_its_own_and_each_field_its_place() -> None:
    keys, other = site(), Subject("acme", uuid4())
    wrapped, others = keys.new(SUBJECT), keys.new(other)
    sealed = keys.seal(wrapped, SUBJECT, {SealedAuditField.IP: "192.0.2.7"})[SealedAuditField.IP]
    for key, subject, field in (
        (others, other, SealedAuditField.IP),
        (wrapped, other, SealedAuditField.IP),
        (wrapped, Subject("other", SUBJECT.id), SealedAuditField.IP),
        (wrapped, SUBJECT, SealedAuditField.USER_AGENT),
        (keys.new(SUBJECT), SUBJECT, SealedAuditField.IP),
    ):
        with pytest.raises(WrongKey):
            keys.unseal(key, subject, field, sealed)


def test_every_altered_character_is_refused() -> None:
    keys = site()
    wrapped = keys.new(SUBJECT)
    sealed = keys.seal(wrapped, SUBJECT, {SealedAuditField.IP: "192.0.2.7"})[SealedAuditField.IP]
    for text, look in (
        (sealed, lambda altered: keys.unseal(wrapped, SUBJECT, SealedAuditField.IP, altered)),
        (wrapped, lambda altered: keys.seal(altered, SUBJECT, {SealedAuditField.IP: "x"})),
    ):
        for place in range(len(text) - 1):
            other = "A" if text[place] != "A" else "B"
            with pytest.raises(WrongKey):
                look(text[:place] + other + text[place + 1 :])
        for length in range(len(text)):
            with pytest.raises(WrongKey):
                look(text[:length])


def test_the_sites_older_keys_still_open_and_one_that_is_gone_opens_nothing() -> None:
    wrapped = site().new(SUBJECT)
    sealed = site().seal(wrapped, SUBJECT, {SealedAuditField.IP: "x"})[SealedAuditField.IP]
    rotated = site(OLDER, SITE)
    assert rotated.unseal(wrapped, SUBJECT, SealedAuditField.IP, sealed) == "x"
    assert parts(rotated.new(SUBJECT))[0] == f"k1.{key_id(OLDER)}"
    with pytest.raises(WrongKey):
        site(OLDER).unseal(wrapped, SUBJECT, SealedAuditField.IP, sealed)


def test_a_wrapped_key_fits_its_column_and_stands_in_no_repr() -> None:
    tenant = Subject("t" * 63, uuid4())
    wrapped = site(os.urandom(32)).new(tenant)
    assert len(wrapped) <= 128
    assert wrapped not in repr(SubjectKey(wrapped))
