"""Pages by key, a time and a row: from just after the last row of the page before, so that new rows shift nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar
from uuid import UUID

from domain.refusals import CursorInvalid, ParameterInvalid

MAX_LIMIT: Final = 200
DEFAULT_LIMIT: Final = 50
_MAX_CURSOR: Final = 128

Position = tuple[datetime, UUID]
T = TypeVar("T")
#: What names a row among those of one moment.
RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """``next_cursor`` is None on the last page."""

    items: Sequence[T]
    next_cursor: str | None


def check_limit(limit: int) -> None:
    """Raises ParameterInvalid outside 1 to MAX_LIMIT."""
    if not 1 <= limit <= MAX_LIMIT:
        raise ParameterInvalid(f"limit must be 1 to {MAX_LIMIT}.")


class Cursors(Generic[RowT]):
    """Cursors over rows that ``text_of`` spells and ``row_of`` reads (ValueError for what is none). Opaque, not secret: one says where
    a page ended and grants nothing."""

    def __init__(self, text_of: Callable[[RowT], str], row_of: Callable[[str], RowT]) -> None:
        self._text_of = text_of
        self._row_of = row_of

    def encode(self, position: tuple[datetime, RowT]) -> str:
        at, row = position
        text = f"{at.astimezone(UTC).isoformat()}|{self._text_of(row)}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def decode(self, cursor: str | None) -> tuple[datetime, RowT] | None:
        """Raises CursorInvalid for anything that ``encode`` did not make."""
        if cursor is None:
            return None
        try:
            if len(cursor) > _MAX_CURSOR:
                raise ValueError
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            at, _, row = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").partition("|")
            position = (datetime.fromisoformat(at), self._row_of(row))
            if self.encode(position) != cursor:
                raise ValueError
        except (ValueError, binascii.Error, OverflowError):
            raise CursorInvalid("The cursor is not one of ours.") from None
        return position

    def page_of(self, rows: Sequence[T], limit: int, position: Callable[[T], tuple[datetime, RowT]]) -> Page[T]:
        """The page of ``limit`` rows out of up to ``limit + 1`` that were read."""
        if len(rows) <= limit:
            return Page(rows, None)
        return Page(rows[:limit], self.encode(position(rows[limit - 1])))


_OF_IDS: Final = Cursors[UUID](lambda row: row.hex, lambda text: UUID(hex=text))
encode_cursor: Final = _OF_IDS.encode
decode_cursor: Final = _OF_IDS.decode
page_of: Final = _OF_IDS.page_of
