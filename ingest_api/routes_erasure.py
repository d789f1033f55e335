"""Routes of erasing documents and of keeping them longer."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from domain.orders import Order
from domain.refusals import LegalHoldNotFound
from domain.shared.jws import MEDIA_TYPE
from ingest_api import models_erasure as models
from ingest_api.body import read_json
from ingest_api.dependencies import AppState, Authorised, InjectedState
from ingest_api.openapi_annotations import RECEIPT, json_body, problems
from ingest_api.presenters import API, absolute
from ingest_api.responses import json_response
from processors.retention.erasure_request import ErasureRequested
from processors.retention.legal_holds import DocumentRetention

router = APIRouter(prefix=API)

Reference = Annotated[str, Path(max_length=64, description="The hold's reference")]


@router.post(
    "/documents/{document_id}/erase",
    name="erase_document",
    status_code=202,
    response_model=models.ErasureView,
    responses={200: {"model": models.ErasureView}, **problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503)},
    openapi_extra=json_body(models.EraseInput),
)
async def erase_document(request: Request, document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Erase a document. 202: nothing of it can be read any more, and what is stored of it is being deleted. 200: it was erased.

    Where it takes two persons, 202 has an `order`: nothing is erased before another operator confirms it. Refused under a legal hold,
    and before its retention ends unless a legal basis is stated. May be repeated.
    """
    body = await read_json(request, models.EraseInput, timeout=state.deps.body_timeout)
    asked = await state.deps.erasure_requests.request(caller, document_id, body.reason, body.legal_basis)
    return _erasure(state, asked)


@router.post(
    "/documents/{document_id}/erase/confirm",
    name="confirm_erasure",
    status_code=202,
    response_model=models.ErasureView,
    responses={200: {"model": models.ErasureView}, **problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503)},
    openapi_extra=json_body(models.ConfirmInput),
)
async def confirm_erasure(request: Request, document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Erase a document as another operator has ordered it. May be repeated.

    403 second_person_needed for who ordered it himself; 404 order_not_found once it has expired or another order stands in its place.
    """
    body = await read_json(request, models.ConfirmInput, timeout=state.deps.body_timeout)
    return _erasure(state, await state.deps.erasure_requests.confirm(caller, document_id, body.order_id))


@router.post(
    "/documents/{document_id}/erase/withdraw",
    name="withdraw_erasure",
    response_model=models.ErasureView,
    responses=problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503),
    openapi_extra=json_body(models.WithdrawInput),
)
async def withdraw_erasure(request: Request, document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Take back an order to erase that the caller gave and nobody has confirmed: the document stays as it is.

    403 order_not_yours for everybody else; 404 order_not_found once it was confirmed or withdrawn, has expired, or another order stands
    in its place.
    """
    body = await read_json(request, models.WithdrawInput, timeout=state.deps.body_timeout)
    document = await state.deps.erasure_requests.withdraw(caller, document_id, body.order_id)
    return _erasure(state, ErasureRequested(document, complete=True))


@router.get(
    "/documents/{document_id}/erasure-order",
    name="get_erasure_order",
    response_model=models.OrderView,
    responses=problems(401, 403, 404, 429, 503),
)
async def get_erasure_order(document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """The order to erase a document that waits for its second person."""
    return json_response(_order(document_id, await state.deps.erasure_requests.order(caller, document_id)))


@router.get(
    "/documents/{document_id}/erasure-receipt",
    name="get_erasure_receipt",
    response_class=Response,
    responses={**RECEIPT, **problems(401, 403, 404, 429, 503)},
)
async def get_erasure_receipt(document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """The signed receipt of a complete erasure, a compact JWS (EdDSA): what was destroyed, what remains, why and until when.

    It is verified without us: verifier/dpj_verify.py.
    """
    receipt = await state.deps.erasure_requests.receipt(caller, document_id)
    return Response(receipt.text, headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)


@router.get(
    "/documents/{document_id}/retention",
    name="get_retention",
    response_model=models.RetentionView,
    responses=problems(401, 403, 404, 429, 503),
)
async def get_retention(document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Until when a document is kept, and its legal holds."""
    return _kept(await state.deps.retention.read(caller, document_id))


@router.post(
    "/documents/{document_id}/retention",
    name="extend_retention",
    response_model=models.RetentionView,
    responses=problems(400, 401, 403, 404, 408, 409, 410, 415, 422, 429, 503),
    openapi_extra=json_body(models.ExtendInput),
)
async def extend_retention(request: Request, document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Keep a document longer. A retention is never made shorter."""
    body = await read_json(request, models.ExtendInput, timeout=state.deps.body_timeout)
    return _kept(await state.deps.retention.extend(caller, document_id, body.until, body.reason))


@router.post(
    "/documents/{document_id}/legal-holds",
    name="set_legal_hold",
    response_model=models.RetentionView,
    responses=problems(400, 401, 403, 404, 408, 409, 410, 415, 422, 429, 503),
    openapi_extra=json_body(models.HoldInput),
)
async def set_legal_hold(request: Request, document_id: UUID, caller: Authorised, state: InjectedState) -> Response:
    """Set a legal hold: while one stands the document is not erased, whatever the legal basis."""
    body = await read_json(request, models.HoldInput, timeout=state.deps.body_timeout)
    return _kept(await state.deps.retention.set_hold(caller, document_id, body.reference, body.reason))


@router.post(
    "/documents/{document_id}/legal-holds/{reference}/lift",
    name="lift_legal_hold",
    response_model=models.RetentionView,
    responses=problems(400, 401, 403, 404, 408, 409, 410, 415, 422, 429, 503),
    openapi_extra=json_body(models.LiftInput),
)
async def lift_legal_hold(
    request: Request, document_id: UUID, reference: Reference, caller: Authorised, state: InjectedState
) -> Response:
    """Lift one legal hold; others stay."""
    body = await read_json(request, models.LiftInput, timeout=state.deps.body_timeout)
    if "\0" in reference:
        raise LegalHoldNotFound
    return _kept(await state.deps.retention.lift_hold(caller, document_id, reference, body.reason))


def _erasure(state: AppState, asked: ErasureRequested) -> Response:
    document_id = asked.document.id
    me = f"{API}/documents/{document_id}"
    view = models.ErasureView(
        document_id=document_id,
        status=asked.document.status,
        order=asked.order and _order(document_id, asked.order),
        links=absolute({"document": me, "receipt": f"{me}/erasure-receipt"}, state.deps.public_url),
    )
    return json_response(view, 200 if asked.complete else 202)


def _order(document_id: UUID, order: Order) -> models.OrderView:
    return models.OrderView(
        id=order.id,
        document_id=document_id,
        reason=order.parameters["reason"],
        legal_basis=order.parameters["legal_basis"],
        ordered_by=order.ordered_by,
        ordered_at=order.ordered_at,
        expires_at=order.expires_at,
    )


def _kept(retention: DocumentRetention) -> Response:
    return json_response(
        models.RetentionView(
            document_id=retention.document.id,
            status=retention.document.status,
            until=retention.until,
            held=any(hold.lifted_at is None for hold in retention.holds),
            holds=[
                models.HoldView(
                    reference=hold.reference,
                    reason=hold.reason,
                    set_by=hold.set_by,
                    set_at=hold.set_at,
                    lifted_by=hold.lifted_by,
                    lifted_at=hold.lifted_at,
                    lifted_reason=hold.lifted_reason,
                )
                for hold in retention.holds
            ],
        )
    )
