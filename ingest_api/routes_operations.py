"""Routes of operators' acts: dead letters, plans and their batches, pauses of consumers."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BeforeValidator
from starlette.responses import Response

from domain.act_notes import note_code
from domain.audit_chain import SYSTEM_TENANT
from domain.batches import MOST_ITEMS, ActRequest, Batch
from domain.dead_letter_index import IndexedLetter
from domain.orders import OrderedAct
from domain.pauses import Pause
from ingest_api import models_operations as models
from ingest_api.body import read_json
from ingest_api.dependencies import AppState, Authorised, InjectedState
from ingest_api.idempotency_header import given_idempotency_key
from ingest_api.models import ClassName, Code
from ingest_api.openapi_annotations import IDEMPOTENT, json_body, problems
from ingest_api.presenters import API, absolute
from ingest_api.responses import json_response
from processors.documents.idempotency_keys import check_idempotency_key
from processors.operators.batches import Confirmation
from processors.operators.desk import OpenOrder

_ME: Final = f"{API}/operations"
router = APIRouter(prefix=_ME)

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", re.ASCII)


def _dated(value: object) -> object:
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("the value must be a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z")
    return value


Consumer = Annotated[Code, Query()]
Limit = Annotated[int, Query(ge=1, le=200)]
BatchId = Annotated[UUID, Path(description="The batch's id")]
Name = Annotated[str, Path(max_length=64, description="The consumer")]
#: A number is no time, though the parser takes it for seconds.
Since = Annotated[
    AwareDatetime | None, BeforeValidator(_dated), Query(description="Letters written since count as new")
]
LetterCursor = Annotated[str | None, Query(max_length=128, description="next_cursor of the page before")]
After = Annotated[int, Query(ge=0, le=MOST_ITEMS, description="next_after of the page before")]


# --- dead letters ------------------------------------------------------------------------------------------------------


@router.get(
    "/dead-letters",
    name="list_dead_letter_groups",
    response_model=models.DeadLetterGroups,
    responses=problems(400, 401, 403, 429, 503),
)
async def list_dead_letter_groups(caller: Authorised, state: InjectedState, since: Since = None) -> Response:
    """Open dead letters, grouped by consumer, code and class of error."""
    groups = await state.deps.operator_desk.groups(caller, since)
    return json_response(
        models.DeadLetterGroups(
            items=[
                models.DeadLetterGroupView(
                    consumer=group.consumer,
                    code=group.code,
                    error_class=group.error_class,
                    count=group.count,
                    new=group.new,
                    oldest=group.oldest,
                    newest=group.newest,
                )
                for group in groups
            ]
        )
    )


@router.get(
    "/dead-letters/group",
    name="list_dead_letters",
    response_model=models.DeadLetterPage,
    responses=problems(400, 401, 403, 429, 503),
)
async def list_dead_letters(
    caller: Authorised,
    state: InjectedState,
    consumer: Consumer,
    code: Consumer,
    error_class: Annotated[ClassName, Query()],
    cursor: LetterCursor = None,
    limit: Limit = 50,
) -> Response:
    """The open dead letters of one group, oldest first."""
    page = await state.deps.operator_desk.letters(caller, consumer, code, error_class, cursor=cursor, limit=limit)
    return json_response(
        models.DeadLetterPage(items=[_letter(one) for one in page.items], next_cursor=page.next_cursor)
    )


# --- plans and batches -------------------------------------------------------------------------------------------------


@router.post(
    "/plans",
    name="plan_act",
    response_model=models.PlanView,
    responses=problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503),
    openapi_extra=json_body(models.ActInput),
)
async def plan_act(request: Request, caller: Authorised, state: InjectedState) -> Response:
    """What an act would do now, from a dry run of each item. Nothing is changed."""
    body = await read_json(request, models.ActInput, timeout=state.deps.body_timeout)
    plan = await state.deps.operator_desk.plan(caller, _request(body))
    return json_response(
        models.PlanView(
            hash=plan.hash,
            act=plan.request.act,
            more=plan.more,
            forecast=[
                models.ForecastView.model_validate(
                    {"outcome": outcome, "note": note, "code": note_code(note), "count": count}
                )
                for outcome, note, count in plan.notes
            ],
            left_out=[
                models.LeftOutView(note=note, code=note_code(note), count=count)
                for note, count in plan.left_out.items()
            ],
            items=[
                models.PlanItemView.model_validate(
                    {
                        "name": item.name,
                        "forecast": item.forecast.outcome,
                        "note": item.forecast.note,
                        "code": note_code(item.forecast.note),
                    }
                )
                for item in plan.items
            ],
        )
    )


@router.post(
    "/batches",
    name="confirm_plan",
    status_code=201,
    response_model=models.BatchView,
    responses=problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503),
    openapi_extra=json_body(models.ConfirmPlanInput) | IDEMPOTENT,
)
async def confirm_plan(request: Request, caller: Authorised, state: InjectedState) -> Response:
    """Have a plan carried out, if it is still the one that was read (409 `plan_changed`). The relay does it, item by item.

    With an Idempotency-Key the same request makes one batch.
    """
    key = given_idempotency_key(request.headers)
    if key is not None:
        check_idempotency_key(key)
    body = await read_json(request, models.ConfirmPlanInput, timeout=state.deps.body_timeout)
    confirmation = Confirmation(
        plan_hash=body.plan_hash,
        reason=body.reason,
        canary=body.canary,
        stop_after=body.stop_after,
        second_person=body.second_person,
    )
    batch = await state.deps.operator_desk.confirm(caller, _request(body), confirmation, key)
    view = _batch(state, batch)
    return json_response(view, 201, {"Location": view.links["self"]})


@router.get("/batches", name="list_batches", response_model=models.BatchList, responses=problems(401, 403, 429, 503))
async def list_batches(caller: Authorised, state: InjectedState, limit: Limit = 50) -> Response:
    """The newest batches."""
    batches = await state.deps.operator_desk.batches(caller, limit)
    return json_response(models.BatchList(items=[_batch(state, one) for one in batches]))


@router.get(
    "/batches/{batch_id}",
    name="get_batch",
    response_model=models.BatchView,
    responses=problems(401, 403, 404, 429, 503),
)
async def get_batch(batch_id: BatchId, caller: Authorised, state: InjectedState) -> Response:
    """How far a batch is."""
    return json_response(_batch(state, await state.deps.operator_desk.batch(caller, batch_id)))


@router.get(
    "/batches/{batch_id}/items",
    name="list_batch_items",
    response_model=models.BatchItemPage,
    responses=problems(401, 403, 404, 429, 503),
)
async def list_batch_items(
    batch_id: BatchId, caller: Authorised, state: InjectedState, after: After = 0, limit: Limit = 100
) -> Response:
    """What became of each item, and which redriven letters came back."""
    items = await state.deps.operator_desk.items(caller, batch_id, after=after, limit=limit)
    return json_response(
        models.BatchItemPage(
            items=[
                models.BatchItemView(
                    rank=item.rank,
                    name=item.name,
                    forecast=item.forecast,
                    result=item.result,
                    note=item.note,
                    code=note_code(item.note),
                    came_back=item.came_back,
                    done_at=item.done_at,
                )
                for item in items
            ],
            next_after=items[-1].rank if len(items) == limit else None,
        )
    )


@router.post(
    "/batches/{batch_id}/continue",
    name="continue_batch",
    response_model=models.BatchView,
    responses=problems(401, 403, 404, 409, 429, 503),
)
async def continue_batch(batch_id: BatchId, caller: Authorised, state: InjectedState) -> Response:
    """Have the rest done, after a look at the canary or after a stop."""
    return json_response(_batch(state, await state.deps.operator_desk.go_on(caller, batch_id)))


@router.post(
    "/batches/{batch_id}/stop",
    name="stop_batch",
    response_model=models.BatchView,
    responses=problems(401, 403, 404, 409, 429, 503),
)
async def stop_batch(batch_id: BatchId, caller: Authorised, state: InjectedState) -> Response:
    """Begin no further item. What is done stays done."""
    return json_response(_batch(state, await state.deps.operator_desk.stop(caller, batch_id)))


@router.post(
    "/batches/{batch_id}/confirm",
    name="confirm_batch",
    response_model=models.BatchView,
    responses=problems(401, 403, 404, 409, 429, 503),
)
async def confirm_batch(batch_id: BatchId, caller: Authorised, state: InjectedState) -> Response:
    """Confirm, as the second person, what another operator has ordered. 403 second_person_needed for who ordered it himself."""
    return json_response(_batch(state, await state.deps.operator_desk.second(caller, batch_id)))


# --- orders ------------------------------------------------------------------------------------------------------------


@router.get("/orders", name="list_orders", response_model=models.OrderPage, responses=problems(400, 401, 403, 429, 503))
async def list_orders(
    caller: Authorised, state: InjectedState, cursor: LetterCursor = None, limit: Limit = 50
) -> Response:
    """What waits for a second person, oldest first: erasures and retirements of keys. Batches that wait for one are `ORDERED` in the list
    of batches."""
    page = await state.deps.operator_desk.orders(caller, cursor, limit)
    return json_response(
        models.OrderPage(items=[_order(state, one) for one in page.items], next_cursor=page.next_cursor)
    )


# --- pauses ------------------------------------------------------------------------------------------------------------


@router.get("/pauses", name="list_pauses", response_model=models.PauseList, responses=problems(401, 403, 429, 503))
async def list_pauses(caller: Authorised, state: InjectedState) -> Response:
    """Consumers that are paused now."""
    pauses = await state.deps.operator_desk.pauses(caller)
    return json_response(models.PauseList(items=[_pause(one) for one in pauses]))


@router.post(
    "/pauses",
    name="pause_consumer",
    status_code=201,
    response_model=models.PauseView,
    responses=problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503),
    openapi_extra=json_body(models.PauseInput),
)
async def pause_consumer(request: Request, caller: Authorised, state: InjectedState) -> Response:
    """Have a consumer begin no event for a while, in whatever process it runs. Repeated by the same operator for the same reason, it is
    the same pause; 409 while another one stands."""
    body = await read_json(request, models.PauseInput, timeout=state.deps.body_timeout)
    pause = await state.deps.operator_desk.pause(caller, body.consumer, body.minutes, body.reason)
    return json_response(_pause(pause), 201)


@router.post(
    "/pauses/{consumer}/resume",
    name="resume_consumer",
    response_model=models.PauseView,
    responses=problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503),
    openapi_extra=json_body(models.ResumeInput),
)
async def resume_consumer(request: Request, consumer: Name, caller: Authorised, state: InjectedState) -> Response:
    """End a pause before its time."""
    body = await read_json(request, models.ResumeInput, timeout=state.deps.body_timeout)
    return json_response(_pause(await state.deps.operator_desk.resume(caller, consumer, body.reason)))


# --- forms -------------------------------------------------------------------------------------------------------------


def _request(body: models.ActInput) -> ActRequest:
    return ActRequest(
        act=body.act,
        items=tuple(body.items),
        consumer=body.consumer,
        code=body.code,
        error_class=body.error_class,
        document=body.document,
        since=body.since,
        until=body.until,
        force=body.force,
        limit=body.limit,
    )


def _letter(letter: IndexedLetter) -> models.DeadLetterView:
    entry = letter.entry
    return models.DeadLetterView(
        number=letter.number,
        consumer=entry.consumer,
        code=entry.code,
        error_class=entry.error_class,
        event_id=entry.event_id,
        document_id=entry.document_id,
        tenant=entry.tenant,
        origin=f"{entry.origin_topic}/{entry.origin_partition}/{entry.origin_offset}",
        address=letter.address,
        attempts=entry.attempts,
        replays=entry.replays,
        made_at=letter.made_at,
    )


def _batch(state: AppState, batch: Batch) -> models.BatchView:
    me = f"{_ME}/batches/{batch.id}"
    created: datetime | None = batch.created_at
    if created is None or batch.changed_at is None:
        raise TypeError("the batch was not read from its row")
    return models.BatchView(
        id=batch.id,
        act=batch.request.act,
        plan_hash=batch.plan_hash,
        state=batch.state,
        stopped=batch.stopped,
        by=batch.actor,
        reason=batch.reason,
        second=batch.second,
        canary=batch.canary,
        stop_after=batch.stop_after,
        counts=batch.counts,
        created_at=created,
        changed_at=batch.changed_at,
        links=absolute({"self": me, "items": f"{me}/items"}, state.deps.public_url),
    )


def _order(state: AppState, found: OpenOrder) -> models.OpenOrderView:
    order, said = found.order, found.order.parameters
    links = {}
    if order.act is OrderedAct.ERASURE:
        document = f"{API}/documents/{order.subject}"
        links = {
            "document": document,
            "confirm": f"{document}/erase/confirm",
            "withdraw": f"{document}/erase/withdraw",
        }
    return models.OpenOrderView(
        id=order.id,
        act=order.act,
        subject=order.subject,
        tenant=None if order.tenant == SYSTEM_TENANT else order.tenant,
        reason=said.get("reason"),
        legal_basis=said.get("legal_basis"),
        below_version=said.get("below_version"),
        own=found.is_own,
        ordered_by=order.ordered_by,
        ordered_at=order.ordered_at,
        expires_at=order.expires_at,
        confirmed_by=order.confirmed_by,
        confirmed_at=order.confirmed_at,
        links=absolute(links, state.deps.public_url),
    )


def _pause(pause: Pause) -> models.PauseView:
    return models.PauseView(
        consumer=pause.consumer, by=pause.by, reason=pause.reason, since=pause.since, until=pause.until
    )
