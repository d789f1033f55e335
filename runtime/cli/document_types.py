"""``dpj types``: document types, what each takes and asks for, and changing it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import Apply, Reason, checked_reason, on_site, table
from runtime.cli.output import AsJson, Stack, print_result
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.documents import DocumentType
    from processors.operators.document_types import ChangedType
    from runtime.wiring.site import Site

app = typer.Typer(help="Document types: what each takes, and changing it.", no_args_is_help=True)

Code = Annotated[str, typer.Argument(metavar="TYPE", help="As list gives it.")]
_THREE = "yes, no, or default: as the site's settings say."


@app.command(name="list")
def list_types(stack: Stack = None, as_json: AsJson = False) -> None:
    """All types with their options."""
    rows = [_document(one) for one in asyncio.run(on_site(stack, _types))]
    lines = table(
        ("TYPE", "ACTIVE", "MB", "YEARS", "ARCHIVED", "DUTIES\nBY TWO", "FORMATS"),
        [
            (
                row["type"],
                _word(row["active"]),
                str(row["max_mb"]),
                str(row["retention_years"]),
                _word(row["archived"]),
                (_word(row["separation_of_duties"]), _word(row["erasure_by_two"])),
                tuple(row["formats"]),
            )
            for row in rows
        ],
    )
    print_result({"types": rows}, lines, as_json=as_json)


@app.command()
def show(code: Code, stack: Stack = None, as_json: AsJson = False) -> None:
    """One type with its options."""
    found = [one for one in asyncio.run(on_site(stack, _types)) if one.code == code]
    if not found:
        raise CommandFailed(f"No document type is called {code}.", "See them: dpj types list", code="type_unknown")
    row = _document(found[0])
    lines = [f"{name.replace('_', ' '):<22}{_text(value)}" for name, value in row.items()]
    print_result(row, lines, as_json=as_json)


@app.command(name="set")
def set_options(
    code: Code,
    reason: Reason,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="MEDIA-TYPE", help="All that it is to take, e.g. application/pdf; repeat it."),
    ] = None,
    max_mb: Annotated[int | None, typer.Option("--max-mb", help="MB of 1024 * 1024 bytes.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it takes new documents.")] = None,
    archived: Annotated[
        bool | None, typer.Option("--archived/--not-archived", help="Whether its documents go to the GED.")
    ] = None,
    retention_years: Annotated[
        int | None, typer.Option("--retention-years", help="Of documents still to come, if it is shorter.")
    ] = None,
    separation_of_duties: Annotated[str | None, typer.Option(help=f"Who deposited may not decide: {_THREE}")] = None,
    erasure_by_two: Annotated[str | None, typer.Option(help=f"Erasing takes two persons: {_THREE}")] = None,
    apply: Apply = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Change a type for all tenants, at once: a dry run without --apply. What is not named stays as it is."""
    because = checked_reason(reason)

    async def work(site: Site) -> ChangedType:
        from processors.operators.batches import Operator
        from processors.operators.document_types import TypeChange
        from runtime.wiring.operators import document_type_options

        change = TypeChange(
            formats=formats or None,
            max_megabytes=max_mb,
            active=active,
            archived=archived,
            retention_years=retention_years,
            duties_separated=separation_of_duties,
            erased_by_two=erasure_by_two,
        )
        await site.codec.check()
        who = Operator(actor=site.operator(operator_name()))
        return await document_type_options(site).change(who, code, change, because, apply=apply)

    found = asyncio.run(on_site(stack, work))
    changes = {name: {"before": before, "after": after} for name, (before, after) in found.changes.items()}
    lines = [
        f"{code}  {name.replace('_', ' ')}: {_text(one['before'])} -> {_text(one['after'])}"
        for name, one in changes.items()
    ]
    if not changes:
        lines = [f"{code} is so already."]
    elif not apply:
        lines.append("(dry run: --apply does it)")
    shown = found.after if apply else found.before
    print_result({"applied": apply, "changes": changes, **_document(shown)}, lines, as_json=as_json)


async def _types(site: Site) -> Sequence[DocumentType]:
    from storage.postgres.queries import PostgresQueries

    return await PostgresQueries(site.postgres).types()


def _document(rule: DocumentType) -> dict[str, Any]:
    from processors.operators.document_types import options_of

    return {"type": rule.code, "label": rule.label, **options_of(rule)}


def _word(value: bool | None) -> str:
    return "default" if value is None else "yes" if value else "no"


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return _word(value) if value is None or isinstance(value, bool) else str(value)
