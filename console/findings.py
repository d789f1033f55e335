"""What of an overview needs a person, and what is only worth a look. Red is for the first alone.

Each finding names its text (``finding.{name}``: what is so; ``finding.{name}.act``: what to do) and its section of docs/OPERATIONS.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from domain.consumers import CONSUMERS, readers
from domain.overview import DeadGroup, Holder, NextStep
from operations.overview.model import ConsumerOverview, Overview

ACT: Final = "act"
WATCH: Final = "watch"
UNKNOWN: Final = "unknown"
GOOD: Final = "good"
_ORDER: Final = (GOOD, UNKNOWN, WATCH, ACT)

#: What documents are to be processed within, in seconds: later is worth a look.
LATE_SECONDS: Final = 30.0
#: A backlog as old as this that does not shrink needs a person.
STUCK_SECONDS: Final = 300.0
#: A server that has been away for so long does not come back by itself, as far as anybody knows.
AWAY_SECONDS: Final = 120.0
#: The relay publishes within milliseconds.
OUTBOX_SECONDS: Final = 60.0
#: The watchdog looks every 15 seconds and keeps its figures every minute.
LOOK_SECONDS: Final = 180.0
MARGIN_ACT_SECONDS: Final = 86_400.0
MARGIN_WATCH_SECONDS: Final = 7 * 86_400.0
ERASURE_SECONDS: Final = 86_400.0

#: Next steps that are a person's.
_FOR_A_PERSON: Final = frozenset({NextStep.OPERATOR_SETTLES_REFUSED_ROW, NextStep.OPERATOR_REDRIVES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``name`` is the key of its texts, ``anchor`` its runbook. ``subject``: the consumer, server or process that it is about. ``number``
    and ``seconds`` go into its text; ``link``: a page of ours that shows more."""

    kind: str
    name: str
    anchor: str
    subject: str = ""
    number: int | None = None
    seconds: float | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    link: str = ""


def worst(findings: Sequence[Finding]) -> str:
    """The shape that stands for all of them."""
    return max((one.kind for one in findings), key=_ORDER.index, default=GOOD)


def of_consumer(one: ConsumerOverview, at: datetime) -> Sequence[Finding]:
    """What is to be said of a consumer, worst first."""
    found = [*_of_progress(one), *_of_waiting(one, at), *_of_letters(one, at)]
    return sorted(found, key=lambda finding: -_ORDER.index(finding.kind))


def of_pipeline(overview: Overview, *, checkpoint_seconds: float) -> Sequence[Finding]:
    """What is to be said of all but the consumers, worst first. ``checkpoint_seconds``: between two checkpoints, at most."""
    found = [
        # What is away comes before what waits for it.
        *_of_servers(overview),
        *of_kafka(overview),
        *_of_outbox(overview),
        *_of_proof(overview, checkpoint_seconds),
        *_of_watchers(overview),
    ]
    return sorted(found, key=lambda finding: -_ORDER.index(finding.kind))


def of_orders(waiting: int) -> Sequence[Finding]:
    """What is to be said of orders that wait for a second person."""
    if not waiting:
        return []
    return [Finding(kind=ACT, name="orders", anchor="separation-of-duties", number=waiting, link="/orders")]


def _of_progress(one: ConsumerOverview) -> Iterator[Finding]:
    name, link = one.consumer, f"/consumers/{one.consumer}"
    if not one.known and one.partitions != ():  # without partitions its topics are gone, which is told by itself
        yield Finding(kind=UNKNOWN, name="lag_unknown", anchor="lag", subject=name, link=link)
    # What waits for a server is stalled for that reason, and a restart would not bring it back.
    for stall in () if one.waits_for else one.stalled or ():
        place = {"place": f"{stall.topic}/{stall.partition}"}
        if stall.held_up_by:
            yield Finding(
                kind=ACT,
                name="crashing",
                anchor="crashing-consumers",
                subject=name,
                seconds=stall.seconds,
                texts={"place": stall.held_up_by},
                link=link,
            )
        else:
            yield Finding(
                kind=ACT, name="stalled", anchor="stalls", subject=name, seconds=stall.seconds, texts=place, link=link
            )
    behind = one.behind_seconds
    # What waits for a server is late for that reason, and is told so.
    if behind is not None and behind > LATE_SECONDS and not one.stalled and one.paused is None and not one.waits_for:
        stuck = behind > STUCK_SECONDS and one.drain_seconds is None
        yield Finding(
            kind=ACT if stuck else WATCH,
            name="late_growing" if stuck else "late",
            anchor="lag",
            subject=name,
            seconds=behind,
            link=link,
        )
    margin = one.retention_margin_seconds
    if margin is not None and margin < MARGIN_WATCH_SECONDS:
        kind = ACT if margin < MARGIN_ACT_SECONDS else WATCH
        yield Finding(kind=kind, name="margin", anchor="lag", subject=name, seconds=margin, link=link)


def _of_waiting(one: ConsumerOverview, at: datetime) -> Iterator[Finding]:
    if one.paused is not None:
        until = max(0.0, (one.paused.until - at).total_seconds())
        yield Finding(kind=WATCH, name="paused", anchor="pausing-a-consumer", subject=one.consumer, seconds=until)
    for dependency in one.waits_for or ():
        since = None if one.waits_since is None else (at - one.waits_since).total_seconds()
        yield Finding(
            kind=ACT if since is not None and since > AWAY_SECONDS else WATCH,
            name="waits" if since is not None else "waits_now",
            anchor="when-a-part-is-down",
            subject=one.consumer,
            seconds=since,
            texts={"dependency": dependency},
            link=f"/consumers/{one.consumer}",
        )


def _of_letters(one: ConsumerOverview, at: datetime) -> Iterator[Finding]:
    dead = sum(group.count for group in one.dead_open or ())
    if dead:
        yield Finding(
            kind=ACT,
            name="dead",
            anchor="dead-letters",
            subject=one.consumer,
            number=dead,
            link=_letters(one.consumer, one.dead_open or ()),
        )
    held = [group for group in one.held or () if group.waiting_for not in (one.waits_for or ())]
    if held:
        since = (at - min(group.since for group in held)).total_seconds()
        yield Finding(
            kind=WATCH,
            name="held",
            anchor="events-that-are-held",
            subject=one.consumer,
            number=sum(group.count for group in held),
            seconds=since,
        )


def _letters(consumer: str, groups: Sequence[DeadGroup]) -> str:
    """The page of a consumer's letters; of all groups, if there are several."""
    if len(groups) != 1:
        return "/operations#letters"
    (group,) = groups
    asked = {"consumer": consumer, "code": group.code, "error_class": group.error_class}
    return f"/operations/dead-letters?{urlencode(asked)}"


def of_kafka(overview: Overview) -> Iterator[Finding]:
    """What a broker shows that has lost its disk: topics that are not there, and events that it brings no more."""
    seen = {row.topic for one in overview.consumers for row in one.partitions or ()}
    answers = all(one.partitions is not None for one in overview.consumers)
    if not answers:
        yield Finding(kind=UNKNOWN, name="kafka_unknown", anchor="when-a-part-is-down")
    missing = len(readers().keys() - seen) if answers else 0
    if missing:
        yield Finding(
            kind=ACT, name="topics_missing", anchor="events-that-kafka-lost", number=missing, link="/operations/lost"
        )
    lost = sum(one.lost or 0 for one in overview.consumers)
    if lost:
        kind = WATCH if missing else ACT  # without topics nobody can publish them again
        yield Finding(kind=kind, name="lost", anchor="events-that-kafka-lost", number=lost, link="/operations/lost")


def _of_outbox(overview: Overview) -> Iterator[Finding]:
    outbox = overview.outbox
    if outbox is None:
        yield Finding(kind=UNKNOWN, name="outbox_unknown", anchor="when-a-part-is-down")
        return
    if outbox.refused.number:
        yield Finding(kind=ACT, name="refused", anchor="the-relay", number=outbox.refused.number)
    if outbox.oldest is not None:
        age = (overview.at - outbox.oldest).total_seconds()
        if age > OUTBOX_SECONDS:
            yield Finding(
                kind=ACT,
                name="outbox_waits",
                anchor="the-relay",
                number=outbox.waiting.number,
                seconds=age,
                link=_first_in_the_outbox(overview),
            )
    oldest = overview.oldest
    if oldest is not None and oldest.next_step in _FOR_A_PERSON:
        age = (overview.at - oldest.waits_since).total_seconds()
        yield Finding(
            kind=WATCH,
            name="oldest_for_a_person",
            anchor="dead-letters" if oldest.next_step is NextStep.OPERATOR_REDRIVES else "the-relay",
            seconds=age,
            link=f"/documents/{oldest.document_id}",
        )


def _first_in_the_outbox(overview: Overview) -> str:
    """The page of the document that has waited longest there, if it is known."""
    found = [one.oldest for one in overview.consumers if one.oldest and one.oldest.held_by is Holder.OUTBOX]
    first = min(found, key=lambda one: one.held_since or one.waits_since, default=None)
    return f"/documents/{first.document_id}" if first else ""


def _of_proof(overview: Overview, checkpoint_seconds: float) -> Iterator[Finding]:
    for step in overview.audit_steps_stopped or ():
        yield Finding(kind=ACT, name="audit_stopped", anchor="audit", texts={"step": step})
    checkpoints = overview.checkpoints
    if checkpoints is not None and checkpoints.overdue_since is not None:
        age = (overview.at - checkpoints.overdue_since).total_seconds()
        if age > max(2 * checkpoint_seconds, 60.0):
            yield Finding(kind=ACT, name="checkpoints", anchor="audit", number=checkpoints.uncovered, seconds=age)
    erasures = overview.erasures
    if erasures is not None and erasures.oldest is not None:
        age = (overview.at - erasures.oldest).total_seconds()
        if age > ERASURE_SECONDS:
            yield Finding(
                kind=ACT, name="erasures", anchor="erasing-on-request", number=erasures.waiting.number, seconds=age
            )
    for restore in overview.restores or ():
        yield Finding(
            kind=ACT,
            name="restore",
            anchor="after-a-restore",
            seconds=(overview.at - restore.since).total_seconds(),
            texts={"store": restore.store},
        )


def _of_servers(overview: Overview) -> Iterator[Finding]:
    for one in overview.dependencies or ():
        if one.away:
            since = None if one.away_since is None else (overview.at - one.away_since).total_seconds()
            long = since is not None and since > AWAY_SECONDS
            yield Finding(
                kind=ACT if long else WATCH,
                name="away" if since is not None else "away_now",
                anchor="when-a-part-is-down",
                subject=one.name,
                seconds=since,
                link=_who_waits_for(one.name, overview),
            )
    for process in overview.silent:
        yield Finding(
            kind=ACT, name="silent", anchor="start-and-stop", subject=process, link=_what_stands_with(process, overview)
        )


def _what_stands_with(process: str, overview: Overview) -> str:
    """The page of what a process has in hand: a worker's consumer, or the first document that the relay has not published."""
    if process == "relay":
        return _first_in_the_outbox(overview)
    consumer = process.removeprefix("worker-")
    return f"/consumers/{consumer}" if consumer in CONSUMERS else ""


def _who_waits_for(dependency: str, overview: Overview) -> str:
    """The page of the consumer that has waited longest for a server, if any does."""
    found = [one for one in overview.consumers if dependency in (one.waits_for or ())]
    first = min(found, key=lambda one: (one.waits_since is None, one.waits_since or overview.at), default=None)
    return f"/consumers/{first.consumer}" if first else ""


def _of_watchers(overview: Overview) -> Iterator[Finding]:
    looked = overview.watchdog_looked
    age = None if looked is None else (overview.at - looked).total_seconds()
    if age is None:
        yield Finding(kind=UNKNOWN, name="watchdog_unknown", anchor="stalls")
    elif age > LOOK_SECONDS:
        yield Finding(kind=ACT, name="watchdog", anchor="stalls", seconds=age)
    reconcile = overview.reconcile
    left = 0 if reconcile is None else sum(reconcile.findings.values())
    if left:
        yield Finding(kind=ACT, name="reconcile", anchor="reconciling", number=left, link="/reconcile")
