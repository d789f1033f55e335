"""A document's receipt: a compact JWS (RFC 7515, EdDSA) that proves, without us, what was archived and that the audit log says so.

Form: ``domain.shared.jws``, type ``dpj-receipt+jws``. Payload:

    v, type ("dpj-document-receipt"), tenant, document_id, sha256 (of the clear bytes, hex), size and stored_size (bytes, clear and
    as stored), deposited_at, archived_at, retained_until (ISO 8601, UTC), ged_id, ged_path,
    audit       {seq, entry_hash (hex), entry (the audit entry's canonical text)}
    checkpoint  {checkpoint, key, signature}: a checkpoint's file, as ``domain.checkpoints`` writes it
    inclusion   {leaf_index, tree_size, path (hex, leaf's end first)}: RFC 6962 section 2.1.1

sha256, size, archived_at, ged_id and ged_path are those of the audit entry, and a document whose row says otherwise has no receipt.
Entries of releases that did not audit the content (no sha256 in their details) prove none: sha256 and size are then null.
retained_until is what archiving decided, the entry's time and its retention_years; what was or is extended beyond that is not in it.
stored_size and deposited_at are the database's word at the time of signing: no audit entry proves them.

The checkpoint is the first one that covers the entry and Ed25519 signatures are deterministic: a document's receipt is always the
same bytes, as long as the key is the same, and so is what the database says of those two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from domain.audit_chain import ChainEntry
from domain.checkpoints import SignedCheckpoint
from domain.documents import Document
from domain.errors import CheckpointConflict
from domain.merkle import Tiles, inclusion_proof, leaf_hash, root_of_path
from domain.retention import years_after
from domain.shared.jws import signing_input

FORMAT: Final = 1
TYPE: Final = "dpj-document-receipt"
JWS_TYPE: Final = "dpj-receipt+jws"
ARCHIVED: Final = "document.archived"
_MARK: Final = b'"action":"document.archived"'


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivingEntry:
    """The audit entry that archived a document: its number in the tenant's chain, and its canonical bytes."""

    document_id: UUID
    tenant: str
    seq: int
    entry: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """``archiving``'s entry is in the tree that ``signed`` is about; ``path`` leads from its leaf to the root."""

    archiving: ArchivingEntry
    signed: SignedCheckpoint
    path: Sequence[bytes]

    @classmethod
    def of_tiles(cls, archiving: ArchivingEntry, signed: SignedCheckpoint, tiles: Tiles) -> InclusionProof:
        """Raises CheckpointConflict unless the path out of ``tiles`` leads to the root that was signed."""
        index, made = archiving.seq - 1, signed.checkpoint
        try:
            path = inclusion_proof(index, made.size, tiles)
            root = root_of_path(leaf_hash(archiving.entry), index, made.size, path)
        except ValueError:
            root, path = b"", []
        if root.hex() != made.root or made.tenant != archiving.tenant:
            raise CheckpointConflict("The database's audit tree is not the one that was signed.")
        return cls(archiving=archiving, signed=signed, path=path)


def archiving_entry_of(entry: ChainEntry) -> ArchivingEntry | None:
    """What ``entry`` says of a document's archiving; None if it is about anything else."""
    if _MARK not in entry.body:
        return None
    fields = entry.fields()
    if fields.get("action") != ARCHIVED or fields.get("entity_type") != "document":
        return None
    return ArchivingEntry(document_id=UUID(fields["entity_id"]), tenant=entry.tenant, seq=entry.seq, entry=entry.body)


def receipt_input(document: Document, inclusion: InclusionProof, key_id: str) -> bytes:
    """The bytes that a receipt's signature is over. Raises CheckpointConflict if the document is not what was audited."""
    return signing_input(JWS_TYPE, _payload(document, inclusion), key_id)


def _payload(document: Document, inclusion: InclusionProof) -> dict[str, Any]:
    archiving, signed = inclusion.archiving, inclusion.signed
    audited = _audited(document, archiving)
    return {
        "v": FORMAT,
        "type": TYPE,
        "tenant": document.tenant,
        "document_id": str(document.id),
        "sha256": audited.get("sha256"),
        "size": audited.get("size"),
        "stored_size": document.object_size,
        "deposited_at": _time(document.deposited_at),
        "archived_at": audited["archived_at"],
        "retained_until": audited["retained_until"],
        "ged_id": audited["ged_id"],
        "ged_path": audited["ged_path"],
        "audit": {
            "seq": archiving.seq,
            "entry_hash": hashlib.sha256(archiving.entry).hexdigest(),
            "entry": archiving.entry.decode(),
        },
        "checkpoint": signed.document,
        "inclusion": {
            "leaf_index": archiving.seq - 1,
            "tree_size": signed.checkpoint.size,
            "path": [one.hex() for one in inclusion.path],
        },
    }


def _audited(document: Document, archiving: ArchivingEntry) -> Mapping[str, Any]:
    """What the audit entry says was archived. Raises CheckpointConflict if it is of another document, or the row says otherwise."""
    try:
        entry = json.loads(archiving.entry)
        details = json.loads(entry["details"])
        said: dict[str, Any] = {
            "archived_at": entry["at"],
            "ged_id": details["ged_id"],
            "ged_path": details["ged_path"],
        }
        row: dict[str, Any] = {
            "archived_at": _time(document.archived_at),
            "ged_id": document.ged_id,
            "ged_path": document.ged_path,
        }
        if "sha256" in details:
            said |= {"sha256": details["sha256"], "size": details["size"]}
            row |= {"sha256": document.sha256, "size": document.size}
        what = (entry["tenant"], entry["seq"], entry["action"], entry["entity_type"], entry["entity_id"])
        until = years_after(datetime.fromisoformat(entry["at"]), details["retention_years"])
    except (ValueError, KeyError, TypeError, OverflowError):
        raise CheckpointConflict("The audit entry is not one of an archiving.") from None
    if what != (document.tenant, archiving.seq, ARCHIVED, "document", str(document.id)):
        raise CheckpointConflict("The audit entry is about something else.")
    if said != row:
        raise CheckpointConflict("The database's document is not the one whose archiving was audited.")
    return {**said, "retained_until": _time(until)}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds")
