"""Dossiers: the clients' files that documents belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID, uuid4

from domain.documents import Dossier, Step
from processors.documents.callers import Caller, Origins
from processors.documents.pagination import DEFAULT_LIMIT, Page, check_limit, decode_cursor, page_of
from processors.documents.transitions import Origin, audit_line
from processors.ports.clock import Clock
from processors.ports.database import Transactions
from processors.ports.personal_data import PersonalData
from processors.ports.work import HasDossiers, HasOutbox

OPEN: Final = "OPEN"
TO_DO: Final = "TO_DO"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStep:
    """A step of a new dossier; document lists hold type codes."""

    code: str
    name: str
    mandatory_documents: tuple[str, ...] = ()
    optional_documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDossier:
    """What a portal says of a dossier. ``client_id`` is the platform's id of the client, kept as given; steps in order."""

    number: str
    client_id: str
    journey_type: str
    priority: int = 0
    steps: Sequence[NewStep] = ()


class DossierWork(HasDossiers, HasOutbox, Protocol):
    """What the use cases of dossiers need of a transaction."""


class DossierFiles:
    """Dossiers of the caller's own tenant."""

    def __init__(self, database: Transactions[DossierWork], personal: PersonalData, clock: Clock) -> None:
        self._database = database
        self._origins = Origins(personal, clock)

    async def create(self, caller: Caller, new: NewDossier) -> Dossier:
        """Open a dossier. Raises DossierExists."""
        origin = self._origins.of(caller)
        steps = tuple(
            Step(
                id=uuid4(),
                code=step.code,
                name=step.name,
                position=position,
                status=TO_DO,
                mandatory_documents=step.mandatory_documents,
                optional_documents=step.optional_documents,
            )
            for position, step in enumerate(new.steps, start=1)
        )
        dossier = Dossier(
            id=uuid4(),
            tenant=caller.tenant,
            number=new.number,
            client_id=new.client_id,
            journey_type=new.journey_type,
            status=OPEN,
            current_step=steps[0].code if steps else None,
            priority=new.priority,
            created_at=origin.at,
            updated_at=origin.at,
            created_by=origin.actor,
            steps=steps,
        )
        async with self._database.transaction() as work:
            await work.dossiers.add(dossier)
            await _audit(work, origin, dossier.tenant, str(dossier.id), "dossier.created")
        return dossier

    async def get(self, caller: Caller, dossier_id: UUID) -> Dossier:
        """Raises DossierNotFound."""
        async with self._database.transaction() as work:
            dossier = await work.dossiers.get(caller.tenant, dossier_id)
            await _audit(work, self._origins.of(caller), dossier.tenant, str(dossier.id), "dossier.read")
        return dossier

    async def page(self, caller: Caller, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Dossier]:
        """Newest first. Raises CursorInvalid or ParameterInvalid."""
        check_limit(limit)
        after = decode_cursor(cursor)
        async with self._database.transaction() as work:
            rows = await work.dossiers.page(caller.tenant, after, limit + 1)
            await _audit(work, self._origins.of(caller), caller.tenant, caller.tenant, "dossier.list")
        return page_of(rows, limit, lambda row: (row.created_at, row.id))


async def _audit(work: HasOutbox, origin: Origin, tenant: str, entity: str, action: str) -> None:
    await work.outbox.add(audit_line(origin, tenant, "dossier", entity, action))
