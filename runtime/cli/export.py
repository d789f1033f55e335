"""``dpj export``: what leaves production for who may not see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from domain.anonymising import Sizes, Times
from runtime.cli.operator_options import Reason, acting_as, checked_reason, on_site
from runtime.cli.output import AsJson, Stack, print_result
from runtime.cli.progress import progress_bars

if TYPE_CHECKING:
    from collections.abc import Callable

    from operations.export.anonymised_export import ExportProgress, ExportRequest, ExportResult
    from runtime.wiring.site import Site

app = typer.Typer(help="Data for who may not see production.", no_args_is_help=True)


@app.callback()
def export() -> None:
    """So that there is room for more commands than one."""


@app.command()
def anonymised(
    tenant: Annotated[str, typer.Option(help="Whose documents.")],
    to: Annotated[Path, typer.Option(file_okay=False, help="A new or empty folder.")],
    reason: Reason,
    times: Annotated[
        Times, typer.Option(help="The day alone; all earlier by one secret span; or as they are, WHICH TELLS MORE.")
    ] = Times.DAY,
    sizes: Annotated[
        Sizes, typer.Option(help="In bytes, by which documents can be recognised, or of two digits.")
    ] = Sizes.EXACT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Documents, timelines and audit entries as JSON lines, without contents, names, addresses or ids of production. For operators."""
    from domain.documents import Role
    from operations.export.anonymised_export import ExportRequest
    from runtime.observability.telemetry import configure_logging

    configure_logging("export", level="CRITICAL")  # the answer says it all
    role = Role.OPERATOR
    wanted = ExportRequest(
        tenant=tenant, folder=to, role=role.value, reason=checked_reason(reason), times=times, sizes=sizes
    )
    with _progress(quiet=as_json) as on_progress:

        async def work(site: Site) -> ExportResult:
            await site.codec.check()
            return await _export(site, wanted, await acting_as(site, role, tenant), on_progress)

        written = asyncio.run(on_site(stack, work, minds_bounds=True))
    document = {"export": str(written.id), "folder": written.folder, "lines": dict(written.lines)}
    lines = [f"{count:>10}  {name}" for name, count in written.lines.items()]
    print_result(document, [*lines, f"Export {written.id} in {written.folder}"], as_json=as_json)


async def _export(
    site: Site, wanted: ExportRequest, actor: str, on_progress: Callable[[ExportProgress], None]
) -> ExportResult:
    from crypto.export_pseudonyms import ExportPseudonyms
    from operations.export.anonymised_export import AnonymisedExport
    from storage.postgres.audit.chain import PostgresUnflushedEntries
    from storage.postgres.export import PostgresExportRows

    rows, pending = PostgresExportRows(site.postgres), PostgresUnflushedEntries(site.postgres)
    with ExportPseudonyms() as pseudonyms:
        export = AnonymisedExport(rows, site.audit_log, pending, site.database, site.clock, actor)
        return await export.run(wanted, pseudonyms, on_progress)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[ExportProgress], None]]:
    with progress_bars(quiet=quiet) as bars:
        documents, entries = bars.add_task("documents", total=None), bars.add_task("audit entries", total=None)

        def on_progress(progress: ExportProgress) -> None:
            bars.update(documents, completed=progress.documents, total=progress.of_documents)
            bars.update(entries, completed=progress.entries, total=progress.of_entries)

        yield on_progress
