"""Personal texts of documents' rows, each sealed for its own place, and the keyed indexes that they are looked up by.

Key files: text, mode 0600, one key per line, each base64url of 32 bytes. Of the column keys the first seals and all open; of the
look-up keys the first makes the indexes that are kept, and all are searched by. A file is read again whenever it was changed,
by whomever.

Sealed form: ``p2.<key id>.<base64url(nonce 12 | ciphertext | tag 16)>``, AES-256-GCM. The key is the document's own,
HMAC-SHA256(column key, fields of "dpj-column-2", tenant, document id): so random nonces never run out under one key. Associated data:
fields of "p2", key id, tenant, document id, what the text is of the document. A text that is moved to another row or column does not
open there.
Index: the first 16 bytes of HMAC-SHA256(look-up key, fields of "dpj-lookup-1", tenant, what it is, normalised text). Who has no key can
compute none, and no two tenants' indexes can be compared.
Fields are u16-length-prefixed UTF-8. Key id: the first 8 hex digits of HMAC-SHA256(key, "dpj-column-key-id" or "dpj-lookup-key-id").
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.encoding import from_text, key_id, length_prefixed, to_text
from crypto.key_files import read_keys
from domain.errors import PersonalKeyMissing, WrongKey
from domain.personal_texts import CurrentKeys, PersonalField, TextContext, normalised

NONCE_BYTES: Final = 12
INDEX_BYTES: Final = 16
VERSION: Final = "p2"
#: Kinds of keys.
COLUMN: Final = "dpj-column"
LOOKUP: Final = "dpj-lookup"


class KeySource(Protocol):
    """Where keys come from: a file, or whatever else keeps them."""

    def keys(self) -> Mapping[str, bytes]:
        """By their ids, the current one first. Raises KeyringUnavailable."""
        ...


class MemoryKeySource:
    """Keys in memory."""

    def __init__(self, kind: str, keys: Sequence[bytes]) -> None:
        self._keys = {key_id(kind, key): key for key in keys}

    def keys(self) -> Mapping[str, bytes]:
        return self._keys


class FileKeySource:
    """The keys of a file, in the file's order."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._kind = kind
        self._keys: dict[str, bytes] | None = None
        self._read_as: tuple[int, int, int] | None = None

    def keys(self) -> Mapping[str, bytes]:
        """Raises KeyringUnavailable if the file can't be used. One that is away for a moment leaves what was last read."""
        marks = self._read_as
        with suppress(OSError):
            found = self._path.stat()
            marks = (found.st_mtime_ns, found.st_ino, found.st_size)
        if self._keys is None or marks != self._read_as:
            self._keys = {key_id(self._kind, key): key for key in read_keys(self._path)}
            self._read_as = marks
        return self._keys


class SealedColumns:
    """The ColumnKeys port."""

    def __init__(self, columns: KeySource, lookups: KeySource) -> None:
        self._columns = columns
        self._lookups = lookups

    @classmethod
    def from_files(cls, column_key_file: Path, lookup_key_file: Path) -> Self:
        """The files are read when keys are needed."""
        return cls(FileKeySource(column_key_file, COLUMN), FileKeySource(lookup_key_file, LOOKUP))

    def current(self) -> CurrentKeys:
        """Raises KeyringUnavailable."""
        return CurrentKeys(next(iter(self._columns.keys())), next(iter(self._lookups.keys())))

    def seal(self, context: TextContext, text: str, key: str) -> str:
        """A text that opens at ``context`` alone, under the column key of that id. Raises PersonalKeyMissing, KeyringUnavailable."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._document_key(context, key).encrypt(nonce, text.encode(), _associated(context, key))
        return f"{VERSION}.{key}.{to_text(nonce + sealed)}"

    def open(self, context: TextContext, sealed: str) -> str:
        """Raises WrongKey (altered, of another place, or no sealed text), PersonalKeyMissing or KeyringUnavailable."""
        version, _, rest = sealed.partition(".")
        key, _, body = rest.partition(".")
        if version != VERSION:
            raise WrongKey("This is no sealed text of a document.")
        opening = self._document_key(context, key)
        try:
            raw = from_text(body)
            return opening.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _associated(context, key)).decode()
        except (ValueError, InvalidTag):
            raise WrongKey("The sealed text does not open for this document.") from None

    def indexes(self, tenant: str, field: PersonalField, text: str) -> Mapping[str, bytes]:
        """By look-up key id, the current one first: what a document with this text is found by. Raises KeyringUnavailable."""
        message = length_prefixed("dpj-lookup-1", tenant, field.value, normalised(text))
        return {name: hmac.digest(key, message, "sha256")[:INDEX_BYTES] for name, key in self._lookups.keys().items()}

    def _document_key(self, context: TextContext, key: str) -> AESGCM:
        held = self._columns.keys().get(key)
        if held is None:
            raise PersonalKeyMissing("The personal-data key of this text is not here.")
        message = length_prefixed("dpj-column-2", context.tenant, str(context.document_id))
        return AESGCM(hmac.digest(held, message, "sha256"))


def _associated(context: TextContext, key: str) -> bytes:
    return length_prefixed(VERSION, key, context.tenant, str(context.document_id), context.field.value)
