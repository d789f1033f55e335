"""``dpj lag``: how far each consumer group is behind, and what the outbox holds back before it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from domain.errors import BrokerUnavailable
from runtime.cli.output import AsJson, Stack, print_result, settings_of
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.overview import OutboxOverview, Sample
    from operations.kafka.lag import GroupLag, PartitionLag
    from runtime.config.settings import Settings

#: What --watch remembers for its trend.
TREND_SECONDS: Final = 3600.0
_LINE: Final = "{name:<16} {lag:>10} {behind:>9} {change:>12} {drain:>9} {trend:<12}"


def lag(
    stack: Stack = None,
    by_group: Annotated[bool, typer.Option("--totals", help="One line per group.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="A line per group with its trend, again and again until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(min=1, max=3600, help="Seconds between two looks with --watch.")] = 5.0,
    times: Annotated[int | None, typer.Option(min=1, help="With --watch: end after so many looks.")] = None,
    as_json: AsJson = False,
) -> None:
    """How far each consumer group is behind, per topic and partition; and what waits in the outbox before."""
    settings = settings_of(stack)
    if watch and as_json:
        raise CommandFailed("--watch and --json do not go together.", "For programs: call dpj lag --json again.")
    if watch:
        _watch(settings, every, times)
        return
    if as_json:  # one document, as ever: what the broker says
        rows = _measure(settings)
        print_result(_group_documents(rows) if by_group else _documents(settings, rows), (), as_json=True)
        return
    from runtime.cli.overview_lines import outbox_lines

    print_result(None, [*outbox_lines(_backlog(settings), datetime.now(UTC)), ""], as_json=False)
    rows = _measure(settings)
    print_result(None, _total_lines(rows) if by_group else _lines(settings, rows), as_json=False)


def _measure(settings: Settings) -> Sequence[PartitionLag]:
    from domain.consumers import groups
    from operations.kafka.lag import measure
    from runtime.config.transport import kafka_security

    rows = measure(settings.kafka_bootstrap, groups(), security=kafka_security(settings))
    if not rows:
        raise CommandFailed("There are no topics yet.", "Create them: dpj topics create", code="topics_missing")
    return rows


def _backlog(settings: Settings) -> OutboxOverview | None:
    from runtime.wiring.backlog import outbox_backlog

    return outbox_backlog(settings)


def _group_documents(rows: Sequence[PartitionLag]) -> list[dict[str, object]]:
    from operations.kafka.lag import totals

    return [asdict(one) for one in totals(rows)]


def _documents(settings: Settings, rows: Sequence[PartitionLag]) -> list[dict[str, object]]:
    from domain.consumers import consumer_of
    from runtime.processes.health_ports import stalled_places

    stalled = stalled_places(settings)
    return [{**asdict(row), "stalled": (consumer_of(row.group), row.topic, row.partition) in stalled} for row in rows]


def _total_lines(rows: Sequence[PartitionLag]) -> list[str]:
    from operations.kafka.lag import total_lines, totals

    return total_lines(totals(rows))


def _lines(settings: Settings, rows: Sequence[PartitionLag]) -> list[str]:
    from operations.kafka.lag import table_lines
    from runtime.processes.health_ports import paused_consumers, stalled_places

    stalled_lines = [
        f"{'held up' if held_up_by else 'STALLED'}: {consumer}, {topic} partition {partition}: "
        f"no progress for {seconds:.0f} s{f', because of {held_up_by}' if held_up_by else ''}"
        for (consumer, topic, partition), (seconds, held_up_by) in stalled_places(settings).items()
    ]
    paused = [f"PAUSED: {line}" for line in paused_consumers(settings)]
    return [*table_lines(rows), *stalled_lines, *paused]


def _watch(settings: Settings, every: float, times: int | None) -> None:
    """What is away is told in its place, and looked for again."""
    from domain.consumers import consumer_of
    from domain.overview import Sample
    from operations.kafka.lag import totals
    from runtime.cli.overview import show_again
    from runtime.cli.overview_lines import outbox_lines

    history: dict[str, list[Sample]] = {}
    left = times
    while left is None or left > 0:
        began = time.monotonic()
        at = datetime.now(UTC)
        lines = outbox_lines(_backlog(settings), at)
        try:
            groups = totals(_measure(settings))
        except BrokerUnavailable as error:
            lines += ["", f"Lag is unknown: {error}"]
        else:
            for one in groups:
                samples = history.setdefault(consumer_of(one.group), [])
                samples.append(Sample(at=at, lag=one.lag, behind_seconds=one.behind))
                history[consumer_of(one.group)] = [
                    old for old in samples if at - old.at <= timedelta(seconds=TREND_SECONDS)
                ]
            lines += ["", *_trend_lines(groups, history, at)]
        show_again(lines, at)
        left = None if left is None else left - 1
        if left != 0:
            sys.stdout.flush()
            time.sleep(max(0.0, began + every - time.monotonic()))


def _trend_lines(groups: Sequence[GroupLag], history: Mapping[str, Sequence[Sample]], at: datetime) -> list[str]:
    """80 columns. ``A MINUTE``: by how much the lag changed, over the last minutes that were watched."""
    from domain.consumers import consumer_of
    from operations.kafka.lag import duration
    from operations.overview.look import drain_seconds
    from runtime.cli.overview_lines import recent_bars

    heading = {
        "name": "CONSUMER",
        "lag": "LAG",
        "behind": "BEHIND",
        "change": "A MINUTE",
        "drain": "DRAINS",
        "trend": "TREND",
    }
    lines = [_LINE.format(**heading).rstrip()]
    for one in groups:
        name = consumer_of(one.group)
        samples = history[name]
        seconds = (at - samples[0].at).total_seconds()
        change = "-" if seconds < 1 or samples[0].lag is None else f"{(one.lag - samples[0].lag) * 60 / seconds:+,.0f}"
        drain = drain_seconds(samples, at, one.lag)
        lines.append(
            _LINE.format(
                name=name,
                lag=one.lag,
                behind=duration(one.behind),
                change=change,
                drain="-" if not one.lag else "no" if drain is None else duration(drain),
                trend=recent_bars(samples),
            )
        )
    return lines
