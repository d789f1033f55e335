"""``dpj outbox``: rows that Kafka refuses for good, and what an operator does about them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli.operator_options import (
    Apply,
    Reason,
    ago,
    checked_reason,
    on_site,
    operator_name,
    report_results,
    table,
)
from runtime.cli.output import AsJson, Stack, print_result

if TYPE_CHECKING:
    from processors.operators.dead_letters import ActionResult
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
