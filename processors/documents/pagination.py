"""Pages by key: newest first, from just after the last row of the page before, so that new rows shift nothing."""

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


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """``next_cursor`` is None on the last page."""

    items: Sequence[T]
    next_cursor: str | None


def check_limit(limit: int) -> None:
    """Raises ParameterInvalid outside 1 to MAX_LIMIT."""
    if not 1 <= limit <= MAX_LIMIT:
        raise ParameterInvalid(f"limit must be 1 to {MAX_LIMIT}.")


def encode_cursor(position: Position) -> str:
    """Opaque, not secret: it says where a page ended and grants nothing."""
    at, row = position
    return base64.urlsafe_b64encode(f"{at.astimezone(UTC).isoformat()}|{row.hex}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> Position | None:
    """Raises CursorInvalid for anything that ``encode_cursor`` did not make."""
    if cursor is None:
        return None
    try:
        if len(cursor) > _MAX_CURSOR:
            raise ValueError
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        at, _, row = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").partition("|")
        position = (datetime.fromisoformat(at), UUID(hex=row))
        if encode_cursor(position) != cursor:
            raise ValueError
    except (ValueError, binascii.Error, OverflowError):
        raise CursorInvalid("The cursor is not one of ours.") from None
    return position


def page_of(rows: Sequence[T], limit: int, position: Callable[[T], Position]) -> Page[T]:
    """The page of ``limit`` rows out of up to ``limit + 1`` that were read."""
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], encode_cursor(position(rows[limit - 1])))
