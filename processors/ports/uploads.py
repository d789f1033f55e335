"""Uploads under way: their leases, their Idempotency-Keys, and their rows in one call each way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from domain.documents import Document
from domain.records import IdempotencyRecord, UploadReferences
from processors.ports.documents import Transition


class Uploads(Protocol):
    """The lease that keeps a PENDING row alive while its upload runs. An attempt is named by its object key."""

    async def begin(self, document: Document, lease_seconds: float) -> None:
        """Insert the PENDING row with a lease."""
        ...

    async def renew(self, document_id: UUID, object_key: str, lease_seconds: float) -> None:
        """Raises UploadSuperseded if the attempt no longer holds the row."""
        ...

    async def hold(self, document_id: UUID, object_key: str) -> Document:
        """Lock the row if it is PENDING, of this attempt, and its lease has not run out; else UploadSuperseded."""
        ...

    async def abandon_expired(self, limit: int) -> Sequence[Document]:
        """PENDING rows whose lease ran out, set ABANDONED by compare-and-set and returned for their objects' removal."""
        ...


class IdempotencyKeys(Protocol):
    """Rows by (tenant, caller, key). The key is a keyed hash of what the client sent.

    Rows of releases before are named by what it sent, until they expire: a ``clear_key`` of a claim is looked for too, and what stands
    there counts as what stands under the hash.
    """

    async def claim(
        self, scope: tuple[str, str, str], record: IdempotencyRecord, lease_seconds: float
    ) -> IdempotencyRecord | None:
        """None: the key is ours now. Otherwise what holds it; a lease that ran out, or an abandoned upload, frees it."""
        ...

    async def renew(self, scope: tuple[str, str, str], object_key: str, lease_seconds: float) -> None: ...

    async def complete(
        self, scope: tuple[str, str, str], object_key: str, content_sha256: str, response: Mapping[str, Any]
    ) -> None:
        """Raises UploadSuperseded if the key is no longer held by this attempt."""
        ...

    async def release(self, scope: tuple[str, str, str], object_key: str) -> None:
        """Free the key after a refused or failed upload, if this attempt still holds it."""
        ...


class UploadRecords(Protocol):
    """An upload's rows, one call each way: every call is a transaction of its own, whole or not at all.

    The same could be said with a Work, in eight round trips where this takes one. Raises DatabaseUnavailable; then the
    transaction may have taken effect all the same.
    """

    async def references(
        self, tenant: str, type_code: str, dossier_id: UUID, step_id: UUID | None, parent_id: UUID | None
    ) -> UploadReferences:
        """Raises TypeUnknown."""
        ...

    async def begin(
        self, document: Document, scope: tuple[str, str, str] | None, claim: IdempotencyRecord, lease_seconds: float
    ) -> bool:
        """Insert the PENDING row with a lease, and the key's claim if there is a ``scope``.

        False, and nothing is written, if something stands under the key: ``IdempotencyKeys.claim`` tells what.
        """
        ...

    async def complete(
        self,
        change: Transition,
        scope: tuple[str, str, str] | None,
        response: Mapping[str, Any],
    ) -> None:
        """Write ``change`` with the document's ``subject_key`` and, with a ``scope``, the key's answer, if the attempt still holds
        its row and its key.

        Raises UploadSuperseded if it holds one of them no longer, KeyVersionRetired if its key's version was retired meanwhile.
        """
        ...
