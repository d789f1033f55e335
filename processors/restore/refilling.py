"""Entries of the audit log that a restored or emptied MongoDB lacks, made again from what PostgreSQL and Kafka still have.

An entry is its event behind the entry before, and the same event behind the same entry is always the same bytes. PostgreSQL has the place of
every event for a while, whole entries of what was archived, and the hash of every entry's leaf in the tenant's Merkle tree; Kafka has the
events for as long as its retention. An entry made again counts only if its leaf is the tree's: what cannot be proved is not put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from domain.audit_chain import ChainEntry, ChainHead, entry_of, genesis, hash_of
from domain.events import AuditRecorded
from domain.merkle import leaf_hash


class ChainRefill:
    """One tenant's chain, walked from its first number on: say of each number that the log ``has`` its entry, or ``make`` it again.

    ``hashes``: of entries by number, as far as PostgreSQL knows them; behind a gap that nothing fills the chain goes on from one of these.
    """

    def __init__(self, tenant: str, hashes: Mapping[int, str]) -> None:
        self._tenant = tenant
        self._hashes = hashes
        self._before: str | None = genesis(tenant).hash

    def has(self, entry: ChainEntry) -> None:
        """The log has it."""
        self._before = entry.hash

    def make(
        self, seq: int, leaf: bytes | None, *, body: bytes | None = None, line: AuditRecorded | None = None
    ) -> ChainEntry | None:
        """The entry of that number, out of its own ``body`` or of the ``line`` that is to stand there; None where there is neither, where
        what was before it is not known, or where it is not the one that was there."""
        entry = None
        if body is not None:
            entry = _entry_of_body(self._tenant, seq, body)
        elif line is not None and self._before is not None and line.tenant == self._tenant:
            entry = entry_of(line, ChainHead(self._tenant, seq - 1, self._before))
        if entry is not None and not self._is_proved(entry, leaf):
            entry = None
        self._before = entry.hash if entry is not None else self._hashes.get(seq)
        return entry

    def _is_proved(self, entry: ChainEntry, leaf: bytes | None) -> bool:
        if leaf is not None:
            return leaf_hash(entry.body) == leaf
        return self._hashes.get(entry.seq) == entry.hash


def _entry_of_body(tenant: str, seq: int, body: bytes) -> ChainEntry | None:
    entry = ChainEntry(tenant=tenant, seq=seq, event_id=UUID(int=0), body=body, hash=hash_of(body))
    try:
        fields = entry.fields()
        event_id = UUID(str(fields.get("event_id")))
    except ValueError:
        return None
    if (fields.get("tenant"), fields.get("seq")) != (tenant, seq):
        return None
    return ChainEntry(tenant=tenant, seq=seq, event_id=event_id, body=body, hash=entry.hash)
