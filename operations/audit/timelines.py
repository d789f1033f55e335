"""The audit log held against the documents' timelines: a state that a document came to, and no entry that says so.

A chain is intact though a line never reached it: links only hold what is there. The timeline is written in the transaction that owes
the line, so it says what must be there. More entries than states are no finding: after a restore of PostgreSQL the log knows more.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, Protocol

from domain.audit_chain import ChainEntry
from domain.lifecycle import Status
from operations.audit.checkpoints import AuditFinding
from operations.external_sort import ExternalSort

#: A line takes seconds from its transaction to its place. What is younger is not looked at; nor is what something still holds up.
GRACE: Final = timedelta(minutes=10)
#: States whose change leaves no line: an upload that came to nothing.
UNRECORDED: Final = frozenset({Status.PENDING, Status.ABANDONED})
RECORDED: Final = {f"document.{status.value.lower()}": status for status in Status if status not in UNRECORDED}
NAMED: Final = 3

_ACTION: Final = re.compile(rb'"action":"(document\.[a-z_]+)"')


class Timelines(Protocol):
    """What happened to documents, as the database has it. Raises DatabaseUnavailable."""

    async def settled_before(self, grace: timedelta) -> datetime:
        """Lines of what happened before then have had their time, and none of them waits anywhere."""
        ...

    def states(self, tenant: str, before: datetime) -> AsyncGenerator[tuple[str, str], None]:
        """(document id, state) of every change of a state before then."""
        ...


class TimelineCheck:
    """One tenant's. Give it every entry of the log by ``observe``, then ask for the ``finding``; ``before`` is
    ``Timelines.settled_before``, asked for before the first entry was read. A context manager: it keeps temporary files."""

    def __init__(self, tenant: str, timelines: Timelines, before: datetime, sorting: ExternalSort) -> None:
        self._tenant = tenant
        self._timelines = timelines
        self._before = before
        self._sorting = sorting

    def observe(self, entry: ChainEntry) -> None:
        if not _ACTION.search(entry.body):
            return  # most entries: it is cheaper to look than to parse
        fields = entry.fields()
        status = RECORDED.get(str(fields.get("action")))
        if fields.get("entity_type") == "document" and status is not None:
            self._add(str(fields.get("entity_id")), status.value, "entry")

    async def finding(self) -> AuditFinding | None:
        """ENTRY_MISSING, with how many and the first of them. Raises DatabaseUnavailable."""
        async with aclosing(self._timelines.states(self._tenant, self._before)) as states:
            async for document_id, state in states:
                self._add(document_id, state, "state")
        missing: list[str] = []
        count = 0
        for change, said in groupby(self._sorting, key=lambda line: line.rpartition(b" ")[0]):
            found = [line.rpartition(b" ")[2].strip() for line in said]
            lacking = found.count(b"state") - found.count(b"entry")
            if lacking > 0:
                count += lacking
                missing += [change.decode()] if len(missing) < NAMED else []
        if not count:
            return None
        more = f", and {count - len(missing)} more" if count > len(missing) else ""
        text = f"states that documents came to have no entry: {', '.join(missing)}{more}"
        return AuditFinding(self._tenant, "ENTRY_MISSING", 0, text)

    def _add(self, document_id: str, state: str, what: str) -> None:
        if "\t" not in document_id and "\n" not in document_id:
            change = f"{document_id} {state}"
            self._sorting.add(change, f"{change} {what}".encode())
