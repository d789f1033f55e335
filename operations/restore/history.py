"""What was recorded of every document: the audit log's entries, as far as they are proved, and the audit lines that Kafka still has.

An entry counts that follows from the tenant's first one, and fits the signed checkpoints as far as there are any; behind a fault nothing of
the log is believed. Kafka's lines tell of what had no place in a log yet, or of a log that was restored with the database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from domain.audit_chain import ChainEntry, ChainFault, entry_of, genesis
from domain.restores import TOLD, DocumentHistory, RecordedAct
from operations.audit.checkpoints import NOTHING_SIGNED, SignedCheck, SignedHistory
from operations.audit.verify import AuditReader
from operations.external_sort import ExternalSort
from operations.restore.refill import ReadLines

#: Acts of one document that are kept: nobody extends a retention so often.
MOST_ACTS: Final = 1_000

_LAST: Final = 2**62
_ACTION: Final = re.compile(
    rb'"action":"(%s)"' % b"|".join(re.escape(action).encode() for action in sorted(TOLD, key=len, reverse=True))
)


@dataclass(frozen=True, slots=True)
class ReadLog:
    """A tenant's log as it was read: ``entries`` that hold, and the fault behind them, if there is one."""

    tenant: str
    entries: int
    fault: ChainFault | None


async def read_histories(
    sorting: ExternalSort,
    log: AuditReader,
    lines: ReadLines | None,
    signed: Mapping[str, SignedHistory],
    tenants: Sequence[str],
    on_entry: Callable[[int], None] = lambda _count: None,
) -> list[ReadLog]:
    """Put all acts into ``sorting``, for ``histories`` to give document by document. ``lines`` None: Kafka is not asked.

    Raises AuditStoreUnavailable, DatabaseUnavailable or BrokerUnavailable.
    """
    found = []
    count = 0

    def observe(entry: ChainEntry) -> None:
        nonlocal count
        count += 1
        if count % 1_000 == 0:
            on_entry(count)
        if _ACTION.search(entry.body):
            _add(sorting, entry.fields(), entry.seq)

    for tenant in tenants:
        check = SignedCheck(genesis(tenant), signed.get(tenant, NOTHING_SIGNED).checkpoints, observe)
        async with aclosing(log.entries(tenant, 0, _LAST)) as entries:
            async for stored in entries:
                if check.add(stored.entry, faithful=stored.faithful) is not None:
                    break
        found.append(ReadLog(tenant, check.head.seq, check.fault))
    if lines is not None:
        async with aclosing(lines()) as recorded:
            async for line in recorded:
                if line.action in TOLD:
                    _add(sorting, entry_of(line, genesis(line.tenant)).fields(), 0)
    on_entry(count)
    return found


def histories(sorting: ExternalSort) -> Iterator[DocumentHistory]:
    """One for each document, by tenant and id."""
    for key, told in groupby(sorting.items(), key=lambda item: item[0]):
        tenant, _, document_id = key.decode().rpartition(" ")
        acts: dict[UUID, RecordedAct] = {}
        for _, line in told:
            act = _act_of(json.loads(line))
            # The log's word comes before Kafka's for the same event.
            if len(acts) < MOST_ACTS and (act.event_id not in acts or act.seq):
                acts[act.event_id] = act
        ordered = sorted(acts.values(), key=lambda act: (act.at, act.sequence, act.seq))
        yield DocumentHistory(UUID(document_id), tenant, tuple(ordered))


_KEPT: Final = ("event_id", "event_sequence", "correlation_id", "action", "actor", "at", "details")


def _add(sorting: ExternalSort, fields: Mapping[str, Any], seq: int) -> None:
    if fields.get("entity_type") != "document":
        return
    try:
        document_id = UUID(str(fields.get("entity_id")))
        held = {"seq": seq, **{name: fields[name] for name in _KEPT}}
        _act_of(held)
    except (ValueError, KeyError, TypeError):
        return  # not a line of ours, whatever it is: dpj audit verify is who tells of it
    tenant = str(fields.get("tenant"))
    if not {"\t", "\n", " "} & set(tenant):
        sorting.add(f"{tenant} {document_id}", json.dumps(held).encode())


def _act_of(held: Mapping[str, Any]) -> RecordedAct:
    details = json.loads(held["details"])
    at = datetime.fromisoformat(held["at"])
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return RecordedAct(
        event_id=UUID(held["event_id"]),
        seq=int(held["seq"]),
        sequence=int(held["event_sequence"]),
        at=at,
        action=str(held["action"]),
        actor=str(held["actor"]),
        correlation_id=UUID(held["correlation_id"]),
        details=details if isinstance(details, dict) else {},
    )
