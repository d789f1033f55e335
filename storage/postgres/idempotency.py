"""Rows of ``idempotency_keys``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg

from domain.records import IdempotencyRecord
from domain.refusals import UploadSuperseded

Scope = tuple[str, str, str]


class PostgresIdempotencyKeys:
    """See ``processors.ports.uploads.IdempotencyKeys``. The server's clock alone decides whether a lease has run out."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def claim(self, scope: Scope, record: IdempotencyRecord, lease_seconds: float) -> IdempotencyRecord | None:
        if record.clear_key is not None:
            # A row of a release before. One that is free goes: whoever had it is superseded.
            former = (scope[0], scope[1], record.clear_key)
            held = await self._held(former)
            if held is not None and _is_in_use(held):
                return _record_of(held)
            if held is not None:
                await self._connection.execute(
                    "DELETE FROM idempotency_keys WHERE tenant = $1 AND caller = $2 AND key = $3", *former
                )
        # A key that another transaction is claiming makes the INSERT wait for that transaction's end.
        taken = await self._connection.fetchval(
            """
            INSERT INTO idempotency_keys (tenant, caller, key, document_id, object_key, metadata_fingerprint, lease_until)
            VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7))
            ON CONFLICT DO NOTHING RETURNING true
            """,
            *scope,
            record.document_id,
            record.object_key,
            record.metadata_fingerprint,
            lease_seconds,
        )
        if taken:
            return None
        held = await self._held(scope)
        if held is None:
            return await self.claim(scope, record, lease_seconds)  # it was released meanwhile
        if _is_in_use(held):
            return _record_of(held)
        await self._connection.execute(
            """
            UPDATE idempotency_keys
            SET document_id = $4, object_key = $5, metadata_fingerprint = $6, created_at = now(),
                lease_until = clock_timestamp() + make_interval(secs => $7)
            WHERE tenant = $1 AND caller = $2 AND key = $3
            """,
            *scope,
            record.document_id,
            record.object_key,
            record.metadata_fingerprint,
            lease_seconds,
        )
        return None

    async def renew(self, scope: Scope, object_key: str, lease_seconds: float) -> None:
        await self._change(
            "UPDATE idempotency_keys SET lease_until = clock_timestamp() + make_interval(secs => $5)",
            scope,
            object_key,
            lease_seconds,
        )

    async def complete(self, scope: Scope, object_key: str, content_sha256: str, response: Mapping[str, Any]) -> None:
        await self._change(
            "UPDATE idempotency_keys SET done = true, content_sha256 = $5, response = $6",
            scope,
            object_key,
            content_sha256,
            dict(response),
        )

    async def release(self, scope: Scope, object_key: str) -> None:
        await self._connection.execute(
            """
            DELETE FROM idempotency_keys
            WHERE tenant = $1 AND caller = $2 AND key = $3 AND object_key = $4 AND NOT done
            """,
            *scope,
            object_key,
        )

    async def _held(self, scope: Scope) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = await self._connection.fetchrow(
            """
            SELECT *, lease_until <= clock_timestamp() AS expired,
                   EXISTS (SELECT FROM documents WHERE id = document_id AND statut = 'PENDING') AS pending
            FROM idempotency_keys WHERE tenant = $1 AND caller = $2 AND key = $3 FOR UPDATE
            """,
            *scope,
        )
        return found

    async def _change(self, update: str, scope: Scope, object_key: str, *values: Any) -> None:
        changed = await self._connection.fetchval(
            f"{update} WHERE tenant = $1 AND caller = $2 AND key = $3 AND object_key = $4 AND NOT done RETURNING true",
            *scope,
            object_key,
            *values,
        )
        if not changed:
            raise UploadSuperseded


def _is_in_use(row: Mapping[str, Any]) -> bool:
    return bool(row["done"] or (row["pending"] and not row["expired"]))


def _record_of(row: Mapping[str, Any]) -> IdempotencyRecord:
    document_id: UUID = row["document_id"]
    return IdempotencyRecord(
        document_id=document_id,
        object_key=row["object_key"],
        metadata_fingerprint=row["metadata_fingerprint"],
        content_sha256=row["content_sha256"],
        done=row["done"],
        expired=row["expired"],
        response=row["response"],
    )
