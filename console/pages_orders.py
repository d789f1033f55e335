"""Orders: what one operator ordered and another has to confirm. Erasures are confirmed and withdrawn here; keys are retired by commands."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from console.acting import is_fresh, operators_only, sign_in_again
from console.dependencies import Deps, Form, SignedIn
from console.pages_sign_in import SEE_OTHER
from domain.batches import BatchState
from domain.refusals import ParameterInvalid, SignInAgain
from domain.shared.ids import uuid_or_none

router = APIRouter(prefix="/orders")

NOT_FOUND: Final = 404
PAGE: Final = 50


@router.get("", name="orders")
async def orders(
    visitor: SignedIn, deps: Deps, cursor: Annotated[str | None, Query(max_length=128)] = None
) -> Response:
    """What waits for a second person, oldest first; batches on the first page."""
    page = await deps.desk.orders(visitor.caller, cursor, PAGE)
    me = deps.desk.operator(visitor.caller).actor
    batches = [] if cursor else await deps.desk.batches(visitor.caller, PAGE)
    return visitor.page(
        "orders.html",
        orders=page.items,
        next_cursor=page.next_cursor,
        batches=[one for one in batches if one.state is BatchState.ORDERED],
        me=me,
        sign_in_again="" if is_fresh(visitor, deps) else sign_in_again("/orders"),
    )


@router.post("/erasures/{act}", name="settle_erasure")
async def settle_erasure(act: str, visitor: SignedIn, deps: Deps, form: Form) -> Response:
    """Confirm an erasure as the second person, or withdraw the order that one gave.

    Raises Forbidden, SignInAgain, ParameterInvalid, or as ``ErasureRequests`` does.
    """
    operators_only(visitor)
    document, order = uuid_or_none(form.get("document", "")), uuid_or_none(form.get("order", ""))
    if document is None or order is None:
        raise ParameterInvalid("The form is none of ours.")
    if act == "confirm":
        if not is_fresh(visitor, deps):
            raise SignInAgain("Sign in again, then confirm.")
        await deps.erasing.confirm(visitor.caller, document, order)
    elif act == "withdraw":
        await deps.erasing.withdraw(visitor.caller, document, order)
    else:
        raise HTTPException(NOT_FOUND)
    return RedirectResponse("/orders", SEE_OTHER)
