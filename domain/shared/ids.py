"""Ids in texts that may be anything."""

from __future__ import annotations

from uuid import UUID


def uuid_or_none(text: str | None) -> UUID | None:
    """The id that ``text`` spells, in any form that ``uuid.UUID`` takes; None for every other text."""
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None
