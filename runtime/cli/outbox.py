"""``dpj outbox``: rows that Kafka refuses for good, events that it lost, and what an operator does about them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import (
    Apply,
    Reason,
    ago,
    checked_reason,
    on_site,
    report_results,
    table,
)
from runtime.cli.output import AsJson, Stack, print_result
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.batches import ActionResult
    from domain.owed_events import LostEvent
    from processors.reconcile.owed_events import OwedReport
    from runtime.wiring.site import Site

app = typer.Typer(help="The outbox: events on their way to Kafka.", no_args_is_help=True)

Rows = Annotated[list[int], typer.Argument(metavar="ROW...", help="As refused gives them.")]


@app.command()
def refused(
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100, stack: Stack = None, as_json: AsJson = False
) -> None:
    """Rows that Kafka refuses for good, and how many later ones of the same document wait for each."""

    async def work(site: Site) -> list[dict[str, Any]]:
        return [
            {
                "row": row.id,
                "topic": row.topic,
                "key": row.key,
                "event_id": row.event_id and str(row.event_id),
                "bytes": row.size,
                "code": row.code,
                "refused_at": row.refused_at.isoformat(),
                "waiting": row.waiting,
            }
            for row in await site.refusals().refused(limit)
        ]

    rows = asyncio.run(on_site(stack, work))
    if not as_json and not rows:
        print_result(None, ["Kafka refuses no row."], as_json=False)
        return
    lines = table(
        ("ROW\nAGE", "DOCUMENT\nTOPIC", "CODE\nBYTES", "WAITING"),
        [
            (
                (str(row["row"]), ago(row["refused_at"])),
                (row["key"] or "-", row["topic"]),
                (row["code"], str(row["bytes"])),
                str(row["waiting"]),
            )
            for row in rows
        ],
    )
    print_result({"refused": rows}, lines, as_json=as_json)


@app.command()
def retry(rows: Rows, apply: Apply = False, stack: Stack = None, as_json: AsJson = False) -> None:
    """Have refused rows sent again, once Kafka would take them. A dry run without --apply."""

    async def work(site: Site) -> list[tuple[str, ActionResult]]:
        await site.codec.check()
        actions = site.operator_actions(operator_name())
        return [(f"row {row}", await actions.retry_refused(row, apply=apply)) for row in rows]

    results = asyncio.run(on_site(stack, work))
    report_results(results, "retried" if apply else "would be retried", apply=apply, as_json=as_json)


@app.command()
def drop(rows: Rows, reason: Reason, apply: Apply = False, stack: Stack = None, as_json: AsJson = False) -> None:
    """Never send refused rows: their events are lost to all consumers. A dry run without --apply."""
    because = checked_reason(reason)

    async def work(site: Site) -> list[tuple[str, ActionResult]]:
        await site.codec.check()
        actions = site.operator_actions(operator_name())
        return [(f"row {row}", await actions.drop_refused(row, because, apply=apply)) for row in rows]

    results = asyncio.run(on_site(stack, work))
    report_results(results, "dropped" if apply else "would be dropped", apply=apply, as_json=as_json)


@app.command()
def owed(stack: Stack = None, as_json: AsJson = False) -> None:
    """Lost events: a consumer must still finish them, and Kafka brings them no more. Exit status 1 if there are any."""
    report = asyncio.run(on_site(stack, _look))
    lines = ["Nothing is lost: what is owed is on its way."]
    if report.count:
        rows = [
            (consumer, str(count), ago(report.oldest[consumer].isoformat()))
            for consumer, count in sorted(report.count.items())
        ]
        lines = [*table(("CONSUMER", "EVENTS", "OLDEST"), rows), "", "Have them published again: dpj outbox re-emit"]
    print_result({"owed": [_shown(one) for one in report.lost], "count": dict(report.count)}, lines, as_json=as_json)
    if report.count:
        raise typer.Exit(1)


@app.command(name="re-emit")
def re_emit(
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="Events a second.")] = 100.0,
    consumer: Annotated[str | None, typer.Option(help="Only what is owed to this one.")] = None,
    apply: Apply = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Have lost events published again; who has finished one passes over it. A dry run without --apply."""
    from domain.consumers import CONSUMERS
    from runtime.observability.telemetry import configure_logging

    if consumer is not None and consumer not in CONSUMERS:
        raise CommandFailed(f"No consumer is named {consumer}.", f"Name one of: {', '.join(CONSUMERS)}.", code="usage")

    configure_logging("outbox", level="CRITICAL")  # the result says it all

    async def work(site: Site) -> tuple[OwedReport, int]:
        await site.codec.check()
        report = await _look(site)
        wanted = [one for one in report.lost if consumer is None or consumer in one.consumers]
        events = site.owed_events()
        return report, await events.re_emit(wanted, operator_name(), reason="operator", rate=rate, apply=apply)

    report, sent = asyncio.run(on_site(stack, work))
    word = "are published again" if apply else "would be published again; --apply does it"
    lines = [f"{sent} events {word}." if sent else "Nothing is lost."]
    print_result({"applied": apply, "events": sent, "count": dict(report.count)}, lines, as_json=as_json)


async def _look(site: Site) -> OwedReport:
    from domain.errors import BrokerUnavailable

    report = await site.owed_events().look(after_seconds=site.settings.events_lost_after)
    if not report.known:
        raise BrokerUnavailable
    return report


def _shown(lost: LostEvent) -> dict[str, Any]:
    event = lost.event
    return {
        "row": event.row_id,
        "event_id": str(event.event_id),
        "topic": event.topic,
        "key": event.key,
        "consumers": list(lost.consumers),
        "published_at": event.published_at.isoformat(),
        "re_emissions": event.re_emissions,
    }
