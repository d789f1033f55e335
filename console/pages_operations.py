"""Acts of operators: what waits for one, the plan that is shown first, the batch that carries it out, and pauses.

A plan is the answer to a form: it shows what would be done, and its own form confirms it by its hash. All of it works without a script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID, uuid5

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from console.acting import is_fresh, operators_only, sign_in_again
from console.dependencies import ConsoleDependencies, Deps, Form, Overseer, SignedIn, Visitor
from domain.batches import DEFAULT_ITEMS, DESTRUCTIVE, MOST_ITEMS, STOP_AFTER, UNDER_WAY, Act, ActRequest, BatchState
from domain.consumers import CONSUMERS
from domain.refusals import ParameterInvalid, PlanChanged, SignInAgain
from domain.shared.ids import uuid_or_none
from processors.operators.batches import Confirmation

router = APIRouter(prefix="/operations")

SEE_OTHER: Final = 303
NOT_FOUND: Final = 404
PAGE: Final = 50
ITEMS: Final = 200
MOST_LISTED: Final = 200
#: A code or ticket: no sentence, no name.
_REASON: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,128}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
#: Makes the id of a batch out of the form that confirmed it: sent twice, it makes one batch.
_FORMS: Final = UUID("6b1f0c52-7f0e-4d4c-9f0b-5a0f3c9a2d11")
#: States from which somebody may have the rest done, and those in which it can be stopped.
_GO_ON: Final = frozenset({BatchState.LOOK, BatchState.STOPPED})
_STOP: Final = frozenset({BatchState.ORDERED, BatchState.LOOK, *UNDER_WAY})


@router.get("", name="operations")
async def operations(visitor: SignedIn, deps: Deps) -> Response:
    """What waits for an operator, by kind."""
    desk, caller = deps.desk, visitor.caller
    of_all = caller.bound_to is None
    return visitor.page(
        "operations.html",
        groups=await desk.groups(caller),
        batches=await desk.batches(caller, PAGE),
        pauses=await desk.pauses(caller),
        held=[one for one in await deps.held(MOST_LISTED) if of_all or one.event.tenant in (caller.bound_to or ())],
        refused=await deps.refused(MOST_LISTED) if of_all else None,
        consumers=CONSUMERS,
        of_all=of_all,
    )


@router.get("/dead-letters", name="dead_letters")
async def dead_letters(
    visitor: SignedIn,
    deps: Deps,
    consumer: Annotated[str, Query(max_length=64)],
    code: Annotated[str, Query(max_length=64)],
    error_class: Annotated[str, Query(max_length=128)],
    cursor: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """The open letters of one group."""
    page = await deps.desk.letters(visitor.caller, consumer, code, error_class, cursor=cursor, limit=PAGE)
    group = {"consumer": consumer, "code": code, "error_class": error_class}
    same = [
        one
        for one in await deps.desk.groups(visitor.caller)
        if (one.consumer, one.code, one.error_class) == (consumer, code, error_class)
    ]
    return visitor.page(
        "dead_letters.html",
        group=group,
        count=sum(one.count for one in same),
        oldest=min((one.oldest for one in same), default=None),
        letters=page.items,
        next_cursor=page.next_cursor,
        runbook=deps.runbook,
    )


@router.get("/replay", name="replay")
async def replay(
    visitor: Overseer,
    document: Annotated[UUID | None, Query()] = None,
    consumer: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The form that chooses what one consumer is given again."""
    since = "" if document else f"{datetime.now(visitor.zone) - timedelta(hours=1):%Y-%m-%dT%H:%M}"
    return visitor.page(
        "replay.html",
        consumers=CONSUMERS,
        consumer=consumer,
        document=document or "",
        since=since,
        zone=datetime.now(visitor.zone).tzname() or "UTC",
    )


@router.post("/plan", name="plan")
async def plan(visitor: SignedIn, deps: Deps, form: Form) -> Response:
    """What an act would do now, with the form that confirms it."""
    operators_only(visitor)
    return await _planned(visitor, deps, _request(form, visitor.zone))


@router.get("/plan", name="plan_again")
async def plan_again(visitor: SignedIn, deps: Deps, request: Request) -> Response:
    """The same plan at an address, to come back to from a sign-in."""
    operators_only(visitor)
    return await _planned(visitor, deps, _request(request.query_params, visitor.zone))


@router.post("/confirm", name="confirm")
async def confirm(visitor: SignedIn, deps: Deps, form: Form) -> Response:
    """Have it done, if the plan is still the one that was shown; else the new plan is shown, with what is asked for again."""
    operators_only(visitor)
    request, reason = _request(form, visitor.zone), form.get("reason", "").strip()
    if request.act in DESTRUCTIVE and not is_fresh(visitor, deps):
        return await _planned(visitor, deps, request, problem="sign_in_again", status=403)
    plan_hash = form.get("hash", "")
    if _HASH.fullmatch(plan_hash) is None:
        raise ParameterInvalid("The form is none of ours.")
    if _REASON.fullmatch(reason) is None:
        return await _planned(visitor, deps, request, problem="reason", status=422)
    sent = form.get("form", "")
    batch_id = uuid5(_FORMS, f"{deps.desk.operator(visitor.caller).actor}/{sent}") if _NAME.fullmatch(sent) else None
    confirmation = Confirmation(
        plan_hash=plan_hash,
        reason=reason,
        canary=_number(form.get("canary", ""), 0, 100) or None,
        stop_after=_number(form.get("stop_after", ""), 1, MOST_ITEMS) or STOP_AFTER,
        second_person=form.get("second_person") == "on",
        key=batch_id,
    )
    try:
        batch = await deps.desk.confirm(visitor.caller, request, confirmation)
    except PlanChanged:
        return await _planned(visitor, deps, request, problem="changed", status=409)
    return RedirectResponse(f"/operations/batches/{batch.id}", SEE_OTHER)


@router.get("/batches/{batch_id}", name="batch")
async def batch(
    batch_id: UUID, visitor: SignedIn, deps: Deps, after: Annotated[int, Query(ge=0, le=MOST_ITEMS)] = 0
) -> Response:
    """How far a batch is, and what became of each item."""
    found = await deps.desk.batch(visitor.caller, batch_id)
    items = await deps.desk.items(visitor.caller, batch_id, after=after, limit=ITEMS)
    destructive = found.request.act in DESTRUCTIVE
    mine = found.actor == deps.desk.operator(visitor.caller).actor
    return visitor.page(
        "batch.html",
        batch=found,
        items=items,
        next_after=items[-1].rank if len(items) == ITEMS else None,
        total=sum(found.counts.values()),
        left=found.counts.get("waiting", 0),
        returned=sum(item.came_back for item in items),
        under_way=found.state in UNDER_WAY,
        may_go_on=found.state in _GO_ON and not (found.by_two and found.second is None),
        may_stop=found.state in _STOP,
        may_confirm=found.state is BatchState.ORDERED and not mine,
        sign_in_again=sign_in_again(f"/operations/batches/{batch_id}")
        if destructive and not is_fresh(visitor, deps)
        else "",
    )


@router.post("/batches/{batch_id}/{act}", name="move_batch")
async def move_batch(batch_id: UUID, act: str, visitor: SignedIn, deps: Deps, form: Form) -> Response:
    """Go on with a batch, stop it, or confirm it as the second person."""
    operators_only(visitor)
    moves = {"continue": deps.desk.go_on, "stop": deps.desk.stop, "confirm": deps.desk.second}
    if act not in moves or form.keys() - {"submit"}:
        raise HTTPException(NOT_FOUND)
    if act != "stop" and not is_fresh(visitor, deps):
        found = await deps.desk.batch(visitor.caller, batch_id)
        if found.request.act in DESTRUCTIVE:
            raise SignInAgain("Sign in again, then confirm.")
    await moves[act](visitor.caller, batch_id)
    return RedirectResponse(f"/operations/batches/{batch_id}", SEE_OTHER)


@router.post("/pauses", name="pause")
async def pause(visitor: SignedIn, deps: Deps, form: Form) -> Response:
    """Pause a consumer for some minutes, or end its pause. Raises ParameterInvalid, PauseRefused."""
    operators_only(visitor)
    consumer, reason = form.get("consumer", ""), form.get("reason", "").strip()
    if _REASON.fullmatch(reason) is None:
        raise ParameterInvalid("A reason is a code or a ticket.")
    if form.get("act") == "resume":
        await deps.desk.resume(visitor.caller, consumer, reason)
    else:
        minutes = _number(form.get("minutes", ""), 1, 24 * 60)
        if minutes is None:
            raise ParameterInvalid("A pause lasts 1 minute to 24 hours.")
        await deps.desk.pause(visitor.caller, consumer, minutes, reason)
    return RedirectResponse("/operations#pauses", SEE_OTHER)


async def _planned(
    visitor: Visitor, deps: ConsoleDependencies, request: ActRequest, *, problem: str = "", status: int = 200
) -> Response:
    planned = await deps.desk.plan(visitor.caller, request)
    fields = _fields(request)
    return visitor.page(
        "plan.html",
        status=status,
        plan=planned,
        fields=fields,
        problem=problem,
        sign_in_again=sign_in_again(f"/operations/plan?{urlencode(fields)}")
        if request.act in DESTRUCTIVE and not is_fresh(visitor, deps)
        else "",
        minutes=deps.step_up.total_seconds() / 60,
        stop_after=STOP_AFTER,
        form=planned.hash[:32] + visitor.caller.correlation_id.hex,
    )


def _request(form: Mapping[str, str], zone: tzinfo) -> ActRequest:
    """Raises ParameterInvalid."""
    acts = {act.value: act for act in Act}
    items = tuple(form.get("items", "").split())
    texts = {name: form.get(name) or None for name in ("consumer", "code", "error_class")}
    given = [*items, *(text for text in texts.values() if text is not None)]
    if form.get("act") not in acts or not all(map(_NAME.fullmatch, given)) or len(items) > MOST_ITEMS:
        raise ParameterInvalid("The form is none of ours.")
    return ActRequest(
        act=acts[form["act"]],
        items=items,
        consumer=texts["consumer"],
        code=texts["code"],
        error_class=texts["error_class"],
        document=_document(form.get("document", "").strip()),
        since=_moment(form.get("since", ""), zone),
        until=_moment(form.get("until", ""), zone),
        force=form.get("force") == "on",
        limit=_number(form.get("limit", ""), 1, MOST_ITEMS) or DEFAULT_ITEMS,
    )


def _fields(request: ActRequest) -> Mapping[str, str]:
    """The request as hidden fields of a form."""
    fields = {
        "act": request.act.value,
        "items": " ".join(request.items),
        "consumer": request.consumer or "",
        "code": request.code or "",
        "error_class": request.error_class or "",
        "document": str(request.document or ""),
        "since": request.since.isoformat() if request.since else "",
        "until": request.until.isoformat() if request.until else "",
        "force": "on" if request.force else "",
        "limit": str(request.limit),
    }
    return {name: value for name, value in fields.items() if value}


def _document(text: str) -> UUID | None:
    """Raises ParameterInvalid for what is no id."""
    found = uuid_or_none(text)
    if text and found is None:
        raise ParameterInvalid("A document has an id.")
    return found


def _moment(text: str, zone: tzinfo) -> datetime | None:
    """A time as a browser's field writes it, in the site's zone, or with a zone of its own. Raises ParameterInvalid."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ParameterInvalid("A time has a day, an hour and a minute.") from None
    return at.replace(tzinfo=zone) if at.tzinfo is None else at


def _number(text: str, least: int, most: int) -> int | None:
    """A whole number within bounds; None for any other text."""
    found = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
    return found if found is not None and least <= found <= most else None
