"""``dpj dlq``: what consumers gave up, what they hold, and what an operator does about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import (
    Apply,
    Reason,
    ago,
    checked_reason,
    moment,
    on_site,
    report_results,
    table,
    uuid_of,
)
from runtime.cli.output import AsJson, Stack, print_note, print_result
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.batches import ActionResult
    from domain.dead_letters import DeadLetter, HeldEventStatus, OperatorMark
    from operations.kafka.dead_letters import DeadLetterFilter
    from processors.operators.dead_letters import OperatorActions
    from runtime.wiring.site import Site

app = typer.Typer(help="Dead letters: events that a consumer gave up; and events held now.", no_args_is_help=True)

#: Letters read from Kafka at once, and looked up together.
BATCH: Final = 200
#: Held events that a summary takes together.
MOST_HELD: Final = 100_000

Addresses = Annotated[
    list[str] | None, typer.Argument(metavar="[ADDRESS]...", help="As list gives them: archiving/0/12.")
]
Consumers = Annotated[list[str] | None, typer.Option("--consumer", help="Only letters of it; may be repeated.")]
Code = Annotated[str | None, typer.Option(help="Only with this error code.")]
ErrorClass = Annotated[str | None, typer.Option("--error-class", help="Only with this class of error.")]
DocumentId = Annotated[str | None, typer.Option("--document", help="Only about this document.")]
EventId = Annotated[str | None, typer.Option("--event", help="Only of this event.")]
Topic = Annotated[str | None, typer.Option(help="Only records that came from this topic.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Written since: ISO 8601, or ago as in 90m, 2h, 7d.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Written before.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many letters.")]


@app.command(name="list")
def list_letters(
    consumer: Consumers = None,
    code: Code = None,
    error_class: ErrorClass = None,
    document: DocumentId = None,
    event: EventId = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--all", help="Those redriven or discarded too.")] = False,
    limit: Limit = 100,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Letters that nobody has handled, by consumer, oldest first."""
    wanted = _filter(consumer, code, error_class, document, event, topic, since, until)

    async def work(site: Site) -> list[tuple[DeadLetter, OperatorMark | None]]:
        found: list[tuple[DeadLetter, OperatorMark | None]] = []

        async def take(letter: DeadLetter, mark: OperatorMark | None) -> bool:
            if mark is None or everything:
                found.append((letter, mark))
            return len(found) <= limit

        await _each(site, wanted, take)
        return found

    found = asyncio.run(on_site(stack, work))
    rows = [_row(letter, mark) for letter, mark in found[:limit]]
    more = len(found) > limit
    if not as_json and not rows:
        print_result(None, ["No dead letters."], as_json=False)
        return
    lines = table(
        ("ADDRESS\nAGE", "EVENT\nDOCUMENT", "CODE\nERROR CLASS"),
        [
            (
                (
                    row["address"],
                    ago(row["written_at"]) + ("  " + row["handled"]["act"].lower() if row["handled"] else ""),
                ),
                (row["event_id"] or "-", row["document"] or "-"),
                (row["code"] or "-", row["error_class"] or "-"),
            )
            for row in rows
        ],
    )
    print_result({"letters": rows, "more": more}, lines, as_json=as_json)
    if more and not as_json:
        print_note(f"There are more than {limit}: give --limit or a filter.")


@app.command()
def show(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="As list gives it: archiving/0/12.")],
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """One letter: its headers, and its event as this release reads it."""

    async def work(site: Site) -> dict[str, Any]:
        letter = await _letter(site, address)
        marks = await site.operations().marks([letter.place])
        event = await site.operator_actions(operator_name()).decoded(letter)
        return {
            **_row(letter, marks.get(letter.place)),
            "cut_bytes": letter.cut_bytes,
            "headers": dict(sorted(letter.headers.items())),
            "event": None if event is None else _fields(event),
        }

    shown = asyncio.run(on_site(stack, work))
    print_result(shown, _described(shown), as_json=as_json)


@app.command()
def redrive(
    addresses: Addresses = None,
    consumer: Consumers = None,
    code: Code = None,
    error_class: ErrorClass = None,
    document: DocumentId = None,
    event: EventId = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    apply: Apply = False,
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="Letters per second.")] = 10.0,
    cap: Annotated[int, typer.Option(min=0, max=1000, help="Refuse what was redriven so often.")] = 3,
    force: Annotated[bool, typer.Option("--force", help="Pass over the cap, and over what can't be decoded.")] = False,
    limit: Limit = 1_000,
    canary: Annotated[
        int | None, typer.Option("--canary", min=1, max=100, help="As a batch: so many first, then look.")
    ] = None,
    stop_after: Annotated[
        int, typer.Option("--stop-after", min=1, max=1000, help="With --canary: so many equal failures stop it.")
    ] = 5,
    reason: Annotated[str | None, typer.Option(help="With --canary --apply: a code or ticket.")] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Have the consumer that gave an event up take it again. A dry run without --apply.

    With --canary the relay does it, one group of letters at a time, and goes on if this command is stopped; see dpj batches.
    """
    if canary is not None:
        from runtime.cli.batches import refuse_mixed

        others = (addresses, document, event, topic, since, until)
        refuse_mixed(canary=True, others=any(others) or len(consumer or ()) > 1)
        group = (consumer[0] if consumer else None, code, error_class)
        _redrive_batch(
            group,
            canary,
            stop_after,
            reason if apply else None,
            limit,
            stack,
            force=force,
            apply=apply,
            as_json=as_json,
        )
        return
    wanted = _filter(consumer, code, error_class, document, event, topic, since, until)

    async def act(actions: OperatorActions, letter: DeadLetter) -> ActionResult:
        return await actions.redrive(letter, apply=apply, cap=cap, force=force)

    results = asyncio.run(on_site(stack, _acting(addresses, wanted, act, rate if apply else None, limit)))
    report_results(results, "redriven" if apply else "would be redriven", apply=apply, as_json=as_json)


def _redrive_batch(
    group: tuple[str | None, str | None, str | None],
    canary: int,
    stop_after: int,
    reason: str | None,
    limit: int,
    stack: str | None,
    *,
    force: bool,
    apply: bool,
    as_json: bool,
) -> None:
    """Plan a group's letters; with ``apply`` confirm the plan and follow its batch."""
    from domain.batches import MOST_ITEMS, Act, ActRequest
    from runtime.cli.batches import run_as_batch

    consumer, code, error_class = group
    request = ActRequest(
        act=Act.REDRIVE,
        consumer=consumer,
        code=code,
        error_class=error_class,
        force=force,
        limit=min(limit, MOST_ITEMS),
    )
    run_as_batch(request, stack, canary=canary, stop_after=stop_after, reason=reason, apply=apply, as_json=as_json)


@app.command()
def discard(
    reason: Reason,
    addresses: Addresses = None,
    consumer: Consumers = None,
    code: Code = None,
    error_class: ErrorClass = None,
    document: DocumentId = None,
    event: EventId = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    apply: Apply = False,
    limit: Limit = 1_000,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Take letters off the list for good; their documents stay what they are. A dry run without --apply."""
    wanted = _filter(consumer, code, error_class, document, event, topic, since, until)
    because = checked_reason(reason)

    async def act(actions: OperatorActions, letter: DeadLetter) -> ActionResult:
        return await actions.discard(letter, because, apply=apply)

    results = asyncio.run(on_site(stack, _acting(addresses, wanted, act, None, limit)))
    report_results(results, "discarded" if apply else "would be discarded", apply=apply, as_json=as_json)


@app.command()
def held(
    consumer: Annotated[
        list[str] | None, typer.Option("--consumer", help="Only events that it holds; may be repeated.")
    ] = None,
    dependency: Annotated[str | None, typer.Option(help="Only events that wait for it: ged, smtp, kafka ...")] = None,
    code: Code = None,
    summary: Annotated[bool, typer.Option("--summary", help="One line per consumer, dependency and code.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Events that workers hold now, for what, since when; longest held first."""
    names = _consumers(consumer)

    async def work(site: Site) -> list[dict[str, Any]]:
        # A summary is of all of them: workers hold as many as their lanes take, and no more.
        most = MOST_HELD if summary else limit + 1
        found = await site.operations().held(most, consumers=names, waiting_for=dependency, code=code)
        return [_holding(one) for one in found]

    rows = asyncio.run(on_site(stack, work))
    if summary:
        _print_held_groups(rows, as_json=as_json)
        return
    rows, more = rows[:limit], len(rows) > limit
    if not as_json and not rows:
        print_result(None, ["No event is held."], as_json=False)
        return
    lines = table(
        ("CONSUMER\nCODE", "EVENT\nDOCUMENT", "HELD\nFOR", "TRIES"),
        [
            (
                (row["consumer"], row["code"]),
                (row["event_id"], row["document"]),
                (ago(row["since"], past=False), "giving up" if row["given_up_reason"] else row["waiting_for"]),
                str(row["attempts"]),
            )
            for row in rows
        ],
    )
    print_result({"held": rows, "more": more}, lines, as_json=as_json)
    if more and not as_json:
        print_note(f"There are more than {limit}: give --limit, a filter, or --summary.")


def _print_held_groups(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Longest held first."""
    groups: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        group = groups.setdefault(
            (row["consumer"], row["waiting_for"], row["code"]),
            {
                "consumer": row["consumer"],
                "waiting_for": row["waiting_for"],
                "code": row["code"],
                "count": 0,
                "since": row["since"],
                "attempts": 0,
            },
        )
        group["count"] += 1
        group["attempts"] = max(group["attempts"], row["attempts"])
    lines = table(
        ("CONSUMER", "WAITS FOR", "CODE", "EVENTS", "SINCE", "MOST TRIES"),
        [
            (
                group["consumer"],
                group["waiting_for"],
                group["code"],
                str(group["count"]),
                ago(group["since"]),
                str(group["attempts"]),
            )
            for group in groups.values()
        ],
    )
    print_result({"groups": list(groups.values())}, lines if groups else ["No event is held."], as_json=as_json)


@app.command(name="give-up")
def give_up(
    consumer: Annotated[str, typer.Option(help="Who holds it.")],
    event: Annotated[str, typer.Option(help="Id of the event, as held gives it.")],
    reason: Reason,
    apply: Apply = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Have a consumer give up one event that it holds, as if it could never be processed. A dry run without --apply."""
    event_id, because = uuid_of(event), checked_reason(reason)

    async def work(site: Site) -> list[tuple[str, ActionResult]]:
        await site.codec.check()
        result = await site.operator_actions(operator_name()).give_up(consumer, event_id, because, apply=apply)
        return [(str(event_id), result)]

    results = asyncio.run(on_site(stack, work))
    report_results(results, "given up" if apply else "would be given up", apply=apply, as_json=as_json)


@app.command()
def index(
    anew: Annotated[bool, typer.Option("--anew", help="From the beginning of the topics.")] = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Take letters that the index lacks into it, from their topics; the relay does so by itself when it starts."""

    async def work(site: Site) -> int:
        return await site.fill_letter_index(anew=anew)

    count = asyncio.run(on_site(stack, work))
    print_result({"indexed": count}, [f"{count} letter(s) taken into the index."], as_json=as_json)


# --- reading ---------------------------------------------------------------------------------------------------------


def _filter(
    consumer: list[str] | None,
    code: str | None,
    error_class: str | None,
    document: str | None,
    event: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
) -> DeadLetterFilter:
    from operations.kafka.dead_letters import DeadLetterFilter

    return DeadLetterFilter(
        consumers=_consumers(consumer),
        code=code,
        error_class=error_class,
        document=None if document is None else str(uuid_of(document)),
        event=None if event is None else str(uuid_of(event)),
        topic=topic,
        since=moment(since),
        until=moment(until),
    )


def _consumers(names: list[str] | None) -> tuple[str, ...]:
    """Raises CommandFailed for a name that is none."""
    from domain.consumers import CONSUMERS

    unknown = [name for name in names or () if name not in CONSUMERS]
    if unknown:
        raise CommandFailed(f"There is no consumer {unknown[0]!r}.", f"Consumers are {', '.join(CONSUMERS)}.")
    return tuple(names or ())


async def _each(
    site: Site, wanted: DeadLetterFilter, take: Callable[[DeadLetter, OperatorMark | None], Awaitable[bool]]
) -> None:
    """Give letters with their marks to ``take`` until it answers no."""
    from itertools import islice

    from operations.kafka.dead_letters import read_dead_letters
    from runtime.config.transport import kafka_security

    reading = read_dead_letters(site.settings.kafka_bootstrap, wanted, security=kafka_security(site.settings))
    operations = site.operations()
    try:
        while batch := await asyncio.to_thread(lambda: list(islice(reading, BATCH))):
            marks = await operations.marks([letter.place for letter in batch])
            for letter in batch:
                if not await take(letter, marks.get(letter.place)):
                    return
    finally:
        with suppress(ValueError):  # interrupted while it was being read from: then it ends with its thread
            await asyncio.to_thread(reading.close)


async def _letter(site: Site, address: str) -> DeadLetter:
    """Raises CommandFailed if there is none."""
    from operations.kafka.dead_letters import AddressInvalid, parse_address, read_dead_letter
    from runtime.config.transport import kafka_security

    try:
        place = parse_address(address)
    except AddressInvalid:
        raise CommandFailed(
            f"{address} is no address of a letter.", "Addresses look like archiving/0/12; see: dpj dlq list"
        ) from None
    security = kafka_security(site.settings)
    letter = await asyncio.to_thread(read_dead_letter, site.settings.kafka_bootstrap, *place, security=security)
    if letter is None:
        raise CommandFailed(f"There is no letter at {address}.", "See: dpj dlq list --all", code="letter_missing")
    return letter


def _acting(
    addresses: list[str] | None,
    wanted: DeadLetterFilter,
    act: Callable[[OperatorActions, DeadLetter], Awaitable[ActionResult]],
    rate: float | None,
    limit: int,
) -> Callable[[Site], Awaitable[list[tuple[str, ActionResult]]]]:
    """``act`` on the letters at ``addresses``, else on those that ``wanted`` takes, ``rate`` per second."""
    if bool(addresses) is not wanted.is_empty:
        raise CommandFailed("Which letters?", "Give either addresses or filters; see: dpj dlq list", code="which")

    async def work(site: Site) -> list[tuple[str, ActionResult]]:
        await site.codec.check()
        actions = site.operator_actions(operator_name())
        results: list[tuple[str, ActionResult]] = []
        began = time.monotonic()

        async def one(letter: DeadLetter, mark: OperatorMark | None) -> bool:
            if mark is not None and not addresses:
                return True
            if rate is not None:
                await asyncio.sleep(began + len(results) / rate - time.monotonic())
            results.append((letter.place.address, await act(actions, letter)))
            return len(results) < limit

        if addresses:
            for address in dict.fromkeys(addresses):
                await one(await _letter(site, address), None)
        else:
            await _each(site, wanted, one)
        return results

    return work


# --- telling ---------------------------------------------------------------------------------------------------------


def _row(letter: DeadLetter, mark: OperatorMark | None) -> dict[str, Any]:
    return {
        "address": letter.place.address,
        "written_at": datetime.fromtimestamp(letter.place.written_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "consumer": letter.consumer,
        "code": letter.code,
        "error_class": letter.error_class,
        "event_id": letter.event_id and str(letter.event_id),
        "document": letter.entity_id,
        "origin": letter.origin,
        "replays": letter.replays,
        "handled": mark and {"act": mark.act, "by": mark.actor, "reason": mark.reason, "at": mark.at.isoformat()},
    }


def _fields(event: Any) -> dict[str, Any]:
    from dataclasses import asdict

    fields = {name: value if isinstance(value, int) else str(value) for name, value in asdict(event).items()}
    return {"type": type(event).__name__, **fields}


def _described(shown: dict[str, Any]) -> list[str]:
    lines = [f"Letter      {shown['address']}, written {shown['written_at']}", f"Record      {shown['origin']}"]
    if shown["handled"]:
        handled = shown["handled"]
        lines.append(f"Handled     {handled['act'].lower()} {handled['at'][:19]} by {handled['by']}")
    if shown["cut_bytes"]:
        lines += [f"Cut         its {shown['cut_bytes']} bytes are not in the letter; they stand at the record's place"]
    lines += ["", "Headers", *(f"  {name:<22} {value}" for name, value in shown["headers"].items()), ""]
    if shown["event"] is None:
        return [*lines, "Event       can't be read by this release" if not shown["cut_bytes"] else "Event       cut"]
    return [*lines, "Event", *(f"  {name:<22} {value}" for name, value in shown["event"].items())]


def _holding(one: HeldEventStatus) -> dict[str, Any]:
    event = one.event
    return {
        "consumer": event.consumer,
        "event_id": str(event.event_id),
        "document": event.document_key,
        "record": f"{event.topic}/{event.partition}/{event.offset}",
        "code": event.code,
        "waiting_for": event.waiting_for,
        "attempts": event.attempts,
        "since": one.since.isoformat(),
        "last_try": one.noted_at.isoformat(),
        "given_up_reason": one.given_up_reason,
    }
