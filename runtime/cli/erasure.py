"""Erasing documents, and keeping them: ``dpj erasure``, ``dpj hold``, ``dpj retention``, ``dpj purge``.

What concerns one document goes through the HTTP API with an operator's token; ``purge`` works on the site itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli.documents import DocumentId, Tenant, api
from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import ago, on_site, table
from runtime.cli.output import AsJson, Stack, print_result
from runtime.errors import CommandFailed
from runtime.processes.local_stack import DEFAULT_TENANT

if TYPE_CHECKING:
    from domain.retention import DueDocumentCount
    from runtime.wiring.site import Site

app = typer.Typer(help="Erase documents, with a signed receipt.", no_args_is_help=True)
holds = typer.Typer(help="Legal holds: while one stands, a document is not erased.", no_args_is_help=True)
retention = typer.Typer(help="Until when documents are kept.", no_args_is_help=True)

Reason = Annotated[str, typer.Option("--reason", help="A code or ticket, never a name.")]
Reference = Annotated[str, typer.Option("--reference", help="Names the hold: a case or file number.")]


@app.command(name="request")
def request(
    document_id: DocumentId,
    reason: Reason,
    legal_basis: Annotated[
        str | None, typer.Option("--legal-basis", help="GDPR_17_1_A to _F, COURT_ORDER; needed before retention ends.")
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Erase a document: from the answer on nothing of it can be read. THERE IS NO WAY BACK."""
    with api(stack, "operator", tenant) as client:
        shown = client.erase(document_id, reason, legal_basis)
    lines = [f"{shown['document_id']}  {shown['status']}"]
    if order := shown.get("order"):
        lines = [f"{shown['document_id']}  NOT ERASED YET, ordered", *_order_lines(order)]
    print_result(shown, lines, as_json=as_json)


@app.command(name="order")
def order(
    document_id: DocumentId, tenant: Tenant = DEFAULT_TENANT, stack: Stack = None, as_json: AsJson = False
) -> None:
    """The order to erase a document that waits for another operator."""
    with api(stack, "operator", tenant) as client:
        shown = client.erasure_order(document_id)
    print_result(shown, [f"{shown['document_id']}  {shown['reason']}", *_order_lines(shown)], as_json=as_json)


@app.command(name="confirm")
def confirm(
    document_id: DocumentId,
    order_id: Annotated[str, typer.Option("--order", help="The order's id, as its reader was shown it.")],
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Erase a document that ANOTHER operator ordered to be erased. THERE IS NO WAY BACK."""
    with api(stack, "operator", tenant) as client:
        shown = client.confirm_erasure(document_id, order_id)
    print_result(shown, [f"{shown['document_id']}  {shown['status']}"], as_json=as_json)


@app.command(name="withdraw")
def withdraw(
    document_id: DocumentId,
    order_id: Annotated[str, typer.Option("--order", help="The order's id, as request told it.")],
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Take back an order to erase a document that YOU gave and nobody has confirmed."""
    with api(stack, "operator", tenant) as client:
        shown = client.withdraw_erasure(document_id, order_id)
    print_result(shown, [f"{shown['document_id']}  {shown['status']}  order withdrawn"], as_json=as_json)


@app.command(name="receipt")
def receipt(
    document_id: DocumentId,
    to: Annotated[
        Path | None, typer.Option("--to", dir_okay=False, help="Write it there, as it can be verified.")
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """The signed receipt of an erasure, which verifier/dpj_verify.py verifies without a site."""
    from domain.shared.jws import payload_of

    with api(stack, "operator", tenant) as client:
        text = client.erasure_receipt(document_id)
    try:
        fields = payload_of(text)
    except ValueError:
        raise CommandFailed("The API's answer is no receipt.", "Is it another program's? See DPJ_API_PORT.") from None
    if to is not None:
        to.write_text(text, "ascii")
    print_result({"receipt": fields, "jws": text}, _receipt_lines(fields), as_json=as_json)


@holds.command(name="set")
def set_hold(
    document_id: DocumentId,
    reference: Reference,
    reason: Reason,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Set a legal hold."""
    with api(stack, "operator", tenant) as client:
        _kept(client.set_hold(document_id, reference, reason), as_json=as_json)


@holds.command(name="lift")
def lift_hold(
    document_id: DocumentId,
    reference: Reference,
    reason: Reason,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Lift a legal hold; others stay."""
    with api(stack, "operator", tenant) as client:
        _kept(client.lift_hold(document_id, reference, reason), as_json=as_json)


@retention.command(name="show")
def show_retention(
    document_id: DocumentId, tenant: Tenant = DEFAULT_TENANT, stack: Stack = None, as_json: AsJson = False
) -> None:
    """Until when a document is kept, and its legal holds."""
    with api(stack, "operator", tenant) as client:
        _kept(client.retention(document_id), as_json=as_json)


@retention.command(name="extend")
def extend_retention(
    document_id: DocumentId,
    until: Annotated[str, typer.Option(help="2040-01-01, or with a time and zone.")],
    reason: Reason,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Keep a document longer; a retention is never made shorter."""
    from datetime import UTC, datetime

    try:
        at = datetime.fromisoformat(until)
    except ValueError:
        raise CommandFailed(f"{until!r} is no time.", "Give 2040-01-01 or 2040-01-01T00:00+01:00.") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    with api(stack, "operator", tenant) as client:
        _kept(client.extend_retention(document_id, at.isoformat(), reason), as_json=as_json)


def purge(
    apply: Annotated[bool, typer.Option("--apply", help="Erase what is due; else only tell.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Documents a second.  [default: DPJ_PURGE_RATE]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Documents whose retention has ended: tell, or erase with --apply. THERE IS NO WAY BACK."""
    import asyncio

    from runtime.observability.telemetry import configure_logging

    configure_logging("purge", level="CRITICAL")  # the report says it all

    async def work(site: Site) -> tuple[Sequence[DueDocumentCount], int]:
        from runtime.processes.erasure_jobs import create_purge

        run = create_purge(site, operator_name())
        due = await run.survey()
        if not apply:
            return due, 0
        await site.codec.check()
        return due, await run.run(per_second=rate or site.settings.purge_rate, limit=limit)

    due, asked = asyncio.run(on_site(stack, work))
    groups = [
        {"tenant": one.tenant, "type": one.type_code, "due": one.count, "held": one.held, "oldest": one.oldest}
        for one in due
    ]
    document = {"apply": apply, "due": sum(one.count for one in due), "asked": asked, "groups": groups}
    print_result(document, _due_lines(due, asked, apply=apply), as_json=as_json)


def _due_lines(due: Sequence[DueDocumentCount], asked: int, *, apply: bool) -> Iterator[str]:
    if not due:
        yield "Nothing is due."
        return
    rows = [(one.tenant, one.type_code, str(one.count), str(one.held), ago(one.oldest.isoformat())) for one in due]
    yield from table(("TENANT", "TYPE", "DUE", "HELD", "LONGEST DUE"), rows)
    yield f"{asked} are being erased." if apply else "Dry run: --apply erases what is due and not held."


def _order_lines(order: dict[str, Any]) -> Iterator[str]:
    yield f"  by {order['ordered_by']}, good until {order['expires_at'][:16]} UTC"
    yield f"  another operator: dpj erasure confirm {order['document_id']} --order {order['id']}"
    yield f"  take it back:     dpj erasure withdraw {order['document_id']} --order {order['id']}"


def _kept(shown: dict[str, Any], *, as_json: bool) -> None:
    lines = [f"{shown['document_id']}  {shown['status']}  kept until {shown['until'][:10]}"]
    for hold in shown["holds"]:
        state = "STANDS" if hold["lifted_at"] is None else f"lifted {hold['lifted_at'][:10]}"
        lines.append(f"  hold {hold['reference']}  {state}  {hold['reason']}  set {hold['set_at'][:10]}")
    print_result(shown, lines, as_json=as_json)


def _receipt_lines(fields: dict[str, Any]) -> Iterator[str]:
    yield f"Document {fields['document']['id']} ({fields['document']['type']}), erased at {fields['completed_at']}"
    yield f"Asked for by {fields['request']['by']}: {fields['request']['reason']}, {fields['request']['legal_basis']}"
    yield "Destroyed:"
    for one in fields["destroyed"]:
        yield f"  {one['what']} ({one['where']})"
    yield "Remains:"
    for one in fields["remains"]:
        until = f" until {one['until'][:10]}" if one["until"] else ""
        yield f"  {one['what']} ({one['where']}){until}: {one['why']}"
