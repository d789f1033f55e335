"""What rows, object store, GED and Kafka say of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from runtime.cli.operator_options import table
from runtime.cli.output import AsJson, Stack, print_result, settings_of
from runtime.cli.progress import progress_bars
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from processors.reconcile.run import ReconcileProgress, ReconcileReport
    from runtime.config.settings import Settings

#: Findings shown to a person; --json has them all.
SHOWN: Final = 20

_MEANINGS: Final = {
    "expired_upload": "uploads under way whose lease ran out",
    "unfinished_put": "parts of uploads that nobody will end",
    "left_object": "objects that their row says are gone",
    "unknown_object": "objects of documents that no row knows",
    "foreign_object": "objects that are not of our making",
    "content_missing": "DOCUMENTS WHOSE CONTENT IS MISSING",
    "content_differs": "DOCUMENTS WHOSE CONTENT IS NOT WHAT IT WAS",
    "thumbnail_missing": "thumbnails missing or not what they were",
    "ged_double": "documents with more than one copy in the GED",
    "left_copy": "copies in the GED of documents that were erased",
    "erased_object": "objects of documents that were erased",
    "left_metadata": "metadata of documents that were erased",
    "event_lost": "events that Kafka lost before all had finished them",
    "metadata_missing": "documents whose extended metadata are missing",
    "ged_missing": "ARCHIVED DOCUMENTS THAT THE GED DOES NOT HAVE",
}


def reconcile(
    apply: Annotated[bool, typer.Option("--apply", help="Repair what can be; else only tell.")] = False,
    grace: Annotated[
        float | None, typer.Option(help="Seconds; what is younger is not looked at.  [default: DPJ_RECONCILE_GRACE]")
    ] = None,
    ged_hours: Annotated[
        float | None,
        typer.Option(help="Look at copies archived so long ago; 0: none.  [default: DPJ_RECONCILE_GED_HOURS]"),
    ] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Compare rows, object store, GED and Kafka; repair with --apply. Exit status 1 if something is wrong afterwards."""
    import asyncio

    from runtime.observability.telemetry import configure_logging

    configure_logging("reconcile", level="CRITICAL")  # the report says it all
    with _progress(quiet=as_json) as on_progress:
        report = asyncio.run(_run(settings_of(stack), apply, grace, ged_hours, on_progress))
    print_result(document_of(report), lines_of(report), as_json=as_json)
    if not report.is_clean:
        raise typer.Exit(1)


async def _run(
    settings: Settings,
    apply: bool,
    grace: float | None,
    ged_hours: float | None,
    on_progress: Callable[[ReconcileProgress], None],
) -> ReconcileReport:
    from domain.errors import DocumentBusy
    from processors.reconcile.run import RepairMode
    from runtime.wiring.site import Site

    site = Site(settings)
    try:
        try:
            run = site.reconcile(grace=grace, ged_hours=ged_hours)
        except ValueError as error:
            raise CommandFailed(
                f"{str(error)[0].upper()}{str(error)[1:]}.", "Give a longer --grace.", code="grace_too_short"
            ) from None
        await site.codec.check()
        return await run.run(RepairMode.ALL if apply else RepairMode.NONE, on_progress)
    except DocumentBusy:
        raise CommandFailed(
            "Another reconciliation is under way.", "Wait until it has ended.", code="reconcile_busy"
        ) from None
    finally:
        await site.aclose()


def document_of(report: ReconcileReport) -> dict[str, Any]:
    """The report for programs."""
    return {
        "clean": report.is_clean,
        "repairs": report.repairs.value,
        "seen": {"objects": report.objects, "rows": report.rows, "archived_copies": report.copies},
        "undone": report.failed_parts,
        "faults": {
            fault.value: {"found": count, "repaired": report.repaired[fault], "repair": fault.repair.value}
            for fault, count in report.found.items()
        },
        "findings": [
            {
                "fault": finding.fault.value,
                "document_id": finding.document_id,
                "tenant": finding.tenant,
                "place": finding.place,
                "repaired": finding.repaired,
                "failed": finding.failed,
                **finding.details,
            }
            for finding in report.findings
        ],
    }


def lines_of(report: ReconcileReport) -> Iterator[str]:
    """The report for a person, 80 columns wide."""
    yield f"Seen: {report.objects} objects, {report.rows} rows, {report.copies} archived copies."
    if report.found:
        yield ""
        counts = [
            (_MEANINGS[fault.value], str(count), str(report.repaired[fault]), _next(report, fault.repair.value))
            for fault, count in report.found.items()
        ]
        yield from table(("WHAT", "FOUND", "REPAIRED", "NEXT"), counts)
        yield ""
        rows = [
            (finding.fault.value, finding.place, _outcome(finding.repaired, finding.failed))
            for finding in report.findings[:SHOWN]
        ]
        yield from table(("FAULT", "PLACE", ""), rows)
        if (more := report.found.total() - len(rows)) > 0:
            yield f"and {more} more" + (": --json has them" if more + len(rows) == len(report.findings) else "")
        yield ""
    for part, code in report.failed_parts.items():
        yield f"NOT LOOKED AT: {part} ({code})."
    if report.is_clean:
        yield "All is in order." if not report.found else "All is in order now."
    elif report.found:
        yield "Something is wrong" + (" still." if report.repairs.value != "none" else "; --apply repairs what it can.")


def _next(report: ReconcileReport, repair: str) -> str:
    if repair == "none":
        return "look at it"
    return "" if report.repairs.value == "all" else "--apply"


def _outcome(repaired: bool, failed: str | None) -> str:
    return "repaired" if repaired else failed or ""


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[ReconcileProgress], None]]:
    from rich.progress import BarColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[seen]}"))
    with progress_bars(*columns, quiet=quiet) as bar:
        task = bar.add_task("uploads", total=None, seen="")

        def on_progress(progress: ReconcileProgress) -> None:
            seen = f"{progress.objects} objects, {progress.rows} rows"
            bar.update(task, description=progress.stage, completed=progress.done, total=progress.of, seen=seen)

        yield on_progress
