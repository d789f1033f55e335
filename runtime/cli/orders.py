"""``dpj orders``: what one operator ordered and another has to confirm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from runtime.cli.operator_bounds import bound_tenants
from runtime.cli.operator_options import ago, on_site, table
from runtime.cli.output import AsJson, Stack, print_note, print_result

if TYPE_CHECKING:
    from domain.orders import Order
    from runtime.wiring.site import Site

app = typer.Typer(help="Orders: acts that wait for a second person.", no_args_is_help=True)

#: The commands that confirm and withdraw, without the order's id.
_COMMANDS: Final = {
    "document.erasure": ("dpj erasure confirm {subject}", "dpj erasure withdraw {subject}"),
    "key.retirement": ("dpj keys retire --tenant {subject} --apply", "dpj keys retire --tenant {subject} --withdraw"),
    "personal_key.retirement": (
        "dpj personal retire {subject} --apply",
        "dpj personal retire {subject} --withdraw",
    ),
}


@app.callback()
def _group() -> None:
    """One command so far, named all the same."""


@app.command(name="list")
def list_orders(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many orders.")] = 100,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Orders that stand, oldest first, each with the commands that confirm it and take it back. Batches: dpj batches list."""

    async def work(site: Site) -> list[dict[str, Any]]:
        from storage.postgres.orders import PostgresOrderQueries

        bound = bound_tenants(site.settings)
        tenants = None if bound is None else sorted(bound)
        found = await PostgresOrderQueries(site.postgres).open(tenants, None, limit + 1)
        return [_shown(one) for one in found]

    rows = asyncio.run(on_site(stack, work, minds_bounds=True))
    more, rows = len(rows) > limit, rows[:limit]
    lines = ["No order waits for a second person."]
    if rows:
        lines = table(
            ("ORDER\nAGE", "ACT\nSUBJECT", "REASON\nGOOD UNTIL"),
            [
                (
                    (row["order"], ago(row["ordered_at"])),
                    (row["act"], row["subject"]),
                    (row["reason"] or "-", row["expires_at"]),
                )
                for row in rows
            ],
        )
        for row in rows:
            lines += [f"  another operator: {row['confirm']}", f"  take it back:     {row['withdraw']}"]
    print_result({"orders": rows, "more": more}, lines, as_json=as_json)
    if more and not as_json:
        print_note(f"There are more than {limit}: give --limit.")


def _shown(order: Order) -> dict[str, Any]:
    confirm, withdraw = (
        f"{command.format(subject=order.subject)} --order {order.id}" for command in _COMMANDS[order.act.value]
    )
    return {
        "order": str(order.id),
        "act": order.act.value,
        "subject": order.subject,
        "tenant": order.tenant,
        "reason": order.parameters.get("reason"),
        "legal_basis": order.parameters.get("legal_basis"),
        "below_version": order.parameters.get("below_version"),
        "ordered_by": order.ordered_by,
        "ordered_at": order.ordered_at.isoformat(),
        "expires_at": order.expires_at.isoformat(timespec="minutes"),
        "confirmed_by": order.confirmed_by,
        "confirm": confirm,
        "withdraw": withdraw,
    }
