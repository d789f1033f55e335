"""Now: how late the pipeline is, whether it gets better, what heads it, what it waits for, and what a person has to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastapi import APIRouter, Request
from markupsafe import Markup
from starlette.responses import Response, StreamingResponse

from console.charts import sparkline
from console.dependencies import (
    ConsoleDependencies,
    Deps,
    Overseer,
    SignInNeeded,
    Visitor,
    WatchingOverseer,
    watching_overseer,
)
from console.findings import ACT, Finding, of_consumer, of_orders, of_pipeline, worst
from console.languages import Texts
from console.rendering import Writer
from domain.errors import DatabaseUnavailable, DPJError
from domain.overview import Sample
from operations.overview.model import ConsumerOverview, Overview

router = APIRouter()

#: Between two refreshes of a page that is looked at.
REFRESH_SECONDS: Final = 10.0
#: A stream ends by itself after so long; the browser asks anew.
STREAM_SECONDS: Final = 600.0
HOUR_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class ConsumerLine:
    """A consumer with what is to be said of it, worst first, and its last hour as a picture."""

    one: ConsumerOverview
    kind: str
    findings: Sequence[Finding]
    chart: Markup | None
    held: int | None
    dead: int | None


@dataclass(frozen=True, slots=True)
class TrendRow:
    """``at``: minutes ago. ``cells``: seconds behind by consumer, None where unknown."""

    at: int
    cells: Sequence[float | None]


@router.get("/", name="now")
async def now(visitor: Overseer, deps: Deps) -> Response:
    """The page."""
    return visitor.page("now.html", **await _values(visitor, deps))


@router.get("/live", name="live")
async def live(request: Request, _: WatchingOverseer, deps: Deps) -> Response:
    """The page's inner part, again and again, for as long as its visitor is signed in and looks at it (Server-Sent Events)."""
    return StreamingResponse(
        _stream(request, deps), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _stream(request: Request, deps: ConsoleDependencies) -> AsyncIterator[bytes]:
    ends = asyncio.get_running_loop().time() + STREAM_SECONDS
    while not deps.stopping.is_set() and asyncio.get_running_loop().time() < ends:
        try:
            visitor = await watching_overseer(request)
            part = visitor.part("now_live.html", **await _values(visitor, deps))
        except SignInNeeded:
            yield b"event: over\ndata: signed out\n\n"
            return
        except DPJError:
            yield b": not to be had now\n\n"
        else:
            yield b"event: page\n" + b"".join(b"data: " + line.encode() + b"\n" for line in part.splitlines()) + b"\n"
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                await deps.stopping.wait()
        except TimeoutError:
            continue


async def _values(visitor: Visitor, deps: ConsoleDependencies) -> dict[str, Any]:
    overview = await deps.overview.get()
    writer = Writer(visitor.texts, visitor.zone, overview.at)
    lines = [line_of(one, overview.at, visitor.texts, writer) for one in overview.consumers]
    others = of_pipeline(overview, checkpoint_seconds=deps.checkpoint_seconds)
    others = [*of_orders(await _waiting_orders(visitor, deps)), *others]
    everything = [*others, *(finding for line in lines for finding in line.findings)]
    told = [one for one in everything if not _told_already(one, everything)]
    return {
        "o": overview,
        "lines": lines,
        "others": others,
        "acts": [one for one in told if one.kind == ACT],
        "watched": [one for one in told if one.kind != ACT],
        "kind": worst(everything),
        "waited_for": {name for one in overview.consumers for name in one.waits_for or ()},
        "say": saying(visitor.texts, writer),
        "runbook": deps.runbook,
        "outbox_chart": chart_of(overview.outbox_trend, overview.at, visitor.texts, writer),
        "trend_rows": trend_rows(overview),
    }


async def _waiting_orders(visitor: Visitor, deps: ConsoleDependencies) -> int:
    """How many, up to a page of them; 0 as well if that can't be known now: the page says of PostgreSQL that it is away."""
    try:
        return len((await deps.desk.orders(visitor.caller)).items)
    except DatabaseUnavailable:
        return 0


#: Findings that only follow from others, by name.
_FOLLOWS_FROM: Final[Mapping[str, AbstractSet[str]]] = {
    "oldest_for_a_person": {"dead", "refused"},
    "lag_unknown": {"kafka_unknown"},
}


def _told_already(finding: Finding, others: Sequence[Finding]) -> bool:
    """Whether it only follows from what is told by itself, a server that is away: one thing to do is one line."""
    names = {one.name for one in others}
    away = {one.subject for one in others if one.name.startswith("away")}
    if finding.name == "kafka_unknown":
        return "kafka" in away
    if finding.name in _FOLLOWS_FROM:
        return not names.isdisjoint(_FOLLOWS_FROM[finding.name])
    if not names.isdisjoint({"topics_missing", "kafka_unknown"}):
        away.add("kafka")  # said by itself as well
    return finding.texts.get("dependency") in away


def line_of(one: ConsumerOverview, at: datetime, texts: Texts, writer: Writer) -> ConsumerLine:
    """What a consumer's line shows."""
    findings = of_consumer(one, at)
    return ConsumerLine(
        one=one,
        kind=worst(findings),
        findings=findings,
        chart=chart_of(one.trend, at, texts, writer),
        held=None if one.held is None else sum(group.count for group in one.held),
        dead=None if one.dead_open is None else sum(group.count for group in one.dead_open),
    )


def saying(texts: Texts, writer: Writer) -> Any:
    """How a finding is told: ``say(finding)`` what is so, ``say(finding, "act")`` what to do."""

    def say(finding: Finding, part: str = "") -> str:
        key = f"finding.{finding.name}.{part}" if part else f"finding.{finding.name}"
        given = dict(finding.texts)
        if "dependency" in given:
            given["dependency"] = texts.or_itself("dependency", given["dependency"])
        subject = texts.or_itself("dependency" if finding.name.startswith("away") else "consumer", finding.subject)
        number = "" if finding.number is None else writer.number(finding.number)
        shown = {"subject": subject, "number": number, "duration": writer.duration(finding.seconds), **given}
        return texts.of_number(key, finding.number, **shown)

    return say


def trend_rows(overview: Overview) -> Sequence[TrendRow]:
    """The last hour's numbers by minute, newest first: what the charts show."""
    by_consumer = [{one.at: one.behind_seconds for one in consumer.trend or ()} for consumer in overview.consumers]
    minutes = sorted({at for samples in by_consumer for at in samples}, reverse=True)
    return [
        TrendRow(round((overview.at - at).total_seconds() / 60), [samples.get(at) for samples in by_consumer])
        for at in minutes
    ]


def chart_of(trend: Sequence[Sample] | None, at: datetime, texts: Texts, writer: Writer) -> Markup | None:
    """Seconds behind over the last hour; None where nothing was kept of it."""
    if not trend:
        return None
    known = [one.behind_seconds for one in trend if one.behind_seconds is not None]
    if not known:
        return None
    label = texts("chart.label", most=writer.duration(max(known)), last=writer.duration(known[-1]))
    return sparkline([(one.at, one.behind_seconds) for one in trend], label=label, seconds=HOUR_SECONDS, until=at)
