"""Documents: the search, and a document's page. Metadata only: no content, no name of a file or a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends
from starlette.responses import RedirectResponse, Response

from console.dependencies import ConsoleDependencies, Deps, SignedIn, Visitor, posted
from console.document_story import kind_of_story, steps_of, still_waiting, waits_of
from domain.documents import Document
from domain.errors import DatabaseUnavailable
from domain.lifecycle import Status
from domain.refusals import Forbidden
from domain.shared.ids import uuid_or_none
from processors.documents.pagination import Page

router = APIRouter()

SEE_OTHER: Final = 303
PAGE_ROWS: Final = 50
#: Ages that a search offers, in seconds.
AGES: Final[Mapping[str, int]] = {
    "1m": 60,
    "10m": 600,
    "1h": 3600,
    "1d": 86_400,
    "7d": 7 * 86_400,
    "30d": 30 * 86_400,
}
#: What an event can be held for (``waiting_for`` in ``domain.errors``).
DEPENDENCIES: Final = (
    "ged",
    "smtp",
    "object_store",
    "keyring",
    "personal_keys",
    "antivirus",
    "renderer",
    "mongodb",
    "schema_registry",
    "kafka",
    "postgresql",
    "restore",
    "other_worker",
    "retry",
)
#: What a person's documents are looked up by: names in the form, and in the search.
_PERSONAL: Final[Mapping[str, str]] = {"file_name": "file_name", "email": "depositor_email"}
MOST_SOUGHT: Final = 320
#: W3C Trace Context, section 3.2.2.3.
_TRACE: Final = re.compile(r"[0-9a-f]{32}")
_KINDS: Final[Mapping[Status, str]] = {
    Status.PENDING: "moving",
    Status.STORED: "moving",
    Status.VALIDATED: "moving",
    Status.ERASING: "moving",
    Status.VERIFIED: "good",
    Status.ARCHIVED: "good",
    Status.QUARANTINED: "watch",
    Status.ARCHIVE_FAILED: "act",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the search was asked for, as it was written."""

    id: str = ""
    dossier: str = ""
    status: str = ""
    type: str = ""
    failure: str = ""
    older: str = ""
    waits: str = ""
    trace: str = ""
    tenant: str = ""


def kind_of(status: Status) -> str:
    """The shape that stands for a document's state."""
    return _KINDS.get(status, "rest")


@router.get("/documents", name="documents")
async def documents(
    visitor: SignedIn,
    deps: Deps,
    id: str = "",  # noqa: A002 - the name in the address
    dossier: str = "",
    status: str = "",
    type: str = "",  # noqa: A002 - likewise
    failure: str = "",
    older: str = "",
    waits: str = "",
    trace: str = "",
    tenant: str = "",
    cursor: str | None = None,
) -> Response:
    """Search; an id leads to its document at once."""
    asked = Asked(
        id=id.strip(),
        dossier=dossier.strip(),
        status=status,
        type=type,
        failure=failure.strip(),
        older=older,
        waits=waits if waits in DEPENDENCIES else "",
        trace=trace.strip().lower(),
        tenant=tenant.strip(),
    )
    await deps.may_serve()
    one, of_dossier = uuid_or_none(asked.id), uuid_or_none(asked.dossier)
    if one is not None:
        return RedirectResponse(f"/documents/{one}", SEE_OTHER)
    problem = "id_invalid" if asked.id or (asked.dossier and of_dossier is None) else ""
    if asked.trace and _TRACE.fullmatch(asked.trace) is None:
        problem = "trace_invalid"
    page: Page[Document] = Page([], None)
    if not problem:
        page = await deps.reading.page(
            visitor.caller,
            dossier_id=of_dossier,
            status=Status(status) if status in Status.__members__ else None,
            type_code=asked.type or None,
            failure_code=asked.failure or None,
            before=datetime.now(UTC) - timedelta(seconds=AGES[older]) if older in AGES else None,
            tenant=asked.tenant or None,
            ids=await _named_elsewhere(deps, asked),
            found_by=" ".join(name for name in ("waits", "trace") if getattr(asked, name)),
            cursor=cursor,
            limit=PAGE_ROWS,
        )
    given = {name: value for name, value in asdict(asked).items() if value}
    following = f"/documents?{urlencode({**given, 'cursor': page.next_cursor})}" if page.next_cursor else ""
    return await _shown(visitor, deps, asked, page, following=following, problem=problem)


@router.get("/documents/by-person", name="documents_by_person_again")
async def documents_by_person_again() -> Response:
    """A search by a person has no address: the switch of the language leads here."""
    return RedirectResponse("/documents", SEE_OTHER)


@router.post("/documents/by-person", name="documents_by_person")
async def documents_by_person(
    visitor: SignedIn, deps: Deps, form: Annotated[Mapping[str, str], Depends(posted)]
) -> Response:
    """Documents of exactly that file name or depositor's address, in one tenant. What was looked for stands in no address, and is shown
    nowhere. Raises Forbidden, TenantInvalid, TenantNotYours, KeyringUnavailable."""
    if not visitor.is_operator:
        raise Forbidden("Auditors do not look for persons.")
    await deps.may_serve()
    by, text = form.get("by", ""), form.get("text", "").strip()
    page: Page[Document] = Page([], None)
    problem = "" if by in _PERSONAL and text and len(text) <= MOST_SOUGHT else "person_invalid"
    if not problem:
        tenant = form.get("tenant", "").strip()
        page = await deps.search.page(visitor.caller, tenant=tenant, limit=PAGE_ROWS, **{_PERSONAL[by]: text})
    return await _shown(visitor, deps, Asked(), page, problem=problem, by_person=True, status=422 if problem else 200)


async def _shown(
    visitor: Visitor,
    deps: ConsoleDependencies,
    asked: Asked,
    page: Page[Document],
    *,
    following: str = "",
    problem: str = "",
    by_person: bool = False,
    status: int = 200,
) -> Response:
    return visitor.page(
        "documents.html",
        status=status,
        asked=asked,
        page=page,
        next=following,
        more=by_person and page.next_cursor is not None,
        by_person=by_person,
        problem=problem,
        statuses=[one.value for one in Status],
        types=[rule.code for rule in await deps.document_types()],
        ages=list(AGES),
        dependencies=DEPENDENCIES,
        kind_of=kind_of,
    )


async def _named_elsewhere(deps: ConsoleDependencies, asked: Asked) -> tuple[UUID, ...] | None:
    """Documents that what is held, or a trace, names; None if it was not asked for."""
    found: list[set[UUID]] = []
    for value, look in ((asked.waits, deps.keys_waiting_for), (asked.trace, deps.keys_of_trace)):
        if value:
            found.append({one for key in await look(value) if (one := uuid_or_none(key)) is not None})
    return tuple(sorted(set.intersection(*found))) if found else None


@router.get("/documents/{document_id}", name="document")
async def document(document_id: UUID, visitor: SignedIn, deps: Deps) -> Response:
    """One document: where it is, why, since when, what comes next, and its whole way."""
    await deps.may_serve()
    details = await deps.inspection.details(visitor.caller, document_id)
    try:
        overview = await deps.overview.get()
        servers = {one.consumer: one.waits_for or () for one in overview.consumers}
        waits = waits_of(await deps.waits.of(document_id), datetime.now(UTC), servers)
    except DatabaseUnavailable:
        waits = None
    steps = steps_of(details.document, details.timeline, details.mails, visitor.texts)
    return visitor.page(
        "document.html",
        d=details.document,
        kind=kind_of(details.document.status),
        story_kind=kind_of_story(details.document, waits),
        waits=waits,
        steps=steps,
        still=still_waiting(details.document, steps, datetime.now(UTC)),
        until=details.retained_until,
        holds=details.holds,
        mails=details.mails,
        proof=details.proof,
        proof_state=details.proof.state.value,
        runbook=deps.runbook,
    )
