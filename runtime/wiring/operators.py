"""What operators' acts are made of: plans, batches, pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from domain.batches import Act
from processors.operators.act_kinds import ActKind, Held, Letters, Lost, Refused
from processors.operators.batches import Batches, BatchRunner
from processors.operators.dead_letters import OperatorActions
from processors.operators.desk import OperatorDesk
from processors.operators.pauses import ConsumerPauses
from processors.operators.replay import Replay
from runtime.config.transport import kafka_security
from storage.postgres.batches import PostgresBatchQueries
from storage.postgres.delivery.inbox import PostgresInboxStates
from storage.postgres.pauses import PostgresPauseQueries

if TYPE_CHECKING:
    from datetime import datetime

    from domain.dead_letters import DeadLetter
    from processors.operators.replay import WindowRecord
    from processors.reconcile.owed_events import OwedReport
    from runtime.wiring.site import Site


def act_kinds(site: Site) -> Mapping[Act, ActKind]:
    """How each act finds and does its things."""
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

    letters, refused = Letters(site.letter_index(), read), Refused(site.refusals())
    return {
        Act.REDRIVE: letters,
        Act.DISCARD: letters,
        Act.GIVE_UP: Held(site.operations()),
        Act.RETRY_REFUSED: refused,
        Act.DROP_REFUSED: refused,
        Act.RE_EMIT: Lost(look),
        Act.REPLAY: Replay(site.read_progress, scan, read, PostgresInboxStates(site.postgres)),
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


def batch_runner(site: Site) -> BatchRunner:
    """Await ``codec.check`` before: acts are audited, and audit lines encoded."""
    queries = PostgresBatchQueries(site.postgres)
    return BatchRunner(site.database, queries, act_kinds(site), site.letter_index(), partial(_actions, site))


def consumer_pauses(site: Site) -> ConsumerPauses:
    """Await ``codec.check`` before: pauses are audited."""
    return ConsumerPauses(site.database, PostgresPauseQueries(site.postgres), site.clock)


def operator_desk(site: Site) -> OperatorDesk:
    """What the API and the console do for operators."""
    return OperatorDesk(batches(site), consumer_pauses(site), site.letter_index(), site.personal, site.clock)


def _actions(site: Site, actor: str) -> OperatorActions:
    return OperatorActions(site.database, site.codec, site.clock, actor)
