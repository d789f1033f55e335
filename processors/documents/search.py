"""Looking documents up by what is sealed in their rows: exact file name, depositor's e-mail address.

What is looked for is compared by keyed indexes (``processors.documents.personal_texts``), and every find is opened and compared again, so that an
index that was put into another row shows nothing. The audit log says that a search took place and by which fields, never for what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from domain.documents import Document
from domain.keys import check_tenant_name
from domain.personal_texts import PersonalField
from domain.refusals import MetadataInvalid, TenantNotYours
from processors.documents.callers import DOCUMENTS, Caller, Origins
from processors.documents.pagination import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    Page,
    Position,
    check_limit,
    decode_cursor,
    page_of,
)
from processors.documents.personal_texts import PersonalTexts
from processors.documents.reading import DocumentFilter, DocumentQueries
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import HasOutbox

ACTION: Final = "document.search"

SearchCriteria = Mapping[PersonalField, str]


class DocumentSearch:
    """Searches within one tenant; there is no index across tenants."""

    def __init__(
        self,
        database: Transactions[HasOutbox],
        queries: DocumentQueries,
        texts: PersonalTexts,
        personal: PersonalData,
        clock: Clock,
    ) -> None:
        self._database = database
        self._queries = queries
        self._texts = texts
        self._origins = Origins(personal, clock)

    async def page(
        self,
        caller: Caller,
        *,
        tenant: str | None = None,
        file_name: str | None = None,
        depositor_email: str | None = None,
        cursor: str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Page[Document]:
        """The documents of the caller's tenant, or of another ``tenant`` that he sees, that have all that is given, newest first. An empty
        text is none that a document has.

        Raises MetadataInvalid (nothing is given), TenantInvalid, TenantNotYours, CursorInvalid, ParameterInvalid, or KeyringUnavailable.
        """
        check_limit(limit)
        tenant = caller.tenant if tenant is None else _seen(caller, tenant)
        wanted = _wanted(file_name, depositor_email)
        after = decode_cursor(cursor)
        rows = await self._rows(tenant, wanted, after, limit + 1) if all(wanted.values()) else ()
        page = page_of(rows, limit, lambda row: (row.created_at, row.id))
        found = Page(self._exact_matches(page.items, wanted), page.next_cursor)
        await self._audit(self._origins.of(caller), tenant, wanted, len(found.items))
        return found

    async def all_of(
        self, tenant: str, origin: Origin, *, file_name: str | None = None, depositor_email: str | None = None
    ) -> Sequence[Document]:
        """All documents of a tenant that have what is given, newest first, for the operator that ``origin`` names.

        Raises MetadataInvalid, TenantInvalid, or KeyringUnavailable.
        """
        check_tenant_name(tenant)
        wanted = _wanted(file_name or None, depositor_email or None)
        found: list[Document] = []
        after: Position | None = None
        while rows := await self._rows(tenant, wanted, after, MAX_LIMIT):
            found += self._exact_matches(rows, wanted)
            after = (rows[-1].created_at, rows[-1].id)
        await self._audit(origin, tenant, wanted, len(found))
        return found

    async def _rows(
        self, tenant: str, wanted: SearchCriteria, after: Position | None, limit: int
    ) -> Sequence[Document]:
        filters = DocumentFilter(
            statuses=DOCUMENTS,
            indexes={field: self._texts.indexes(tenant, field, text) for field, text in wanted.items()},
        )
        return await self._queries.page(frozenset({tenant}), filters, after, limit)

    def _exact_matches(self, rows: Sequence[Document], wanted: SearchCriteria) -> Sequence[Document]:
        return [row for row in rows if all(self._texts.is_found_by(row, *one) for one in wanted.items())]

    async def _audit(self, origin: Origin, tenant: str, wanted: SearchCriteria, count: int) -> None:
        details = {"by": sorted(field.value for field in wanted), "count": count}
        line = audit_line(origin, tenant, "document", tenant, ACTION, details=details)
        async with self._database.transaction() as work:
            await work.outbox.add(line)


def _seen(caller: Caller, tenant: str) -> str:
    check_tenant_name(tenant)
    visible = caller.visible_tenants()
    if visible is not None and tenant not in visible:
        raise TenantNotYours("You are bound to other tenants.")
    return tenant


def _wanted(file_name: str | None, depositor_email: str | None) -> SearchCriteria:
    given = {PersonalField.FILE_NAME: file_name, PersonalField.EMAIL: depositor_email}
    wanted = {field: text for field, text in given.items() if text is not None}
    if not wanted:
        raise MetadataInvalid("Say what to look for: a file name, a depositor's e-mail address, or both.")
    return wanted
