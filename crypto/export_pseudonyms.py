"""Pseudonyms of one export, under a random key that is never written anywhere and is gone when the export is made: from then on nobody,
ourselves included, can tell whom one stands for, or make the same ones again.

Name: the first 32 hex digits of HMAC-SHA256(key, u16-length-prefixed UTF-8 of "export/" and purpose, and value). Id: the first 16 bytes of
that of purpose "export/id" and the id's text, in the form of a random UUID (version 4).
"""

from __future__ import annotations

import hmac
import os
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from crypto.encoding import length_prefixed

KEY_BYTES: Final = 32
DIGITS: Final = 32


class ExportPseudonyms:
    """See ``domain.anonymising.Pseudonyms``. Use it as a context: its end is the key's."""

    def __init__(self) -> None:
        self._key = bytearray(os.urandom(KEY_BYTES))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._key[:] = bytes(len(self._key))
        self._key.clear()

    def name(self, purpose: str, value: str) -> str:
        """Raises ValueError once the key is gone."""
        return self._digest(purpose, value).hex()[:DIGITS]

    def id(self, value: UUID) -> UUID:
        """Raises ValueError once the key is gone."""
        return UUID(bytes=self._digest("id", str(value))[:16], version=4)

    def _digest(self, purpose: str, value: str) -> bytes:
        if not self._key:
            raise ValueError("the export's key is gone")
        return hmac.digest(self._key, length_prefixed(f"export/{purpose}", value), "sha256")
