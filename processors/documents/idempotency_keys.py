"""Idempotency-Keys: a caller's own names for its requests."""

from __future__ import annotations

from typing import Final

from domain.refusals import IdempotencyKeyInvalid

MOST_CHARACTERS: Final = 128


def check_idempotency_key(key: str) -> None:
    """Raises IdempotencyKeyInvalid."""
    if not 1 <= len(key) <= MOST_CHARACTERS or not all("!" <= character <= "~" for character in key):
        raise IdempotencyKeyInvalid(f"An Idempotency-Key has 1 to {MOST_CHARACTERS} visible ASCII characters.")
