"""Routes of documents. What they may raise is answered by ``ingest_api.problems``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from domain.documents import Document
from domain.lifecycle import Status
from domain.renderings import THUMBNAIL_BOXES
from domain.shared.jws import MEDIA_TYPE
from ingest_api import models
from ingest_api.body import read_json
from ingest_api.content import HEADERS_ONLY, NOT_MODIFIED, content_response
from ingest_api.dependencies import AppState, Authorised, InjectedState
from ingest_api.file_names import searched_file_name
from ingest_api.middleware import HEAD_STATE
from ingest_api.openapi_annotations import RANGES, RAW_BODIES, RECEIPT, THUMBNAIL, json_body, problems
from ingest_api.presenters import API, JUST_STORED, absolute, document_body, document_view, event_view, type_view
from ingest_api.ranges import is_current
from ingest_api.responses import json_response, json_value_response
from ingest_api.streaming import ContentResponse
from ingest_api.uploads import read_upload
from processors.documents.pagination import DEFAULT_LIMIT, MAX_LIMIT, Page
from processors.documents.validation import Decided

router = APIRouter(prefix=API)

Cursor = Annotated[str | None, Query(max_length=128, description="next_cursor of the page before")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


def _box(text: str) -> int:
    """Read here, because what is no size at all is answered as a size that there is not."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


Box = Annotated[
    int,
    BeforeValidator(_box),
    Query(
        description="Pixels of the square that the thumbnail fits in", json_schema_extra={"enum": list(THUMBNAIL_BOXES)}
    ),
]


@router.post(
    "/documents",
    name="upload_document",
    status_code=201,
    response_model=models.DocumentView,
    responses=problems(400, 401, 403, 408, 409, 410, 413, 415, 422, 429, 503),
    openapi_extra=RAW_BODIES,
)
async def upload_document(request: Request, caller: Authorised, state: InjectedState) -> Response:
    """Deposit a document. 201 only once it is stored whole, encrypted, and its event is on record.

    With an Idempotency-Key the same request gives the same answer and stores nothing twice.
    """
    upload = await read_upload(request, timeout=state.deps.body_timeout)
    try:
        result = await state.deps.intake.receive(caller, upload, document_body)
    finally:
        if isinstance(upload.content, AsyncGenerator):
            await upload.content.aclose()
    # What an Idempotency-Key keeps has no address in it, which may change.
    links = absolute(result.body["links"], state.deps.public_url)
    headers = {"Location": links["self"]}
    if result.replayed:
        headers["Idempotent-Replayed"] = "true"
    else:
        state.metrics.uploaded(result.body["size"])
    body = {**result.body, "processing": JUST_STORED, "links": links}
    return json_value_response(body, result.status, headers)


@router.get(
    "/documents",
    name="list_documents",
    response_model=models.DocumentPage,
    responses=problems(400, 401, 403, 429, 503),
)
async def list_documents(
    caller: Authorised,
    state: InjectedState,
    dossier: UUID | None = None,
    status: Status | None = None,
    type_code: Annotated[str | None, Query(alias="type", max_length=64)] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Documents, newest first: the tenant's own, or those of all tenants for operators and auditors."""
    page = await state.deps.reading.page(
        caller, dossier_id=dossier, status=status, type_code=type_code, cursor=cursor, limit=limit
    )
    return await _page(state, page)


@router.post(
    "/document-search",
    name="search_documents",
    response_model=models.DocumentPage,
    responses=problems(400, 401, 403, 408, 415, 422, 429, 503),
    openapi_extra=json_body(models.SearchInput),
)
async def search_documents(request: Request, caller: Authorised, state: InjectedState) -> Response:
    """The tenant's documents of exactly that file name, depositor's address, or both; newest first. Case does not count.

    What is looked for stands in the body, because addresses of requests end up in the logs of whatever they pass.
    """
    body = await read_json(request, models.SearchInput, timeout=state.deps.body_timeout)
    page = await state.deps.search.page(
        caller,
        file_name=None if body.file_name is None else searched_file_name(body.file_name),
        depositor_email=body.depositor_email,
        cursor=body.cursor,
        limit=body.limit,
    )
    return await _page(state, page)


@router.get(
    "/documents/{document_id}",
    name="get_document",
    response_model=models.DocumentView,
    responses=problems(401, 403, 404, 429, 503),
)
async def get_document(document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """One document's metadata and state, and whether it goes on by itself."""
    document = await state.deps.reading.document(caller, document_id)
    return json_response(await _view(state, document))


@router.get(
    "/documents/{document_id}/content",
    name="get_document_content",
    response_class=Response,
    responses={**RANGES, **problems(401, 403, 404, 409, 410, 416, 429, 503)},
)
async def get_document_content(
    request: Request, document_id: UUID, caller: Authorised, state: InjectedState
) -> Response:
    """The document itself, decrypted as it is sent; one byte range may be asked for."""
    reading = state.deps.reading
    shown = state.deps.texts.shown(await reading.readable(caller, document_id))
    return await content_response(
        request,
        shown,
        lambda span: reading.read(caller, document_id, span),
        lambda outcome: reading.record_outcome(caller, document_id, outcome),
    )


@router.get(
    "/documents/{document_id}/thumbnail",
    name="get_document_thumbnail",
    response_class=Response,
    responses={**THUMBNAIL, **problems(400, 401, 403, 404, 409, 410, 422, 429, 503)},
)
async def get_document_thumbnail(
    request: Request, document_id: UUID, caller: Authorised, state: InjectedState, size: Box = 256
) -> Response:
    """A thumbnail; a 404 says whether one is still to come."""
    thumbnail = await state.deps.reading.thumbnail(caller, document_id, size)
    rendition = thumbnail.rendition
    etag = f'"{rendition.sha256}"'
    headers = {"ETag": etag}
    if is_current(request.headers, etag):
        await state.deps.reading.record_outcome(caller, document_id, NOT_MODIFIED, role=rendition.role)
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = rendition.mime_type
    if request.scope.get(HEAD_STATE):
        await state.deps.reading.record_outcome(caller, document_id, HEADERS_ONLY, role=rendition.role)
        return Response(headers={**headers, "Content-Length": str(rendition.size)})
    stream = await state.deps.reading.read_thumbnail(caller, thumbnail)
    return await ContentResponse.begin(stream, rendition.size, headers)


@router.get(
    "/documents/{document_id}/events",
    name="list_document_events",
    response_model=models.EventList,
    responses=problems(401, 403, 404, 429, 503),
)
async def list_document_events(document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """What has happened to a document, oldest first."""
    entries = await state.deps.reading.timeline(caller, document_id)
    return json_response(models.EventList(items=[event_view(entry) for entry in entries]))


@router.get(
    "/documents/{document_id}/receipt",
    name="get_document_receipt",
    response_class=Response,
    responses={**RECEIPT, **problems(401, 403, 404, 409, 410, 429, 503)},
)
async def get_document_receipt(document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """The signed receipt of an archived document: a compact JWS (EdDSA) with the proof that the audit log has its archiving.

    It is verified without us: verifier/dpj_verify.py. 409 receipt_pending with Retry-After while the proof is still to come.
    """
    receipt = await state.deps.receipts.receipt(caller, document_id)
    return Response(receipt, headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)


@router.post(
    "/documents/{document_id}/validate",
    name="validate_document",
    response_model=models.DocumentView,
    responses={202: {"model": models.DocumentView}, **problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503)},
    openapi_extra=json_body(models.ValidateInput, required=False),
)
async def validate_document(request: Request, document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Validate. 200: done. 202: on record, done as soon as the document is verified.

    403 depositor_may_not_decide for who deposited it, where duties are separated.
    """
    body = await read_json(request, models.ValidateInput, timeout=state.deps.body_timeout)
    return await _decided(state, await state.deps.validation.validate(caller, document_id, body.comment))


@router.post(
    "/documents/{document_id}/reject",
    name="reject_document",
    response_model=models.DocumentView,
    responses={202: {"model": models.DocumentView}, **problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503)},
    openapi_extra=json_body(models.RejectInput),
)
async def reject_document(request: Request, document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Reject, with a reason. 200: done. 202: on record, done as soon as the document is verified.

    403 depositor_may_not_decide for who deposited it, where duties are separated.
    """
    body = await read_json(request, models.RejectInput, timeout=state.deps.body_timeout)
    return await _decided(state, await state.deps.validation.reject(caller, document_id, body.reason))


@router.get(
    "/document-types",
    name="list_document_types",
    response_model=models.DocumentTypeList,
    responses=problems(401, 403, 429, 503),
)
async def list_document_types(caller: Authorised, state: InjectedState) -> Response:
    """What may be deposited, inactive types included."""
    rules = await state.deps.reading.types(caller)
    return json_response(models.DocumentTypeList(items=[type_view(rule) for rule in rules]))


async def _view(state: AppState, document: Document) -> models.DocumentView:
    (processing,) = await state.deps.reading.processing([document])
    return document_view(state.deps.texts.shown(document), processing, state.deps.public_url)


async def _page(state: AppState, page: Page[Document]) -> Response:
    processing = await state.deps.reading.processing(page.items)
    items = [
        document_view(state.deps.texts.shown(one), now, state.deps.public_url)
        for one, now in zip(page.items, processing, strict=True)
    ]
    return json_response(models.DocumentPage(items=items, next_cursor=page.next_cursor))


async def _decided(state: AppState, decided: Decided) -> Response:
    return json_response(await _view(state, decided.document), 202 if decided.pending else 200)
