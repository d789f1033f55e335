"""Rows of the inbox as workers leave them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4


async def add_inbox_rows(sql: Callable[..., Awaitable[list[Any]]], event_id: UUID, state: str, *consumers: str) -> None:
    """``event_id`` as each of ``consumers`` has it, of a document of its own."""
    for consumer in consumers:
        await sql(
            "INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until)"
            " VALUES ($1, $2, $3, $4, gen_random_uuid(), now())",
            consumer,
            event_id,
            str(uuid4()),
            state,
        )
