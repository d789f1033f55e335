"""Consumers with their partitions and the documents at the head of them; and the topics that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from console.dependencies import ConsoleDependencies, Deps, Overseer, Visitor
from console.latest_overview import LatestOverview
from console.pages_now import line_of, saying
from console.rendering import Writer
from domain.consumers import CONSUMERS, readers
from domain.dead_letters import HeldEventStatus
from domain.errors import DatabaseUnavailable
from domain.shared.ids import uuid_or_none
from operations.overview.model import ConsumerOverview, Overview, PartitionOverview

router = APIRouter()

NOT_FOUND = 404
#: Held events that are looked through for those at the heads of partitions.
MOST_HELD = 10_000

#: By consumer, topic and partition.
FirstHeld = Mapping[tuple[str, str, int], HeldEventStatus]


@dataclass(frozen=True, slots=True)
class PartitionLine:
    """``head``: the document at its head, None where nothing waits or the record's key is no document's id. ``stalled``: seconds.
    ``held``: the event that its worker holds there, after its last try."""

    one: PartitionOverview
    head: UUID | None
    stalled: float | None
    held: HeldEventStatus | None


@dataclass(frozen=True, slots=True)
class ReaderLine:
    """A consumer of a topic: records that wait for it, and records a second that it finishes."""

    consumer: str
    lag: int | None
    rate: float | None


@dataclass(frozen=True, slots=True)
class TopicLine:
    """``end``: the sum of its partitions' end offsets. ``rate``: records a second that come in. None is unknown."""

    name: str
    partitions: int | None
    end: int | None
    rate: float | None
    readers: Sequence[ReaderLine]


@router.get("/consumers", name="consumers")
async def consumers(visitor: Overseer, deps: Deps) -> Response:
    """All of them."""
    return await _page(visitor, deps, CONSUMERS)


@router.get("/consumers/{name}", name="consumer")
async def consumer(name: str, visitor: Overseer, deps: Deps) -> Response:
    """One of them."""
    if name not in CONSUMERS:
        raise HTTPException(NOT_FOUND)
    return await _page(visitor, deps, (name,))


@router.get("/topics", name="topics")
async def topics(visitor: Overseer, deps: Deps) -> Response:
    """What comes into each topic and goes out of it."""
    overview = await deps.overview.get()
    return visitor.page("topics.html", o=overview, topics=topic_lines(overview, deps.overview))


async def _page(visitor: Visitor, deps: ConsoleDependencies, names: Sequence[str]) -> Response:
    overview = await deps.overview.get()
    held = await _held(deps)
    first = first_held(held or ())
    writer = Writer(visitor.texts, visitor.zone, overview.at)
    shown: list[dict[str, Any]] = [
        {"line": line_of(one, overview.at, visitor.texts, writer), "partitions": partition_lines(one, first)}
        for one in overview.consumers
        if one.consumer in names
    ]
    return visitor.page(
        "consumers.html",
        o=overview,
        shown=shown,
        single=len(names) == 1,
        say=saying(visitor.texts, writer),
        held_known=held is not None,
        runbook=deps.runbook,
    )


async def _held(deps: ConsoleDependencies) -> Sequence[HeldEventStatus] | None:
    """What workers hold, longest held first; None if nobody knows."""
    try:
        return await deps.held(MOST_HELD)
    except DatabaseUnavailable:
        return None


def first_held(held: Sequence[HeldEventStatus]) -> FirstHeld:
    """The first event of each partition that a worker holds."""
    found: dict[tuple[str, str, int], HeldEventStatus] = {}
    for status in sorted(held, key=lambda status: status.event.offset):
        found.setdefault((status.event.consumer, status.event.topic, status.event.partition), status)
    return found


def partition_lines(one: ConsumerOverview, held: FirstHeld) -> Sequence[PartitionLine] | None:
    """A consumer's partitions, those where something waits first; None if nobody knows them. ``held``: see ``first_held``."""
    if one.partitions is None:
        return None
    stalled = {(stall.topic, stall.partition): stall.seconds for stall in one.stalled or ()}
    lines = []
    for row in one.partitions:
        place = row.topic, row.partition
        lines.append(PartitionLine(row, uuid_or_none(row.head), stalled.get(place), held.get((one.consumer, *place))))
    return sorted(lines, key=lambda line: (-line.one.lag, line.one.topic, line.one.partition))


def topic_lines(overview: Overview, latest: LatestOverview) -> Sequence[TopicLine]:
    """Every topic that somebody reads."""
    by_name = {one.consumer: one for one in overview.consumers}
    lines = []
    for name, consumers_of in readers().items():
        ends = {
            row.partition: row.end
            for consumer_name in consumers_of
            for row in by_name[consumer_name].partitions or ()
            if row.topic == name
        }
        lines.append(
            TopicLine(
                name=name,
                partitions=len(ends) or None,
                end=sum(ends.values()) if ends else None,
                rate=latest.rate_in(name),
                readers=[_reader(by_name[reader], name, latest) for reader in consumers_of],
            )
        )
    return lines


def _reader(one: ConsumerOverview, topic: str, latest: LatestOverview) -> ReaderLine:
    lags = [row.lag for row in one.partitions or () if row.topic == topic]
    return ReaderLine(one.consumer, sum(lags) if lags else None, latest.rate_out(one.consumer, topic))
