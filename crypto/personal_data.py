"""Personal texts (IP, user agent, e-mail) sealed under the personal-data key, and keyed pseudonyms.

Key files: text, mode 0600, one key per line, each base64url of 32 bytes. Of the personal-data keys the first seals and all
unseal; taking a key out of the file makes what it sealed unreadable for good, and no audit chain notices. There is one pseudonym
key: with another, every pseudonym would change. The same keys wrap those of subjects (``crypto.subject_keys``).

Sealed form: ``p1.<key id>.<base64url(nonce 12 | ciphertext | tag 16)>``, AES-256-GCM, associated data = what is before the second
dot; key id = the first 8 hex digits of HMAC-SHA256(key, "dpj-personal-key-id").
Pseudonym: the first 32 hex digits of HMAC-SHA256(key, u16-length-prefixed UTF-8 of purpose and value).
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.encoding import from_text, key_id, length_prefixed, to_text
from crypto.key_files import read_keys, refused
from crypto.subject_keys import KIND, SubjectKeys
from domain.errors import WrongKey

NONCE_BYTES = 12
VERSION = "p1"
PSEUDONYM_DIGITS = 32


class PersonalDataKeys:
    """The PersonalData port. ``sealing`` keys, the current one first, and the ``pseudonym`` key: 32 bytes each."""

    def __init__(self, sealing: list[bytes], pseudonym: bytes) -> None:
        self._current = key_id(KIND, sealing[0])
        self._sealing = {key_id(KIND, key): AESGCM(key) for key in sealing}
        self._pseudonym = pseudonym
        self.subjects = SubjectKeys(self._sealing, self._current)

    @classmethod
    def from_files(cls, personal_key_file: Path, pseudonym_key_file: Path) -> Self:
        """Raises KeyringUnavailable if a file can't be read, is open to others, or holds no such keys."""
        pseudonym = read_keys(pseudonym_key_file)
        if len(pseudonym) != 1:
            raise refused(pseudonym_key_file, "malformed")
        return cls(read_keys(personal_key_file), pseudonym[0])

    def seal(self, text: str) -> str:
        """A text that only the holder of the key can read; different at each call."""
        prefix = f"{VERSION}.{self._current}"
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._sealing[self._current].encrypt(nonce, text.encode(), prefix.encode())
        return f"{prefix}.{to_text(nonce + sealed)}"

    def unseal(self, sealed: str) -> str:
        """Raises WrongKey: altered, not a sealed text, or its key is gone."""
        version, _, rest = sealed.partition(".")
        name, _, body = rest.partition(".")
        key = self._sealing.get(name)
        if version != VERSION or key is None:
            raise WrongKey("The personal-data key of this text is not here.")
        try:
            raw = from_text(body)
            return key.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], f"{version}.{name}".encode()).decode()
        except (ValueError, InvalidTag):
            raise WrongKey("The personal-data key does not open this text.") from None

    def pseudonym(self, purpose: str, value: str) -> str:
        """32 hex digits: the same for the same purpose and value, unlinkable across purposes without the key."""
        return hmac.digest(self._pseudonym, length_prefixed(purpose, value), "sha256").hex()[:PSEUDONYM_DIGITS]
