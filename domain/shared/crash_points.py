"""Places at which a process under test can be made to die at once, as by SIGKILL: one in each gap between two effects.

``reach(name)`` costs one look into an empty dictionary. Nothing is armed but by ``arm``, which the process's settings decide
(``DPJ_CRASH_POINT``); tests/faults holds that whatever dies at a point, all documents come to rest as promised.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Final

#: The exit status at a crash point: that of a process killed by SIGKILL, as a shell reports it.
STATUS: Final = 137

#: Name -> what is done and what is not, when the process dies there.
POINTS: Final[Mapping[str, str]] = {
    "intake.intent": "the row is PENDING; nothing is stored",
    "intake.stored": "the object is stored; nothing compared it",
    "intake.checked": "the object is compared; the row is still PENDING",
    "intake.committed": "the document is STORED; the caller has no answer",
    "discard.begun": "an upload was refused; its row is PENDING and its object stored",
    "discard.abandoned": "a refused upload's row is ABANDONED; its object is still there",
    "decision.committed": "the decision is recorded or carried out; the caller has no answer",
    "sweep.abandoned": "rows of expired attempts are ABANDONED; their objects are still there",
    "relay.fetched": "outbox rows are read; none is sent",
    "relay.produced": "rows are handed to the producer; the broker confirmed none",
    "relay.confirmed": "the broker confirmed; no row is marked",
    "relay.marked": "the rows are marked as published",
    "batch.item": "an item of an operator's batch is acted on, its result written; nothing is committed",
    "batch.item_done": "an item of an operator's batch is done; the next one is not begun",
    "housekeeping.pruned": "some of the old rows are deleted",
    "delivery.claimed": "the event is claimed; the processor has not run",
    "delivery.processed": "the processor's outside effects are done; nothing is written",
    "delivery.committed": "rows and inbox are written; the offset is not committed",
    "delivery.burying": "an event is given up; nothing says so yet",
    "delivery.buried": "the dead letter is in the outbox; the offset is not committed",
    "integrity.read": "the content is read and compared; nothing is written",
    "renditions.stored": "one of several thumbnails is in the object store",
    "renditions.described": "thumbnails and technical facts are stored; no row names them",
    "archiving.locked": "the document's lock is held; the GED was not asked",
    "archiving.attempted": "the attempt is on record; the GED was sent nothing",
    "archiving.created": "the copy is in the GED, not compared",
    "archiving.compared": "the copy is whole; the lock is still held",
    "archiving.copied": "the copy is whole, the lock free; nothing is written",
    "notification.attempted": "the attempt is on record; the mail is not sent",
    "notification.sent": "the mail server took the mail; nothing is written",
    "audit.chained": "entries have their places in the chain; the audit store has none of them",
    "audit.stored": "the audit store has the entries; PostgreSQL still keeps them",
    "checkpoint.fixed": "the next checkpoint is on record; it is not signed",
    "checkpoint.stored": "the checkpoint store has it; the record does not say so",
    "erase.committed": "the document is ERASING and its key destroyed; the caller has no answer",
    "erasure.claimed": "an erasure is taken up; nothing outside PostgreSQL is deleted",
    "erasure.objects": "the objects are deleted; the copy in the GED is still there",
    "erasure.copies": "the copy in the GED is deleted; the extended metadata are still there",
    "erasure.metadata": "all is deleted; no receipt says so",
    "erasure.signed": "the receipt is signed; the document is still ERASING",
    "owed.marked": "lost events are marked to be published again; it is not committed, and no audit line says so",
    "reconcile.noted": "a repair is on record; it is not made",
    "reconcile.repaired": "a repair is made; the run has not ended",
    "restore.document": "one document is put right after a restore; others and the record of it are left",
    "restore.refilled": "some of the entries that the log lost are put back; others are left",
    "restore.described": "one document's extended metadata are made again; others are left",
    "restore.step": "a step of the repair is done; later steps and the record of it are left",
}

#: Name -> how many times it is still to be reached.
_armed: dict[str, int] = {}


def reach(name: str) -> None:
    """Say that the place ``name`` of ``POINTS`` is reached. Does not return if it is armed and its count is up."""
    if name in _armed:
        _strike(name)


def arm(point: str | None) -> None:
    """Die at ``point``: "name", or "name:N" for the N-th time it is reached; nothing disarms. None arms nothing.

    Raises ValueError for a name that is not registered, or a count that is none.
    """
    if point is None:
        return
    found = re.fullmatch(r"([a-z_.]+)(?::([1-9]\d{0,8}))?", point)
    if found is None or found[1] not in POINTS:
        raise ValueError(f"no such crash point: {point}")
    _armed[found[1]] = int(found[2] or 1)


def _strike(name: str) -> None:
    _armed[name] -= 1
    if _armed[name] == 0:
        sys.stderr.write(f'{{"event": "crash_point_reached", "point": "{name}", "level": "error"}}\n')
        sys.stderr.flush()
        os._exit(STATUS)
