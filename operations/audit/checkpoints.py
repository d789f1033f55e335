"""A tenant's checkpoints, held against each other and against the keys; and a chain held against them.

The kinds of findings are those of ``verifier/dpj_verify.py``: EDITED, DELETED, INSERTED, REORDERED, TRUNCATED, REWRITTEN, FORKED and
CHECKPOINT_*; beside them HEAD_MISSING, UNSIGNED (``operations.audit.overdue``) and ENTRY_MISSING (``operations.audit.timelines``), for what an
export does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from domain.audit_chain import ChainBreak, ChainCheck, ChainEntry, ChainFault, ChainHead
from domain.checkpoints import Checkpoint, PublicKey, first_previous, signed_checkpoint_of
from domain.merkle import RightEdge, leaf_hash
from operations.audit.export import Checkpoints, all_checkpoints

#: Whether a signature of a message holds under a key.
VerifySignature = Callable[[PublicKey, bytes, bytes], bool]


class CheckpointReader(Checkpoints, Protocol):
    """The checkpoint store. Raises CheckpointStoreUnavailable."""

    async def tenants(self) -> Sequence[str]:
        """Those with checkpoints."""
        ...


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """``kind`` in capitals; ``at`` is an entry's number, or a checkpoint's size where ``kind`` is FORKED or CHECKPOINT_*."""

    tenant: str
    kind: str
    at: int
    text: str

    @property
    def line(self) -> str:
        return f"{self.tenant}: {self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class SignedHistory:
    """A tenant's valid checkpoints by size, and what is wrong with the others or between them."""

    checkpoints: tuple[Checkpoint, ...] = ()
    findings: tuple[AuditFinding, ...] = ()

    @property
    def size(self) -> int:
        """Of the newest; 0 if there is none."""
        return self.checkpoints[-1].size if self.checkpoints else 0

    @property
    def time(self) -> datetime | None:
        """Of the newest, in UTC."""
        return self.checkpoints[-1].time.astimezone(UTC) if self.checkpoints else None


NOTHING_SIGNED: Final = SignedHistory()


async def read_signed(
    reader: CheckpointReader,
    keys: Mapping[str, PublicKey],
    verifies: VerifySignature,
    tenant: str,
    recorded: Sequence[tuple[int, str]] = (),
) -> SignedHistory:
    """All of a tenant's checkpoints, every version of each. ``recorded``: sizes and hashes of those that the database has as signed,
    which must have been read before. Raises CheckpointStoreUnavailable."""
    valid: list[Checkpoint] = []
    findings: list[AuditFinding] = []
    async for size, contents in all_checkpoints(reader, tenant):
        for content in contents:
            wrong = "it is no checkpoint"
            try:
                found = signed_checkpoint_of(content)
            except ValueError:
                found = None
            if found is not None:
                made, key = found.checkpoint, keys.get(found.key_id)
                if (made.tenant, made.size) != (tenant, size):
                    wrong = "it is filed under another name than its own"
                elif key is None or not verifies(key, found.signature, made.body):
                    wrong = "no known key signed it"
                else:
                    wrong = ""
                    if made not in valid[-len(contents) :]:
                        valid.append(made)
            if wrong:
                text = f"the checkpoint filed under {size} entries does not count: {wrong}"
                findings.append(AuditFinding(tenant, "CHECKPOINT_INVALID", size, text))
    findings += _unlinked(tenant, valid)
    findings += _lost(tenant, valid, recorded)
    return SignedHistory(tuple(valid), tuple(findings))


def _unlinked(tenant: str, valid: Sequence[Checkpoint]) -> list[AuditFinding]:
    found: list[AuditFinding] = []
    expected, before = first_previous(tenant), 0
    successors: dict[str, int] = {}
    for made in valid:
        successors[made.previous] = successors.get(made.previous, 0) + 1
    for made in valid:
        if made.size == before:
            text = f"two different checkpoints of {made.size} entries are signed"
            found.append(AuditFinding(tenant, "FORKED", made.size, text))
        elif made.previous != expected and successors[made.previous] > 1:
            text = f"the checkpoint of {made.size} entries follows one that has another successor"
            found.append(AuditFinding(tenant, "FORKED", made.size, text))
        elif made.previous != expected:
            text = f"the checkpoint before the one of {made.size} entries is missing or another"
            found.append(AuditFinding(tenant, "CHECKPOINT_MISSING", made.size, text))
        expected, before = made.hash, made.size
    return found


def _lost(tenant: str, valid: Sequence[Checkpoint], recorded: Sequence[tuple[int, str]]) -> list[AuditFinding]:
    held = {(made.size, made.hash) for made in valid}
    lost = [size for size, digest in recorded if (size, digest) not in held]
    if not lost:
        return []
    more = f", and so with {len(lost) - 1} more" if len(lost) > 1 else ""
    text = f"the database says that the checkpoint of {lost[0]} entries is signed, and the store does not have it{more}"
    return [AuditFinding(tenant, "CHECKPOINT_MISSING", lost[0], text)]


class SignedCheck(ChainCheck):
    """A chain check that knows what was signed: links that hold are not enough. The fault is then REWRITTEN, at the first entry after
    the last checkpoint that does hold."""

    def __init__(
        self, start: ChainHead, checkpoints: Sequence[Checkpoint], observe: Callable[[ChainEntry], None] | None = None
    ) -> None:
        """``observe`` gets every entry that holds."""
        super().__init__(start)
        self._observe = observe
        self._coming = [made for made in reversed(checkpoints) if made.size > start.seq]
        self._tree = RightEdge()
        self._held = start.seq

    def add(self, entry: ChainEntry, *, faithful: bool = True) -> ChainFault | None:
        fault = super().add(entry, faithful=faithful)
        if fault is None:
            if self._observe is not None:
                self._observe(entry)
            self._tree.add(leaf_hash(entry.body))
            while self._coming and self._coming[-1].size == self._tree.size:
                made = self._coming.pop()
                if made.root != self._tree.root.hex():
                    self.fault = ChainFault(self._held + 1, ChainBreak.REWRITTEN)
                    break
                self._held = made.size if not self._coming or self._coming[-1].size != made.size else self._held
        return self.fault
