"""``dpj restore``: what a restore of any store means, and the steps that put it right."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import Apply, Reason, checked_reason, on_site, table
from runtime.cli.output import AsJson, Stack, print_result
from runtime.cli.progress import progress_bars
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.restores import Difference
    from operations.restore.check import RestoreReport
    from operations.restore.repair import StepResult
    from runtime.wiring.site import Site

app = typer.Typer(help="After a restore: what is missing, what it means, and putting it right.", no_args_is_help=True)

#: Items of a kind shown to a person; --json has the first thousand.
SHOWN: Final = 5

#: Kind -> what it means, and what comes next.
MEANINGS: Final[Mapping[str, tuple[str, str]]] = {
    "erasure_undone": ("ERASED BEFORE, AND THERE AGAIN", "repair: erased again, first of all"),
    "erased_left": ("objects, copies, metadata of what was erased", "repair: deleted again"),
    "erasure_without_row": ("an erasure had begun; the row is gone", "look at the GED for a copy, delete it there"),
    "document_lost": ("ACKNOWLEDGED AND LOST", "tell the portals: --lost-to FILE has all"),
    "archived_without_row": ("in the GED, without a row", "repair: the row is made again"),
    "hold_lost": ("legal holds that stood", "repair: they stand again"),
    "retention_lost": ("retentions that were extended", "repair: extended again"),
    "decision_lost": ("decisions of validators", "they decide again"),
    "mail_sent": ("mails sent about what is forgotten", "nothing: sent again they have the same Message-ID"),
    "chain_behind": ("audit chains behind their log", "repair: go on behind the log"),
    "log_broken": ("THE AUDIT LOG IS NOT WHAT WAS WRITTEN", "dpj audit verify; nothing behind it is believed"),
    "entry_missing": ("entries that the audit log lost", "repair: put back, as far as anybody has them"),
    "metadata_missing": ("extended metadata that are gone", "repair: made again from the content"),
    "object_without_row": ("objects without a row", "nothing is deleted; dpj reconcile once it is ended"),
    "content_missing": ("CONTENT GONE, OR ANOTHER", "restore the object store from its newest backup"),
    "ged_missing": ("ARCHIVED, AND NOT IN THE GED", "restore the GED; the content is in the object store"),
    "event_lost": ("events that Kafka lost", "repair: published again"),
    "topic_missing": ("topics that are gone", "dpj topics create"),
    "schema_missing": ("schemas that are gone", "dpj schemas register"),
}


@app.command()
def begin(
    store: Annotated[str, typer.Option(help="postgresql, mongodb, object-store, registry, kafka or ged.")],
    reason: Reason,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Put a restore on record: until it is ended nothing is deleted. A database that is behind is noticed without it."""
    from domain.restores import RestoredStore

    because = checked_reason(reason)
    try:
        wanted = RestoredStore(store)
    except ValueError:
        names = ", ".join(one.value for one in RestoredStore)
        raise CommandFailed(f"There is no such store: {store}.", f"Stores are {names}.", code="usage") from None

    async def work(site: Site) -> bool:
        return await site.restores.open(wanted, site.operator(operator_name()), because)

    opened = asyncio.run(on_site(stack, work))
    line = f"{store}: {'on record' if opened else 'on record already'}. Nothing is deleted until: dpj restore end"
    print_result({"store": store, "opened": opened}, [line, "Next: dpj restore check"], as_json=as_json)


@app.command()
def status(stack: Stack = None, as_json: AsJson = False) -> None:
    """Restores that are open. Looks whether the database is behind. Exit status 1 if there are any."""

    async def work(site: Site) -> list[dict[str, Any]]:
        return _open(await site.restore_guard.look())

    found = asyncio.run(on_site(stack, work))
    print_result({"open": found}, list(_open_lines(found)) or ["No restore is open."], as_json=as_json)
    if found:
        raise typer.Exit(1)


@app.command()
def end(
    reason: Reason,
    force: Annotated[bool, typer.Option("--force", help="Even if erasures are not done again.")] = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """All is looked at: what was on record is closed, and regular work deletes again what rows say may go.

    Refused while erasures are not done again, or the audit chain is behind its log.
    """
    because = checked_reason(reason)

    async def work(site: Site) -> int:
        from operations.restore.repair import put_on_record
        from runtime.wiring.personal_text_keys import operator_origin

        await site.codec.check()
        found = await site.restore_guard.look()
        if any(not one.erasures_done for one in found) and not force:
            raise CommandFailed(
                "Erasures of before the restore are not done again.",
                "Run: dpj restore repair --reason CODE --apply. Or give --force if there are none to be done.",
                code="restore_open",
            )
        if await site.restore_guard.is_behind():
            raise CommandFailed(
                "The database's audit chain is behind its log.",
                "Run: dpj restore repair --reason CODE --apply",
                code="restore_open",
            )
        closed = await site.restores.close(site.operator(operator_name()))
        if closed:
            origin = operator_origin(site, operator_name())
            await put_on_record(site.database, origin, "restore.ended", {"reason": because, "forced": force})
        return closed

    closed = asyncio.run(on_site(stack, work))
    line = f"{closed} ended: regular work deletes again." if closed else "No restore is open."
    print_result({"closed": closed}, [line], as_json=as_json)


@app.command()
def check(
    lost_to: Annotated[
        Path | None, typer.Option(help="A new file for every document that was acknowledged and is lost: JSON lines.")
    ] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """One report of how the stores disagree and what each difference means. Exit status 1 if something is to be done.

    Changes nothing, but puts a restore on record if the database is behind.
    """
    _quiet()

    async def work(site: Site) -> RestoreReport:
        from runtime.wiring.restore_look import RestoreLook

        with ExitStack() as files:
            write = files.enter_context(lost_to.open("x", encoding="utf-8")).write if lost_to else None
            on_entry = files.enter_context(_entries_read(quiet=as_json))
            sorting = files.enter_context(_sorting())
            return await RestoreLook(site, sorting, on_item=_lost_to(write), on_entry=on_entry).run()

    try:
        report = asyncio.run(on_site(stack, work))
    except FileExistsError:
        raise CommandFailed(f"{lost_to} is there already.", "Name a new file.", code="file_exists") from None
    print_result(document_of(report), lines_of(report), as_json=as_json)
    if not report.is_clean:
        raise typer.Exit(1)


@app.command()
def repair(
    reason: Reason,
    step: Annotated[
        list[str] | None,
        typer.Option(help="Only this one: erasures, holds, chain, log, rows, metadata, events; may be repeated."),
    ] = None,
    apply: Apply = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Put right what can be, step by step. A dry run without --apply; cut off, it is run again. Exit status 1 if something is left."""
    from operations.restore.repair import STEPS, RestoreRepair

    _quiet()
    because = checked_reason(reason)
    steps = tuple(step or STEPS)
    if unknown := sorted(set(steps) - set(STEPS)):
        raise CommandFailed(f"There is no such step: {unknown[0]}.", f"Steps are {', '.join(STEPS)}.", code="usage")

    async def work(site: Site) -> list[StepResult]:
        from operations.restore.check import RestoreReport, read_all
        from runtime.processes.erasure_jobs import create_erasure_executor
        from runtime.wiring.restore import repair_parts

        await site.codec.check()
        await site.restore_guard.look()
        parts = repair_parts(site, site.operator(operator_name()), create_erasure_executor(site))
        report = RestoreReport()
        with ExitStack() as files:
            on_entry = files.enter_context(_entries_read(quiet=as_json))
            sorting = files.enter_context(_sorting())
            await read_all(parts.sources, sorting, report, on_entry)
            return await RestoreRepair(parts, sorting, report, because).run(steps, apply=apply)

    results = asyncio.run(on_site(stack, work))
    rows = [(one.step, str(one.done), str(one.left_count)) for one in results]
    lines = table(("STEP", "DONE" if apply else "TO DO", "LEFT"), rows)
    lines += [f"{one.step}: {text}" for one in results for text in one.left[:SHOWN]]
    lines.append("Next: dpj restore check, then dpj restore end." if apply else "(dry run: --apply does it)")
    document = {
        "apply": apply,
        "steps": [{"step": one.step, "done": one.done, "left": one.left_count, "reasons": one.left} for one in results],
    }
    print_result(document, lines, as_json=as_json)
    if any(one.left_count for one in results):
        raise typer.Exit(1)


def _lost_to(write: Callable[[str], object] | None) -> Callable[[Difference, dict[str, Any]], None]:
    """Writes every lost document as a line."""

    def on_item(kind: Difference, item: dict[str, Any]) -> None:
        if kind.value == "document_lost" and write is not None:
            write(json.dumps(item) + "\n")

    return on_item


def document_of(report: RestoreReport) -> dict[str, Any]:
    """The report for programs."""
    return {
        "clean": report.is_clean,
        "open": _open(report.open),
        "seen": {
            "documents": report.documents,
            "log": [{"tenant": one.tenant, "entries": one.entries} for one in report.logs],
        },
        "undone": report.failed,
        "differences": {
            kind.value: {
                "count": count,
                "meaning": MEANINGS[kind.value][0],
                "next": MEANINGS[kind.value][1],
                "items": report.items.get(kind, []),
            }
            for kind, count in report.count.items()
            if count
        },
    }


def lines_of(report: RestoreReport) -> Iterator[str]:
    """The report for a person, 80 columns wide."""
    entries = sum(one.entries for one in report.logs)
    yield f"Seen: {entries} entries of the audit log, {report.documents} documents in them."
    yield from _open_lines(_open(report.open))
    order = [kind for name in MEANINGS for kind in report.count if kind.value == name and report.count[kind]]
    if order:
        yield ""
        rows = [(str(report.count[kind]), *MEANINGS[kind.value]) for kind in order]
        yield from table(("COUNT", "WHAT", "NEXT"), rows)
    for kind in order:
        items = report.items.get(kind, [])
        if items:
            yield ""
            yield f"{kind.value}:"
            yield from (f"  {_item_line(item)}" for item in items[:SHOWN])
            if report.count[kind] > SHOWN and len(items) > SHOWN:
                yield f"  and {len(items) - SHOWN} more: --json has them"
    yield ""
    for name, code in report.failed.items():
        yield f"NOT LOOKED AT: {name} ({code})."
    if report.is_clean:
        yield "Nothing is to be done." + (" Then: dpj restore end" if report.open else "")
    elif order:
        yield "Next: dpj restore repair --reason CODE (a dry run; --apply does it)."


def _item_line(item: Mapping[str, Any]) -> str:
    if "deposited_at" in item:
        return (
            f"{item['document_id']} {item['tenant']} {str(item['deposited_at'])[:19]}\n"
            f"    sha256 {item['sha256'] or 'not in the log'}"
        )
    return "  ".join(f"{name} {value}" for name, value in item.items() if value not in (None, []))


def _open(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "store": one.store.value,
            "opened_at": one.opened_at.isoformat(),
            "opened_by": one.opened_by,
            "reason": one.reason,
            "erasures_done": one.erasures_done,
        }
        for one in found
    ]


def _open_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in found:
        yield f"Open: {one['store']} since {one['opened_at'][:19]} ({one['reason'][:32]})"
        if not one["erasures_done"]:
            yield "      erasures are not done again yet"


def _quiet() -> None:
    from runtime.observability.telemetry import configure_logging

    configure_logging("restore", level="CRITICAL")  # the report says it all


def _sorting() -> Any:
    from operations.external_sort import ExternalSort

    return ExternalSort(Path(tempfile.gettempdir()))


@contextmanager
def _entries_read(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A count of the entries that were read, on a terminal."""
    from rich.progress import TextColumn

    columns = (TextColumn("{task.description}"), TextColumn("{task.completed} entries"))
    with progress_bars(*columns, quiet=quiet) as bars:
        task = bars.add_task("audit log", total=None)
        yield lambda count: bars.update(task, completed=count)
