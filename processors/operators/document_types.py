"""Options of a document type: what an operator may change about it, checked, put on record, and in force at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Protocol
from uuid import uuid4

from domain.audit_chain import SYSTEM_TENANT
from domain.documents import DocumentType
from domain.refusals import OperatorBound, ParameterInvalid
from processors.documents.media_types import recorded_name
from processors.documents.transitions import Origin, audit_line
from processors.operators.batches import Operator
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.documents import ChangeableTypes
from processors.ports.work import HasOutbox

MEGABYTE: Final = 1024 * 1024
#: A document is stored by one PUT, of which S3 takes 5 GiB at most.
MOST_MEGABYTES: Final = 5_000
MOST_YEARS: Final = 100
MOST_FORMATS: Final = 50
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeChange:
    """What is to become of a type; None: as it is. ``max_megabytes`` of 1024 * 1024 bytes. ``duties_separated`` and ``erased_by_two``:
    yes, no, or default (as the site's settings say). Retention in years."""

    formats: Collection[str] | None = None
    max_megabytes: int | None = None
    active: bool | None = None
    archived: bool | None = None
    retention_years: int | None = None
    duties_separated: str | None = None
    erased_by_two: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedType:
    """``changes``: before and after, by the name of the option; empty if the type is so already."""

    before: DocumentType
    after: DocumentType

    @property
    def changes(self) -> Mapping[str, tuple[object, object]]:
        before, after = options_of(self.before), options_of(self.after)
        return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


class TypeWork(HasOutbox, Protocol):
    """A type and the audit line that tells of its change, or neither."""

    @property
    def types(self) -> ChangeableTypes: ...


class _DryRun(Exception):
    """Rolls back a transaction that was only tried."""


class DocumentTypeOptions:
    """Raises DatabaseUnavailable."""

    def __init__(self, database: Transactions[TypeWork], clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def change(self, who: Operator, code: str, change: TypeChange, reason: str, *, apply: bool) -> ChangedType:
        """Change a type, or, without ``apply``, tell what would change. What is as asked for already is not changed, and not put on
        record.

        Uploads that began before keep to what they were told. Raises OperatorBound for who is bound to tenants: a type is all
        tenants'; TypeUnknown; ParameterInvalid.
        """
        if who.tenants is not None:
            raise OperatorBound("A document type is for all tenants, and you are bound to some.")
        wanted = _checked(change)
        try:
            async with self._database.transaction() as work:
                before = await work.types.lock(code)
                found = ChangedType(before, replace(before, **wanted))
                if found.changes:
                    await work.types.change(found.after)
                    await self._put_on_record(work, who, found, reason)
                if not apply:
                    raise _DryRun
        except _DryRun:
            pass
        return found

    async def _put_on_record(self, work: HasOutbox, who: Operator, found: ChangedType, reason: str) -> None:
        origin = Origin(actor=who.actor, at=self._clock.now(), correlation_id=uuid4())
        line = audit_line(
            origin,
            SYSTEM_TENANT,
            "document_type",
            found.after.code,
            "document_type.changed",
            details={"reason": reason},
            old_state={name: before for name, (before, _) in found.changes.items()},
            new_state={name: after for name, (_, after) in found.changes.items()},
        )
        await work.outbox.add(line)


def options_of(rule: DocumentType) -> dict[str, object]:
    """By the names that an operator knows them by, as JSON takes them."""
    return {
        "formats": sorted(rule.allowed_formats),
        "max_mb": rule.max_size_bytes // MEGABYTE,
        "active": rule.active,
        "archived": rule.archived,
        "retention_years": rule.retention_years,
        "separation_of_duties": rule.duties_separated,
        "erasure_by_two": rule.erased_by_two,
    }


_THREE: Final[Mapping[str, bool | None]] = {"yes": True, "no": False, "default": None}


def _checked(change: TypeChange) -> dict[str, Any]:
    """Fields of DocumentType. Raises ParameterInvalid."""
    if all(getattr(change, field.name) is None for field in fields(change)):
        raise ParameterInvalid("Nothing is to change: name an option.")
    wanted: dict[str, Any] = {}
    if change.formats is not None:
        wanted["allowed_formats"] = _checked_formats(change.formats)
    if change.max_megabytes is not None:
        wanted["max_size_bytes"] = _within(change.max_megabytes, MOST_MEGABYTES, "MB") * MEGABYTE
    if change.retention_years is not None:
        wanted["retention_years"] = _within(change.retention_years, MOST_YEARS, "years")
    wanted |= {name: said for name in ("active", "archived") if (said := getattr(change, name)) is not None}
    for name in ("duties_separated", "erased_by_two"):
        word = getattr(change, name)
        if word is not None and word not in _THREE:
            raise ParameterInvalid("Say yes, no or default.")
        wanted |= {} if word is None else {name: _THREE[word]}
    return wanted


def _within(number: int, most: int, unit: str) -> int:
    if not 1 <= number <= most:
        raise ParameterInvalid(f"It is 1 to {most} {unit}.")
    return number


def _checked_formats(formats: Collection[str]) -> frozenset[str]:
    if not 1 <= len(formats) <= MOST_FORMATS:
        raise ParameterInvalid(f"A type takes 1 to {MOST_FORMATS} formats; one that is to take none is made inactive.")
    for text in formats:
        if not _MEDIA_TYPE.fullmatch(text):
            raise ParameterInvalid("A format is a media type in small letters, as application/pdf or image/jpeg.")
    return frozenset(recorded_name(text) for text in formats)
