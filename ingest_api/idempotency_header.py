"""The header Idempotency-Key of a request."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers

from domain.refusals import IdempotencyKeyInvalid

_HEADER: Final = "idempotency-key"


def given_idempotency_key(headers: Headers) -> str | None:
    """The key, whatever its form. Raises IdempotencyKeyInvalid for two that differ."""
    if len(set(headers.getlist(_HEADER))) > 1:
        raise IdempotencyKeyInvalid(
            "The request has several Idempotency-Key headers that differ.", advice="Send one Idempotency-Key."
        )
    return headers.get(_HEADER)
