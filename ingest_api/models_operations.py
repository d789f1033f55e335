"""What the API reads and writes about operators' acts: dead letters, plans, batches, pauses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from domain.batches import DEFAULT_ITEMS, MOST_ITEMS, STOP_AFTER, Act, BatchState
from domain.erasure import LegalBasis
from domain.orders import OrderedAct
from ingest_api.models import Canary, ClassName, Code, Input, Integer, ItemName, PlanHash, links_of

Outcome = Literal["done", "handled", "refused"]


class ActInput(Input):
    """Which act on what. `items` names things one by one; without it, what `consumer`, `code` and `error_class` select. `replay` takes
    what one `consumer` has not done of the records that were written from `since` to before `until`, or that are about `document`.

    A thing's name: a dead letter's `number`, `consumer/event id` of a held event, the id of an outbox row, `topic/partition/offset/event
    id` of a record, a step of a restore's repair. `force` sends letters that were redriven too often, or can't be decoded.
    """

    act: Act
    items: Annotated[list[ItemName], Field(max_length=MOST_ITEMS)] = Field(default_factory=list)
    consumer: Code | None = None
    code: Code | None = None
    error_class: ClassName | None = None
    document: UUID | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    force: bool = False
    limit: Integer = Field(default=DEFAULT_ITEMS, ge=1, le=MOST_ITEMS)


class ConfirmPlanInput(ActInput):
    """The request of the plan, its `plan_hash` as it was read, and a `reason`: a code or ticket, never a name.

    `canary`: so many items first, then the batch waits for somebody who looks. `stop_after`: so many equal failures stop it.
    `second_person`: another operator has to confirm it, too.
    """

    plan_hash: PlanHash
    reason: Code
    canary: Canary | None = None
    stop_after: Integer = Field(default=STOP_AFTER, ge=1, le=MOST_ITEMS)
    second_person: bool = False


class PauseInput(Input):
    """For how many `minutes` the consumer begins no event, a day at most; `reason`: a code or ticket."""

    consumer: Code
    minutes: Integer = Field(ge=1, le=24 * 60)
    reason: Code


class ResumeInput(Input):
    reason: Code


class DeadLetterGroupView(BaseModel):
    """Open letters of a consumer with one code and class of error. `new`: written since the time that was asked for."""

    consumer: str
    code: str
    error_class: str
    count: int
    new: int
    oldest: datetime
    newest: datetime


class DeadLetterGroups(BaseModel):
    items: list[DeadLetterGroupView]


class DeadLetterView(BaseModel):
    """A letter. `address`: its place in Kafka, as `dpj dlq` takes it; null while it is on its way there."""

    number: int
    consumer: str
    code: str
    error_class: str
    event_id: UUID
    document_id: UUID | None
    tenant: str | None
    origin: str
    address: str | None
    attempts: int
    replays: int
    made_at: datetime


class DeadLetterPage(BaseModel):
    """Oldest first; `next_cursor` is null on the last page."""

    items: list[DeadLetterView]
    next_cursor: str | None


class ForecastView(BaseModel):
    """So many items have this outcome in the dry run, for this reason: `note` in English, and its `code` if it has one."""

    outcome: Outcome
    note: str
    code: str | None
    count: int


class LeftOutView(BaseModel):
    """So many things that the request covers need no act, for this reason."""

    note: str
    code: str | None
    count: int


class PlanItemView(BaseModel):
    name: str
    forecast: Outcome
    note: str
    code: str | None


class PlanView(BaseModel):
    """What would be done now. `hash` covers all of it: who confirms names it. `more`: there are things beyond the limit. `left_out`: what
    a replay would only have dropped, such as events that the consumer has done."""

    hash: str
    act: Act
    more: bool
    forecast: list[ForecastView]
    left_out: list[LeftOutView]
    items: list[PlanItemView]


class BatchView(BaseModel):
    """A confirmed plan and how far it is.

    `state`: ORDERED waits for a second person, CANARY does the first items, LOOK waits for who looks at them, RUNNING does the rest,
    STOPPED can be continued, DONE has nothing left. `stopped`: `equal_failures`, `came_back` or `operator`. `by` and `second` are
    pseudonyms. `counts`: items by result; `waiting` are still to be done.
    """

    id: UUID
    act: Act
    plan_hash: str
    state: BatchState
    stopped: str | None
    by: str
    reason: str
    second: str | None
    canary: int | None
    stop_after: int
    counts: Mapping[str, int]
    created_at: datetime
    changed_at: datetime
    links: Annotated[Mapping[str, str], links_of("self", "items")]


class BatchList(BaseModel):
    """Newest first."""

    items: list[BatchView]


class BatchItemView(BaseModel):
    """`result`: done, handled, refused or failed; null while it is still to be done. `code`: of the
    note, as in plans. `came_back`: it was redriven, and its consumer gave
    it up again since."""

    rank: int
    name: str
    forecast: str
    result: str | None
    note: str
    code: str | None
    came_back: bool
    done_at: datetime | None


class BatchItemPage(BaseModel):
    """In the batch's order; `next_after` is null on the last page."""

    items: list[BatchItemView]
    next_after: int | None


class PauseView(BaseModel):
    """A consumer that begins no event before `until`, in whatever process it runs. `by` is a pseudonym."""

    consumer: str
    by: str
    reason: str
    since: datetime
    until: datetime


class PauseList(BaseModel):
    items: list[PauseView]


class OpenOrderView(BaseModel):
    """What one operator ordered and another has to confirm before `expires_at`: `document.erasure`, `key.retirement` or
    `personal_key.retirement`. `subject`: the document's id, the tenant, or the key's name. `own`: the caller gave it, may withdraw it, and
    can't confirm it. `ordered_by` and `confirmed_by` are pseudonyms; one that was confirmed and cut off is confirmed again, by anybody.

    An erasure has `reason`, `legal_basis`, and links to what confirms and withdraws it. Keys are retired by the commands `dpj keys retire`
    and `dpj personal retire`: they have no links; `below_version` says which versions of a tenant's key.
    """

    id: UUID
    act: OrderedAct
    subject: str
    tenant: str | None
    reason: str | None
    legal_basis: LegalBasis | None
    below_version: int | None
    own: bool
    ordered_by: str
    ordered_at: datetime
    expires_at: datetime
    confirmed_by: str | None
    confirmed_at: datetime | None
    links: Annotated[Mapping[str, str], links_of(perhaps=["document", "confirm", "withdraw"])]


class OrderPage(BaseModel):
    """Oldest first; `next_cursor` is null on the last page."""

    items: list[OpenOrderView]
    next_cursor: str | None
