"""What operators' commands share: dry runs, reasons, times, results, tables of 80 columns."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from uuid import UUID

import typer

from domain.shared.terminal_text import visible
from runtime.cli.operator_bounds import bound_tenants, check_bound, operator_name
from runtime.cli.output import print_result, settings_of
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.batches import ActionResult
    from domain.documents import Role
    from domain.orders import Order
    from runtime.wiring.site import Site

COLUMNS: Final = 80

_T = TypeVar("_T")

#: A reason goes into the audit log: a code or a ticket, so that no name or address can slip in.
_REASON: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:#/-]{0,63}")
_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Apply = Annotated[bool, typer.Option("--apply", help="Do it; else only say what would be done.")]
Withdraw = Annotated[
    bool, typer.Option("--withdraw", help="Take back the order that you gave and nobody has confirmed.")
]
OrderId = Annotated[
    str | None,
    typer.Option("--order", help="Confirm what ANOTHER operator ordered; with --withdraw, the order that you gave."),
]
Reason = Annotated[str, typer.Option(help="A code or ticket for the audit log, e.g. INC-1234; no sentence, no name.")]


def checked_reason(text: str) -> str:
    """Raises CommandFailed if it is no code."""
    if not _REASON.fullmatch(text):
        raise CommandFailed(
            "A reason is a code or a ticket: at most 64 letters, digits and . _ : # / -",
            "For example: --reason INC-1234. The audit log holds no sentences, because they may hold names.",
            code="reason_invalid",
        )
    return text


def uuid_of(text: str) -> UUID:
    """Raises CommandFailed if it is none."""
    try:
        return UUID(text)
    except ValueError:
        raise CommandFailed(f"{text!r} is no id.", "Ids look like 0b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57.") from None


def moment(text: str | None) -> int | None:
    """Unix milliseconds of ISO 8601 (UTC unless it says otherwise) or of so long ago. Raises CommandFailed."""
    if text is None:
        return None
    if match := _AGO.fullmatch(text):
        at = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise CommandFailed(f"{text!r} is no time.", "Give 2026-03-01T08:00, or ago as in 90m, 2h, 7d.") from None
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return int(at.timestamp() * 1000)


def ago(iso: str, *, past: bool = True) -> str:
    """How long ago that was, in the unit that suits it."""
    from operations.kafka.lag import duration

    seconds = (datetime.now(UTC) - datetime.fromisoformat(iso)).total_seconds()
    return f"{duration(max(0.0, seconds))}{' ago' if past else ''}"


async def acting_on(site: Site, tenant: str | None) -> None:
    """Who is at the terminal may act on ``tenant``, which an operator has created. What concerns all (None) or no tenant is nobody's who
    is bound.

    Raises TenantNotYours, OperatorBound, TenantUnknown, DatabaseUnavailable.
    """
    from domain.audit_chain import SYSTEM_TENANT

    check_bound(bound_tenants(site.settings), tenant)
    if tenant is not None and tenant != SYSTEM_TENANT:
        await site.tenants.check(tenant)


async def acting_as(site: Site, role: Role, tenant: str | None) -> str:
    """The pseudonym of who acts in ``role`` on ``tenant`` (None: on what concerns them all): whoever DPJ_TOKEN speaks for; on a stack
    that signs tokens itself, who is at the terminal.

    Raises Forbidden, Unauthenticated, IdentityUnavailable, RevocationsUnavailable, TenantNotYours, OperatorBound, TenantUnknown,
    DatabaseUnavailable, or CommandFailed where there is no token.
    """
    from domain.refusals import Forbidden
    from processors.documents.callers import actor_of
    from runtime.wiring.access import token_authenticator

    token = os.environ.get("DPJ_TOKEN")
    if not token:
        if site.settings.jwt_private_key_file is None:
            raise CommandFailed(
                f"This is for the role {role.value}: nobody's token is here.",
                "Get one from this site's identity provider and pass it in DPJ_TOKEN.",
                code="token_needed",
            )
        await acting_on(site, tenant)
        return site.operator(operator_name())
    authenticator = token_authenticator(site.settings, site.signing_keys, site.revoked_tokens)
    identity = await authenticator.authenticate(token)
    if role not in identity.roles:
        raise Forbidden(f"This is for the role {role.value}.")
    await site.tenants.check(identity.tenant)
    check_bound(identity.bound_to, tenant)
    await acting_on(site, tenant)
    return actor_of(site.personal, identity.tenant, identity.subject)


async def retiring_as(site: Site, tenant: str | None, *, apply: bool, order_id: UUID | None) -> str | None:
    """The pseudonym of who retires a key, where that takes two persons: then he is named by his token, as in ``acting_as``. None: one
    person does, and who is at the terminal will do."""
    from domain.documents import Role

    if not apply or not (site.settings.key_retirement_second_person or order_id):
        return None
    return await acting_as(site, Role.OPERATOR, tenant)


def check_withdrawal(order_id: UUID | None, *, apply: bool) -> None:
    """Raises CommandFailed unless ``--withdraw`` names an order, and asks for nothing else."""
    if order_id is None or apply:
        raise CommandFailed(
            "--withdraw takes back one order, and applies nothing.", "Give --order ORDER, no --apply.", code="usage"
        )


def order_document(order: Order, again: str, *, withdrawn: bool = False) -> tuple[dict[str, Any], list[str]]:
    """An order for programs, and for people: ``again`` is the command that confirms it, without the order's id."""
    said = {
        "order": str(order.id),
        "act": order.act.value,
        "subject": order.subject,
        "ordered_by": order.ordered_by,
        "expires_at": order.expires_at.isoformat(),
        "withdrawn": withdrawn,
        **order.parameters,
    }
    if withdrawn:
        return said, [f"{order.id}  withdrawn: it can't be confirmed any more"]
    return said, [
        f"NOT DONE YET: ordered, good until {order.expires_at:%Y-%m-%d %H:%M} UTC",
        f"  another operator: {again} --apply --order {order.id}",
        f"  take it back:     {again} --withdraw --order {order.id}",
    ]


async def on_site(stack: str | None, work: Callable[[Site], Awaitable[_T]], *, minds_bounds: bool = False) -> _T:
    """Run ``work`` with the parts of the stack's settings. ``minds_bounds``: see ``settings_of``."""
    from runtime.wiring.site import Site

    site = Site(settings_of(stack, minds_bounds=minds_bounds))
    try:
        return await work(site)
    finally:
        await site.aclose()


def report_results(results: Sequence[tuple[str, ActionResult]], done: str, *, apply: bool, as_json: bool) -> None:
    """One line per act, then the sum. Exit status 1 if one was refused."""
    rows = [{"what": what, "outcome": result.outcome, "note": result.note} for what, result in results]
    words = {"done": done, "handled": "handled before", "refused": "REFUSED"}
    lines = [f"{row['what']}  {words[row['outcome']]}: {row['note']}" for row in rows]
    counts = {name: sum(row["outcome"] == name for row in rows) for name in words}
    sums = [f"{counts[name]} {words[name].lower()}" for name in words if counts[name]] or ["nothing found"]
    last = "" if apply else " (dry run: --apply does it)"
    print_result({"apply": apply, "results": rows, **counts}, [*lines, f"{', '.join(sums)}{last}"], as_json=as_json)
    if counts["refused"]:
        raise typer.Exit(1)


#: One line, or several.
Cell = str | tuple[str, ...]


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[str]:
    """Lines of at most 80 columns; what is too long is folded. What a terminal would obey in a cell is spelt out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("\n".join(map(visible, (cell,) if isinstance(cell, str) else cell))) for cell in row))
    out = io.StringIO()
    console: Any = Console(file=out, width=COLUMNS, color_system=None, legacy_windows=False)
    console.print(drawn)
    return [line.rstrip() for line in out.getvalue().splitlines()]
