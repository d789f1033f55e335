"""What the API reads and writes about erasing and keeping documents."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel

from domain.erasure import LegalBasis
from domain.lifecycle import Status
from ingest_api.models import Code, Input, links_of


class EraseInput(Input):
    """``reason``: a code or ticket, never a name. Without ``legal_basis`` the retention must have ended."""

    reason: Code
    legal_basis: LegalBasis | None = None


class ExtendInput(Input):
    """``until``: later than the present end."""

    until: AwareDatetime
    reason: Code


class HoldInput(Input):
    """``reference`` names the hold among those of the document (a case or file number), ``reason`` is a code."""

    reference: Code
    reason: Code


class LiftInput(Input):
    reason: Code


class ConfirmInput(Input):
    """``order_id``: of the order that was read."""

    order_id: UUID


class WithdrawInput(Input):
    """``order_id``: of the order that the caller gave."""

    order_id: UUID


class OrderView(BaseModel):
    """An erasure that one operator has ordered and another has to confirm before ``expires_at``. ``ordered_by`` is a pseudonym."""

    id: UUID
    document_id: UUID
    reason: str
    legal_basis: LegalBasis | None
    ordered_by: str
    ordered_at: datetime
    expires_at: datetime


class ErasureView(BaseModel):
    """``status`` is ERASING until all is deleted, then ERASED. With an ``order`` nothing is erased yet: another operator has to confirm
    it."""

    document_id: UUID
    status: Status
    order: OrderView | None = None
    links: Annotated[Mapping[str, str], links_of("document", "receipt")]


class HoldView(BaseModel):
    """A legal hold; it stands while ``lifted_at`` is null. ``set_by`` and ``lifted_by`` are pseudonyms."""

    reference: str
    reason: str
    set_by: str
    set_at: datetime
    lifted_by: str | None
    lifted_at: datetime | None
    lifted_reason: str | None


class RetentionView(BaseModel):
    """Until when the document is kept, ``held`` while a legal hold stands; all holds, oldest first."""

    document_id: UUID
    status: Status
    until: datetime
    held: bool
    holds: list[HoldView]
