"""The overview for a person at a terminal: 80 columns, what needs a person first, ``?`` for what is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from domain.overview import Count, Holder, NextStep, OutboxOverview, Sample
from operations.overview.model import ConsumerOverview, OldestDocument, Overview

UNKNOWN: Final = "?"
#: Columns of a trend, each the worst of five minutes.
TREND_COLUMNS: Final = 12
_TREND_SECONDS: Final = 300.0
_BARS: Final = "▁▂▃▄▅▆▇█"
#: Stands where a trend has no sample, or an unknown one.
_NO_SAMPLE: Final = "·"

HOLDERS: Final = {
    Holder.OUTBOX: "in the outbox",
    Holder.REFUSED: "in the outbox, refused by Kafka",
    Holder.TOPIC: "in its topic",
    Holder.HOLD: "held",
    Holder.GED: "held for the GED",
    Holder.DEAD_LETTER: "a dead letter",
    Holder.LOST: "lost by Kafka",
}
NEXT: Final = {
    NextStep.RELAY_PUBLISHES: "the relay publishes it",
    NextStep.OPERATOR_SETTLES_REFUSED_ROW: "you settle it: dpj outbox refused",
    NextStep.CONSUMER_READS: "the consumer reads it",
    NextStep.CONSUMER_TRIES_AGAIN: "the consumer tries again",
    NextStep.CONSUMER_GIVES_UP: "the consumer gives it up, as ordered",
    NextStep.OPERATOR_REDRIVES: "you redrive it: dpj dlq list",
    NextStep.RELAY_PUBLISHES_AGAIN: "published again by itself, else: dpj outbox re-emit",
}
_LINE: Final = "{name:<13} {behind:>8} {lag:>9} {trend:<12} {drain:>8} {held:>6} {dead:>6} {kept:>8}"


def lines_of(found: Overview) -> list[str]:
    """Every part, one after the other."""
    return [
        *_oldest_lines(found),
        *outbox_lines(found.outbox, found.at),
        "",
        *_consumer_lines(found),
        "",
        *_state_lines(found),
        *_proof_lines(found),
        *_site_lines(found),
    ]


def outbox_lines(outbox: OutboxOverview | None, at: datetime) -> list[str]:
    """One line, and one more where Kafka refuses rows."""
    if outbox is None:
        return ["Outbox        unknown: the database does not say"]
    waiting = "nothing waits"
    if outbox.waiting.number:
        waiting = f"{outbox.waiting} rows wait for the relay, the first for {since(outbox.oldest, at)}"
    lines = [f"Outbox        {waiting}"]
    if outbox.refused.number:
        refused = f"{outbox.refused} rows that Kafka refuses, since {since(outbox.refused_since, at)}"
        lines.append(f"              {refused}: dpj outbox refused")
    return lines


def since(moment: datetime | None, at: datetime) -> str:
    """How long ago, in the unit that suits it."""
    return UNKNOWN if moment is None else duration(max(0.0, (at - moment).total_seconds()))


def duration(seconds: float | None) -> str:
    from operations.kafka.lag import duration as of_lag

    return UNKNOWN if seconds is None else of_lag(seconds)


def bars(samples: Sequence[Sample] | None, at: datetime) -> str:
    """The last hour as ``TREND_COLUMNS`` characters, newest last: the largest lag of each five minutes against that of the hour."""
    worst: list[int | None] = [None] * TREND_COLUMNS
    for sample in samples or ():
        column = TREND_COLUMNS - 1 - int((at - sample.at).total_seconds() // _TREND_SECONDS)
        if sample.lag is not None and 0 <= column < TREND_COLUMNS:
            worst[column] = max(sample.lag, worst[column] or 0)
    top = max((one for one in worst if one is not None), default=0)
    return "".join(_bar(one, top) for one in worst)


def recent_bars(samples: Sequence[Sample]) -> str:
    """The last ``TREND_COLUMNS`` samples, a character each, newest last."""
    shown = [one.lag for one in samples[-TREND_COLUMNS:]]
    top = max((one for one in shown if one is not None), default=0)
    return "".join(_bar(one, top) for one in shown)


def _bar(lag: int | None, top: int) -> str:
    if lag is None:
        return _NO_SAMPLE
    return _BARS[0] if not lag else _BARS[max(1, round(lag / top * (len(_BARS) - 1)))]


def _oldest_lines(found: Overview) -> Iterator[str]:
    if found.oldest is None:
        yield f"Oldest        {'unknown' if found.oldest_unknown else 'no document waits'}"
        return
    one = found.oldest
    yield f"Oldest        {since(one.waits_since, found.at)}: {one.document_id}"
    yield f"              {one.status.value}, tenant {one.tenant}, deposited {since(one.deposited_at, found.at)} ago"
    yield from (f"              {line}" for line in _holding_lines(one, found.at))
    if found.oldest_unknown:
        yield "              older ones may be where we can't look now"


def _holding_lines(one: OldestDocument, at: datetime) -> Iterator[str]:
    if one.held_by is None:
        yield "what holds it is not known: dpj doc show"
        return
    if one.held_by in {Holder.HOLD, Holder.GED}:
        what = f"held by {one.consumer} for {one.waiting_for}"
    else:
        what = f"{HOLDERS[one.held_by]}, for {one.consumer}"
    yield f"{what}, since {since(one.held_since, at)}"
    tries = f", {one.attempts} tries" if one.attempts else ""
    if one.code:
        yield f"{one.code}{tries}"
    if one.next_step is not None:
        yield f"next: {NEXT[one.next_step]}"


def _consumer_lines(found: Overview) -> Iterator[str]:
    yield _LINE.format(
        name="CONSUMER",
        behind="BEHIND",
        lag="LAG",
        trend="LAST HOUR",
        drain="DRAINS",
        held="HELD",
        dead="DEAD",
        kept="LOST IN",
    ).rstrip()
    for one in found.consumers:
        yield _consumer_line(one, found.at)
        yield from (f"  {line}" for line in _consumer_details(one, found.at))


def _consumer_line(one: ConsumerOverview, at: datetime) -> str:
    nothing = one.lag == 0
    drains = "-" if nothing else duration(one.drain_seconds) if one.drain_seconds is not None else "no"
    kept = "-" if one.retention_margin_seconds is None and one.known else duration(one.retention_margin_seconds)
    return _LINE.format(
        name=one.consumer,
        behind="-" if nothing else duration(one.behind_seconds),
        lag=UNKNOWN if one.lag is None else one.lag,
        trend=bars(one.trend, at),
        drain=UNKNOWN if one.lag is None else drains,
        held=_sum(None if one.held is None else (group.count for group in one.held)),
        dead=_sum(None if one.dead_open is None else (group.count for group in one.dead_open)),
        kept=kept,
    )


def _sum(counts: Iterable[int] | None) -> str:
    return UNKNOWN if counts is None else str(sum(counts))


def _consumer_details(one: ConsumerOverview, at: datetime) -> Iterator[str]:
    if one.paused is not None:
        yield f"PAUSED until {one.paused.until:%H:%M} by {one.paused.owner}: {one.paused.reason}"
    if one.waits_for:
        waited = f", since {since(one.waits_since, at)}" if one.waits_since else ""
        yield f"waits for {', '.join(one.waits_for)}{waited}"
    for stall in one.stalled or ():
        what = f"held up by {stall.held_up_by}" if stall.held_up_by else "STALLED"
        yield f"{what}: {stall.topic} {stall.partition}, no progress for {duration(stall.seconds)}"
    for group in one.held or ():
        yield f"holds {group.count} for {group.waiting_for} ({group.code}), since {since(group.since, at)}"
    if one.lost:
        yield f"LOST: Kafka brings {one.lost} events no more: dpj outbox owed"
    for letters in one.dead_open or ():
        new = f", {letters.new} new" if letters.new else ""
        yield f"dead: {letters.count} {letters.code} ({letters.error_class}), newest {since(letters.newest, at)} ago{new}"


def _state_lines(found: Overview) -> Iterator[str]:
    if found.states is None:
        yield "Documents     unknown"
        return
    there = [one for one in found.states if one.count.number or one.count.more]
    for place, one in enumerate(there):
        oldest = f", the first for {since(one.oldest, found.at)}" if one.oldest else ""
        yield f"{'' if place else 'Documents':<14}{one.status.value} {_at_least(one.count)}{oldest}"
    if not there:
        yield "Documents     all at rest"


def _at_least(count: Count) -> str:
    return str(count) if count.number else "some"


def _proof_lines(found: Overview) -> Iterator[str]:
    checkpoints = found.checkpoints
    if checkpoints is None:
        yield "Checkpoints   unknown"
    else:
        newest = f"newest {since(checkpoints.newest, found.at)} ago" if checkpoints.newest else "none yet"
        due = f"; due for {checkpoints.uncovered} tenants" if checkpoints.uncovered else ""
        yield f"Checkpoints   {newest}{due}"
    for step in found.audit_steps_stopped or ():
        yield f"              STOPPED at {step}: dpj audit verify"
    erasures = found.erasures
    if erasures is None:
        yield "Erasures      unknown"
    elif erasures.waiting.number:
        yield f"Erasures      {erasures.waiting} wait, the first for {since(erasures.oldest, found.at)}"
    else:
        yield "Erasures      none waits"


def _site_lines(found: Overview) -> Iterator[str]:
    away = [one for one in found.dependencies or () if one.away]
    for one in away:
        lasted = f", since {since(one.away_since, found.at)}" if one.away_since else ""
        yield f"Away          {one.name}{lasted}, says {', '.join(one.processes)}"
    for circuit in found.circuits or ():
        if circuit.state != "closed":
            yield f"Circuit       {circuit.dependency} is {circuit.state} in {circuit.process}"
    if found.silent:
        yield f"No answer     {', '.join(found.silent)}"
    looked = (
        "has not looked" if found.watchdog_looked is None else f"looked {since(found.watchdog_looked, found.at)} ago"
    )
    yield f"Watchdog      {looked}"
    if found.reconcile is not None:
        left = ", ".join(f"{name} {count}" for name, count in found.reconcile.findings.items()) or "nothing wrong"
        yield f"Reconcile     {since(found.reconcile.finished_at, found.at)} ago: {left}"
    for restore in found.restores or ():
        yield f"Restore       of {restore.store}, since {since(restore.since, found.at)}: dpj restore status"
