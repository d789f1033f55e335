"""Keys of subjects: one random key for the personal fields of all audit lines about one subject, wrapped under the site's
personal-data key. Destroying the wrapped key makes those fields unreadable for good, wherever a copy of the lines lies.

Wrapped key: ``k1.<site key id>.<base64url(nonce 12 | ciphertext of 32 bytes | tag 16)>``.
Sealed field: ``s1.<key id>.<base64url(nonce 12 | ciphertext | tag 16)>``, key id as in ``crypto.personal_data``, of the subject's key.
Both AES-256-GCM with random nonces; associated data = u16-length-prefixed UTF-8 of what is before the second dot, tenant and subject id,
and for a field its name: neither opens in another's place. A key seals two short texts per audit line, far below the number at
which random nonces of 96 bits could meet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.encoding import from_text, key_id, length_prefixed, to_text
from domain.errors import WrongKey
from domain.subjects import SealedAuditField, Subject

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
#: Of the site's personal-data keys and of subjects'.
KIND: Final = "dpj-personal"
WRAPPED: Final = "k1"
SEALED: Final = "s1"


class SubjectKeys:
    """See ``processors.ports.subjects.SubjectSeals``. ``site``: the site's personal-data keys by id; ``current`` wraps.

    A subject's key is clear for the sealing of one line or the opening of one field; nothing is remembered, so nothing has to be forgotten.
    """

    def __init__(self, site: Mapping[str, AESGCM], current: str) -> None:
        self._site = site
        self._current = current

    def new(self, subject: Subject) -> str:
        """A new random key, wrapped."""
        prefix = f"{WRAPPED}.{self._current}"
        return _encrypt(self._site[self._current], prefix, os.urandom(KEY_BYTES), subject)

    def seal(
        self, wrapped: str, subject: Subject, fields: Mapping[SealedAuditField, str]
    ) -> Mapping[SealedAuditField, str]:
        """Texts that only the holder of the site's key and of ``wrapped`` can read. Raises WrongKey: ``wrapped`` does not open."""
        key = self._unwrapped(wrapped, subject)
        sealing, prefix = AESGCM(key), f"{SEALED}.{key_id(KIND, key)}"
        return {field: _encrypt(sealing, prefix, text.encode(), subject, field.value) for field, text in fields.items()}

    def unseal(self, wrapped: str, subject: Subject, field: SealedAuditField, sealed: str) -> str:
        """Raises WrongKey: altered, another subject's or field's, another key's, or ``wrapped`` does not open."""
        key = self._unwrapped(wrapped, subject)
        prefix, body = _parted(sealed)
        if prefix != f"{SEALED}.{key_id(KIND, key)}":
            raise WrongKey("The text was sealed under another key.")
        return _decrypt(AESGCM(key), prefix, body, subject, field.value).decode()

    def is_of_subject(self, sealed: str) -> bool:
        """Whether the text was sealed under a subject's key, and not under the site's."""
        return sealed.startswith(f"{SEALED}.")

    def _unwrapped(self, wrapped: str, subject: Subject) -> bytes:
        prefix, body = _parted(wrapped)
        version, _, site_id = prefix.partition(".")
        site = self._site.get(site_id)
        if version != WRAPPED or site is None:
            raise WrongKey("The personal-data key of this subject's key is not here.")
        return _decrypt(site, prefix, body, subject)


def _encrypt(key: AESGCM, prefix: str, clear: bytes, subject: Subject, *context: str) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return f"{prefix}.{to_text(nonce + key.encrypt(nonce, clear, _associated(prefix, subject, *context)))}"


def _decrypt(key: AESGCM, prefix: str, body: str, subject: Subject, *context: str) -> bytes:
    try:
        raw = from_text(body)
        return key.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _associated(prefix, subject, *context))
    except (ValueError, InvalidTag):
        raise WrongKey("The key does not open this text.") from None


def _associated(prefix: str, subject: Subject, *context: str) -> bytes:
    return length_prefixed(prefix, subject.tenant, str(subject.id), *context)


def _parted(text: str) -> tuple[str, str]:
    """What is before the second dot, and what is after it."""
    version, _, rest = text.partition(".")
    name, _, body = rest.partition(".")
    return f"{version}.{name}", body
