"""What operators' acts are made of: plans, batches, pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from domain.batches import Act
from processors.documents.second_person import SecondPerson
from processors.operators.act_kinds import ActKind, Held, Letters, Lost, Refused
from processors.operators.batches import Batches, BatchRunner
from processors.operators.dead_letters import OperatorActions
from processors.operators.desk import OperatorDesk
from processors.operators.document_types import DocumentTypeOptions
from processors.operators.pauses import ConsumerPauses
from processors.operators.replay import Replay
from processors.operators.restore_steps import RepairStep, RestoreFindings, RestoreLooks, RestoreRepairs
from processors.retention.erasure_request import ErasureRequests
from runtime.config.transport import kafka_security
from storage.postgres.batches import PostgresBatchQueries
from storage.postgres.delivery.inbox import PostgresInboxStates
from storage.postgres.orders import PostgresOrderQueries
from storage.postgres.pauses import PostgresPauseQueries

if TYPE_CHECKING:
    from datetime import datetime

    from domain.dead_letters import DeadLetter
    from processors.operators.replay import WindowRecord
    from processors.reconcile.owed_events import OwedReport
    from runtime.wiring.site import Site


async def _elsewhere(step: str, actor: str, reason: str) -> tuple[int, int]:
    """Only the relay repairs: it has what that takes."""
    raise NotImplementedError(step, actor, reason)


def act_kinds(site: Site, repair: RepairStep = _elsewhere) -> Mapping[Act, ActKind]:
    """How each act finds and does its things. ``repair``: does a step of a restore's repair."""
    settings = site.settings

    async def read(topic: str, places: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], DeadLetter]:
        from operations.kafka.dead_letters import read_dead_letters_at

        at = partial(read_dead_letters_at, settings.kafka_bootstrap, security=kafka_security(settings))
        return await asyncio.to_thread(at, topic, places)

    async def look() -> OwedReport:
        return await site.owed_events().look(after_seconds=settings.events_lost_after)

    async def scan(
        topics: Sequence[str], since: datetime | None, until: datetime | None, key: str | None
    ) -> Sequence[WindowRecord]:
        from operations.kafka.replay_window import scan_window

        at = partial(scan_window, settings.kafka_bootstrap, security=kafka_security(settings))
        return await asyncio.to_thread(at, topics, since, until, key)

    async def look_at_restore() -> RestoreFindings:
        from runtime.wiring.restore_look import restore_findings

        return await restore_findings(site)

    queries = PostgresBatchQueries(site.postgres)
    letters, refused = Letters(site.letter_index(), read), Refused(site.refusals())
    return {
        Act.REDRIVE: letters,
        Act.DISCARD: letters,
        Act.GIVE_UP: Held(site.operations()),
        Act.RETRY_REFUSED: refused,
        Act.DROP_REFUSED: refused,
        Act.RE_EMIT: Lost(look),
        Act.REPLAY: Replay(site.read_progress, scan, read, PostgresInboxStates(site.postgres)),
        Act.CHECK_RESTORE: RestoreLooks(look_at_restore, site.database),
        Act.REPAIR_RESTORE: RestoreRepairs(queries, repair, site.database, site.clock),
    }


def batches(site: Site) -> Batches:
    """Await ``codec.check`` before: acts are audited, and audit lines encoded."""
    return Batches(
        site.database,
        PostgresBatchQueries(site.postgres),
        act_kinds(site),
        site.letter_index(),
        partial(_actions, site),
        site.clock,
        second_person=site.settings.operations_second_person,
        order_hours=site.settings.order_hours,
    )


def batch_runner(site: Site, repair: RepairStep) -> BatchRunner:
    """``repair``: see ``act_kinds``. Await ``codec.check`` before: acts are audited, and audit lines encoded."""
    queries = PostgresBatchQueries(site.postgres)
    return BatchRunner(site.database, queries, act_kinds(site, repair), site.letter_index(), partial(_actions, site))


def consumer_pauses(site: Site) -> ConsumerPauses:
    """Await ``codec.check`` before: pauses are audited."""
    return ConsumerPauses(site.database, PostgresPauseQueries(site.postgres), site.clock)


def document_type_options(site: Site) -> DocumentTypeOptions:
    """Await ``codec.check`` before: changes are audited."""
    return DocumentTypeOptions(site.database, site.clock)


def operator_desk(site: Site) -> OperatorDesk:
    """What the API and the console do for operators."""
    return OperatorDesk(
        batches(site),
        consumer_pauses(site),
        site.letter_index(),
        PostgresOrderQueries(site.postgres),
        site.personal,
        site.clock,
    )


def erasure_requests(site: Site) -> ErasureRequests:
    """What the API and the console do about erasures that operators ask for."""
    second = SecondPerson(required=site.settings.erasure_second_person, hours=site.settings.order_hours)
    return ErasureRequests(site.database, site.personal, site.clock, second, site.restore_guard.recheck)


def _actions(site: Site, actor: str) -> OperatorActions:
    return OperatorActions(site.database, site.codec, site.clock, actor)
