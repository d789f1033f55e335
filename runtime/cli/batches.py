"""``dpj batches``: acts of operators on many things, which the relay carries out; and the way from a plan to its batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import ago, checked_reason, on_site, table, uuid_of
from runtime.cli.output import AsJson, Stack, print_note, print_result
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.batches import ActRequest, Batch, BatchItem, Plan
    from processors.operators.batches import Batches, Confirmation, Operator
    from runtime.wiring.site import Site

app = typer.Typer(help="Batches: acts on many things that the relay carries out.", no_args_is_help=True)

#: Between two looks of who waits for a batch.
LOOK_SECONDS: Final = 0.5
#: Items that are read at once.
PAGE: Final = 1_000

Id = Annotated[str, typer.Argument(metavar="ID", help="As list gives it.")]


@app.command(name="list")
def list_batches(
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20, stack: Stack = None, as_json: AsJson = False
) -> None:
    """The newest batches."""

    async def work(site: Site) -> list[Batch]:
        batches, who = _desk(site)
        return list(await batches.list(who, limit))

    rows = [shown(one) for one in asyncio.run(on_site(stack, work))]
    lines = ["There are no batches."]
    if rows:
        lines = table(
            ("BATCH\nAGE", "ACT\nSTATE", "ITEMS"),
            [
                (
                    (row["id"], ago(row["created_at"])),
                    (row["act"], row["state"] + (f" ({row['stopped']})" if row["stopped"] else "")),
                    _counts(row["counts"]),
                )
                for row in rows
            ],
        )
    print_result({"batches": rows}, lines, as_json=as_json)


@app.command()
def show(batch_id: Id, stack: Stack = None, as_json: AsJson = False) -> None:
    """One batch: each item with its result, and which redriven letters came back."""
    wanted = uuid_of(batch_id)

    async def work(site: Site) -> tuple[Batch, list[BatchItem]]:
        batches, who = _desk(site)
        return await batches.get(who, wanted), list(await batches.items(who, wanted, limit=PAGE))

    batch, items = asyncio.run(on_site(stack, work))
    document, lines = described(batch, items)
    print_result(document, lines, as_json=as_json)


@app.command(name="continue")
def go_on(batch_id: Id, stack: Stack = None, as_json: AsJson = False) -> None:
    """Have the rest done: after a look at the canary, or after a stop."""
    _moved(batch_id, "go_on", stack, as_json=as_json)


@app.command()
def stop(batch_id: Id, stack: Stack = None, as_json: AsJson = False) -> None:
    """Begin no further item; what is done stays done."""
    _moved(batch_id, "stop", stack, as_json=as_json)


@app.command()
def confirm(batch_id: Id, stack: Stack = None, as_json: AsJson = False) -> None:
    """Confirm as the second person what another operator has ordered."""
    _moved(batch_id, "second", stack, as_json=as_json)


def _moved(batch_id: str, how: str, stack: str | None, *, as_json: bool) -> None:
    wanted = uuid_of(batch_id)

    async def work(site: Site) -> Batch:
        await site.codec.check()
        batches, who = _desk(site)
        act: Any = getattr(batches, how)
        moved: Batch = await act(who, wanted)
        return moved

    batch = asyncio.run(on_site(stack, work))
    print_result(shown(batch), [f"{batch.id}  {batch.state.value}  {_counts(batch.counts)}"], as_json=as_json)


async def planned_and_confirmed(site: Site, request: ActRequest, confirmation_of: Any) -> tuple[Plan, Batch | None]:
    """The plan of a request, and its batch if ``confirmation_of`` gives a confirmation of it. Waits while the relay carries it out."""
    await site.codec.check()
    batches, who = _desk(site)
    plan = await batches.plan(who, request)
    confirmation: Confirmation | None = confirmation_of(plan)
    if confirmation is None or not plan.counts.get("done"):
        return plan, None
    batch = await batches.confirm(who, request, confirmation)
    return plan, await _followed(batches, who, batch.id)


def run_as_batch(
    request: ActRequest,
    stack: str | None,
    *,
    canary: int | None,
    stop_after: int,
    reason: str | None,
    apply: bool,
    as_json: bool,
) -> None:
    """Tell the plan of a request; with ``apply`` confirm it and follow its batch."""
    from processors.operators.batches import Confirmation

    if apply and reason is None:
        raise CommandFailed("A batch has a reason.", "Give --reason INC-1234.", code="usage")
    because = checked_reason(reason) if reason is not None else ""

    def confirmation_of(plan: Plan) -> Confirmation | None:
        if not apply:
            return None
        return Confirmation(plan_hash=plan.hash, reason=because, canary=canary, stop_after=stop_after)

    async def work(site: Site) -> tuple[Plan, Batch | None]:
        return await planned_and_confirmed(site, request, confirmation_of)

    plan, batch = asyncio.run(on_site(stack, work))
    told, lines = plan_lines(plan)
    if batch is not None:
        lines += [f"Batch {batch.id}: {batch.state.value}. See: dpj batches show {batch.id}"]
        if batch.state.value in {"LOOK", "STOPPED"}:
            lines += [f"The rest, once its events came through: dpj batches continue {batch.id}"]
    elif not apply:
        lines += ["A dry run: --apply --reason does it."]
    print_result({"plan": told, "batch": batch and shown(batch)}, lines, as_json=as_json)


async def _followed(batches: Batches, who: Operator, batch_id: UUID) -> Batch:
    """The batch once it is no longer under way; progress is told. Ctrl-C leaves it to the relay."""
    from domain.batches import UNDER_WAY

    told = ""
    while True:
        batch = await batches.get(who, batch_id)
        if (line := f"{batch.state.value.lower()}: {_counts(batch.counts)}") != told:
            told = line
            print_note(line)
        if batch.state not in UNDER_WAY:
            return batch
        await asyncio.sleep(LOOK_SECONDS)


def plan_lines(plan: Plan) -> tuple[dict[str, Any], list[str]]:
    """A plan for programs and for people: what would be done how often, and why not."""
    groups = [{"outcome": outcome, "note": note, "count": count} for outcome, note, count in plan.notes]
    left_out = [{"note": note, "count": count} for note, count in sorted(plan.left_out.items())]
    document = {
        "hash": plan.hash,
        "more": plan.more,
        "counts": dict(plan.counts),
        "forecast": groups,
        "left_out": left_out,
    }
    words = {"done": "would be done", "handled": "handled before", "refused": "REFUSED"}
    lines = [f"{group['count']:>6}  {words[str(group['outcome'])]}: {group['note']}" for group in groups]
    lines += [f"{one['count']:>6}  left out: {one['note']}" for one in left_out]
    if plan.more:
        lines.append("There are more: plan again after this batch, or give --limit.")
    return document, lines or ["Nothing found."]


def described(batch: Batch, items: list[BatchItem]) -> tuple[dict[str, Any], list[str]]:
    """A batch with its items for programs and for people."""
    document = shown(batch) | {
        "items": [
            {
                "item": item.name,
                "forecast": item.forecast,
                "result": item.result,
                "note": item.note,
                "came_back": item.came_back,
                "done_at": item.done_at and item.done_at.isoformat(),
            }
            for item in items
        ]
    }
    stopped = f" ({batch.stopped})" if batch.stopped else ""
    lines = [
        f"{batch.id}  {batch.request.act.value}  {batch.state.value}{stopped}  {_counts(batch.counts)}",
        *(
            f"  {item.name}  {item.result or 'waiting'}: {item.note}{'  CAME BACK' if item.came_back else ''}"
            for item in items
        ),
    ]
    return document, lines


def shown(batch: Batch) -> dict[str, Any]:
    """A batch as JSON has it."""
    return {
        "id": str(batch.id),
        "act": batch.request.act.value,
        "request": batch.request.as_json(),
        "plan_hash": batch.plan_hash,
        "state": batch.state.value,
        "stopped": batch.stopped,
        "by": batch.actor,
        "reason": batch.reason,
        "second": batch.second,
        "canary": batch.canary,
        "stop_after": batch.stop_after,
        "counts": dict(batch.counts),
        "created_at": batch.created_at and batch.created_at.isoformat(),
        "changed_at": batch.changed_at and batch.changed_at.isoformat(),
    }


def _counts(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no items"


def _desk(site: Site) -> tuple[Batches, Operator]:
    from processors.operators.batches import Operator
    from runtime.wiring.operators import batches

    return batches(site), Operator(actor=site.operator(operator_name()))


def refuse_mixed(*, canary: bool, others: bool) -> None:
    """A batch is planned over the index, which knows no other filters. Raises CommandFailed."""
    if canary and others:
        raise CommandFailed(
            "A batch selects letters by --consumer, --code and --error-class alone.",
            "Leave the other filters out, or leave --canary out.",
            code="usage",
        )
