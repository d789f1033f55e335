"""``dpj consumers``: pause a consumer for a while, have it go on, give it a window again."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import Apply, Reason, ago, checked_reason, moment, on_site, table, uuid_of
from runtime.cli.output import AsJson, Stack, print_result
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.pauses import Pause
    from processors.operators.batches import Operator
    from runtime.wiring.site import Site

app = typer.Typer(help="Consumers: pause one for a while, have it go on, give it a window again.", no_args_is_help=True)

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}

Name = Annotated[
    str, typer.Argument(metavar="CONSUMER", help="integrity, renditions, archiving, notification or audit.")
]


@app.command()
def pause(
    consumer: Name,
    reason: Reason,
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="As in 30m or 2h; 24h at most.")],
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Have a consumer begin no event until the time is over, whatever process it runs in. What it works on is finished."""
    because, length = checked_reason(reason), _length(duration)

    async def work(site: Site) -> Pause:
        from runtime.wiring.operators import consumer_pauses

        await site.codec.check()
        until = datetime.now(UTC).replace(microsecond=0) + length
        return await consumer_pauses(site).pause(_who(site), consumer, until, because)

    paused = asyncio.run(on_site(stack, work))
    line = f"{consumer} is paused until {paused.until:%Y-%m-%d %H:%M:%S} UTC; sooner: dpj consumers resume {consumer}"
    print_result(_shown(paused), [line], as_json=as_json)


@app.command()
def resume(consumer: Name, reason: Reason, stack: Stack = None, as_json: AsJson = False) -> None:
    """End a pause before its time."""
    because = checked_reason(reason)

    async def work(site: Site) -> Pause:
        from runtime.wiring.operators import consumer_pauses

        await site.codec.check()
        return await consumer_pauses(site).resume(_who(site), consumer, because)

    ended = asyncio.run(on_site(stack, work))
    print_result(_shown(ended), [f"{consumer} goes on."], as_json=as_json)


@app.command()
def replay(
    consumer: Name,
    document: Annotated[str | None, typer.Option(help="Only events about this document.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="ISO 8601, or ago as in 90m, 2h, 7d.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Written before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many events.")] = 1_000,
    canary: Annotated[int | None, typer.Option(min=1, max=100, help="So many first, then look.")] = None,
    stop_after: Annotated[
        int, typer.Option("--stop-after", min=1, max=1000, help="So many equal failures stop it.")
    ] = 5,
    apply: Apply = False,
    reason: Annotated[str | None, typer.Option(help="With --apply: a code or ticket.")] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Have a consumer take again what it has not done of what Kafka still holds. A dry run without --apply.

    What it has done its inbox knows: it is counted, and not sent. The relay does the rest; see dpj batches.
    """
    from domain.batches import Act, ActRequest
    from runtime.cli.batches import run_as_batch

    request = ActRequest(
        act=Act.REPLAY,
        consumer=consumer,
        document=None if document is None else uuid_of(document),
        since=_at(since),
        until=_at(until),
        limit=limit,
    )
    run_as_batch(request, stack, canary=canary, stop_after=stop_after, reason=reason, apply=apply, as_json=as_json)


@app.command(name="list")
def list_pauses(stack: Stack = None, as_json: AsJson = False) -> None:
    """Consumers that are paused now."""

    async def work(site: Site) -> list[Pause]:
        from runtime.wiring.operators import consumer_pauses

        return list((await consumer_pauses(site).paused()).values())

    rows = [_shown(one) for one in asyncio.run(on_site(stack, work))]
    lines = ["No consumer is paused."]
    if rows:
        lines = table(
            ("CONSUMER", "SINCE", "UNTIL", "REASON"),
            [(row["consumer"], ago(row["since"]), row["until"][:19].replace("T", " "), row["reason"]) for row in rows],
        )
    print_result({"pauses": rows}, lines, as_json=as_json)


def _at(text: str | None) -> datetime | None:
    found = moment(text)
    return None if found is None else datetime.fromtimestamp(found / 1000, UTC)


def _who(site: Site) -> Operator:
    from processors.operators.batches import Operator

    return Operator(actor=site.operator(operator_name()))


def _length(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([smh])", text)
    if found is None:
        raise CommandFailed(f"{text} is no length of time.", "Write it as in 30m or 2h.", code="usage")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def _shown(pause: Pause) -> dict[str, Any]:
    return {
        "consumer": pause.consumer,
        "by": pause.by,
        "reason": pause.reason,
        "since": pause.since.isoformat(),
        "until": pause.until.isoformat(),
    }
