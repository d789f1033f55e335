"""``dpj personal``: documents' personal texts, their keys, and all documents of a person.

What a person is looked for by is read from standard input or asked for: a command line is in the shell's history and in the
list of processes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from domain.orders import Order
from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import (
    Apply,
    OrderId,
    Withdraw,
    acting_on,
    check_withdrawal,
    on_site,
    order_document,
    retiring_as,
    table,
    uuid_of,
)
from runtime.cli.output import AsJson, Stack, print_result
from runtime.cli.progress import progress_bars
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.documents import Document
    from processors.operators.personal_text_keys import (
        OnResealProgress,
        PersonalKeyAdministration,
        PersonalKeyState,
        Resealing,
    )
    from runtime.wiring.site import Site

app = typer.Typer(help="Personal texts of documents: their keys, and who they are about.", no_args_is_help=True)

#: Failed documents shown to a person; --json has them all.
SHOWN: Final = 10
KINDS: Final = {False: "sealing", True: "lookup"}

_T = TypeVar("_T")

Lookup = Annotated[bool, typer.Option("--lookup", help="The key of look-ups, not the one that seals.")]


@app.command()
def status(stack: Stack = None, as_json: AsJson = False) -> None:
    """Every key: which is the current one, and how many documents are under each."""
    state = _with_keys(stack, lambda keys: keys.status())
    document = document_of(state)
    rows = [
        (row["kind"], row["key"], "current" if row["current"] else "", str(row["documents"]))
        for row in document["keys"]
    ]
    lines = table(("KIND", "KEY", "", "DOCUMENTS"), rows)
    if document["not_sealed"]:
        lines.append(f"NOT SEALED YET: {document['not_sealed']} documents: dpj personal reseal")
    lines += [
        f"NO KEY HERE for {one['documents']} documents: {one['kind']} {one['key']}" for one in document["unknown"]
    ]
    print_result(document, lines, as_json=as_json)


@app.command()
def rotate(
    lookup: Lookup = False,
    stage: Annotated[
        bool, typer.Option("--stage", help="Only add a key that opens, to be brought to every machine first.")
    ] = False,
    to: Annotated[str | None, typer.Option("--to", metavar="KEY", help="Make this key the current one.")] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key the current one. What is under older ones stays readable; see reseal."""
    if stage and to:
        raise CommandFailed("--stage and --to are two steps.", "First --stage, then --to KEY.", code="two_steps")
    key = _with_keys(stack, lambda keys: keys.rotate(lookup=lookup, stage=stage, to=to))
    done = "opens; bring the file to every machine, then: rotate --to" if stage else "is the current one from now on:"
    print_result(
        {"kind": KINDS[lookup], "key": key, "current": not stage},
        [f"{KINDS[lookup]} key {done} {key}"],
        as_json=as_json,
    )


@app.command()
def reseal(
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Documents per second.")] = 500.0,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Seal what is under older keys, or not sealed yet, under the current ones, beside live traffic. Cut off, start it again.

    Exit status 1 if some are left.
    """
    from processors.operators.keys import Throttle

    with _progress(quiet=as_json) as on_progress:
        run = _with_keys(stack, lambda keys: keys.reseal(Throttle(rate, time.monotonic, asyncio.sleep), on_progress))
    document = {
        "key": run.keys.sealing,
        "lookup": run.keys.lookup,
        "documents": run.of,
        "sealed": run.sealed,
        "answers": run.answers,
        "left": run.remaining,
        "failed": [{"document_id": str(one), "code": code} for one, code in run.failed.items()],
    }
    print_result(document, _run_lines(run), as_json=as_json)
    if run.remaining:
        raise typer.Exit(1)


@app.command()
def retire(
    key: Annotated[str, typer.Argument(help="The key's id; see status.")],
    apply: Apply = False,
    order: OrderId = None,
    withdraw: Withdraw = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Take a key out of its file, for good. Refused while a document is under it.

    Backups from before the last reseal need it: keep a copy of the file for as long as they live. Where it takes two persons, the first
    one orders it with --apply, and another one confirms it. Until then the first one may --withdraw it.
    """
    order_id = None if order is None else uuid_of(order)
    if withdraw:
        check_withdrawal(order_id, apply=apply)

    async def who(site: Site) -> str | None:
        return await retiring_as(site, None, apply=apply or withdraw, order_id=order_id)

    async def work(keys: PersonalKeyAdministration) -> str | Order:
        if withdraw and order_id is not None:
            return await keys.withdraw_retirement(key, order_id)
        if apply and keys.needs_second_person and order_id is None:
            return await keys.order_retirement(key)
        return await keys.retire(key, apply=apply, order_id=order_id)

    kind = _with_keys(stack, work, who)
    if isinstance(kind, Order):
        said, lines = order_document(kind, f"dpj personal retire {key}", withdrawn=withdraw)
        print_result({**said, "apply": False}, lines, as_json=as_json)
        return
    done = f"{kind} key {key}: gone, and nothing is taken under it any more"
    planned = f"{kind} key {key}: nothing is in the way of retiring it (dry run: --apply does it)"
    print_result({"kind": kind, "key": key, "apply": apply}, [done if apply else planned], as_json=as_json)


@app.command()
def find(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose documents.")],
    by_name: Annotated[
        bool, typer.Option("--file-name", help="By the file's name, not the depositor's address.")
    ] = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """All documents of a person, by exact e-mail address or file name, which is read from standard input or asked for.

    The first step of erasing what is kept of somebody: dpj erasure request takes each id.
    """
    what = "File name" if by_name else "E-mail address"
    text = typer.prompt(what, hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    wanted = {"file_name" if by_name else "depositor_email": text.strip()}

    async def work(site: Site) -> Sequence[Document]:
        from runtime.wiring.personal_text_keys import operator_origin

        await acting_on(site, tenant)
        await site.codec.check()
        return await site.search().all_of(tenant, operator_origin(site, operator_name()), **wanted)

    found = _on_site(stack, work, minds_bounds=True)
    rows = [
        {"id": str(one.id), "status": one.status.value, "type": one.type_code, "deposited_at": one.deposited_at}
        for one in found
    ]
    lines = [f"{row['id']}  {row['status']:<14} {row['type']}" for row in rows] or ["No document has it."]
    print_result({"tenant": tenant, "documents": rows}, lines, as_json=as_json)


def document_of(state: PersonalKeyState) -> dict[str, Any]:
    """For programs: each key with its documents, and keys that rows name and the files don't have."""
    keys, unknown = [], []
    for kind, known, counts in (
        ("sealing", state.sealing, _counts((use.key, use.documents) for use in state.uses)),
        ("lookup", state.lookups, _counts((use.lookup, use.documents) for use in state.uses)),
    ):
        keys += [
            {"kind": kind, "key": key, "current": place == 0, "documents": counts.get(key, 0)}
            for place, key in enumerate(known)
        ]
        unknown += [{"kind": kind, "key": key, "documents": counts[key]} for key in sorted(counts) if key not in known]
    return {"keys": keys, "unknown": unknown, "not_sealed": sum(use.documents for use in state.uses if use.key is None)}


def _counts(pairs: Iterator[tuple[str | None, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for key, documents in pairs:
        if key is not None:
            counts[key] = counts.get(key, 0) + documents
    return counts


def _run_lines(run: Resealing) -> Iterator[str]:
    left = f", {run.remaining} LEFT: run it again" if run.remaining else ""
    yield f"{run.sealed} documents sealed under {run.keys.sealing}, look-ups under {run.keys.lookup}{left}"
    if run.answers:
        yield f"{run.answers} kept answers rid of names"
    for document, code in list(run.failed.items())[:SHOWN]:
        yield f"  {document}  {code}"
    if len(run.failed) > SHOWN:
        yield f"  and {len(run.failed) - SHOWN} more (--json names them)"


def _with_keys(
    stack: str | None,
    work: Callable[[PersonalKeyAdministration], Awaitable[_T]],
    who: Callable[[Site], Awaitable[str | None]] | None = None,
) -> _T:
    """``who`` gives the pseudonym of who acts, if it is not who is at the terminal."""

    async def run(site: Site) -> _T:
        from domain.errors import DocumentBusy
        from runtime.wiring.personal_text_keys import create_personal_key_administration

        await site.codec.check()
        try:
            actor = await who(site) if who else None
            return await work(create_personal_key_administration(site, operator_name(), actor=actor))
        except DocumentBusy:
            raise CommandFailed(
                "Another act on these keys is under way.", "Wait until it has ended.", code="key_busy"
            ) from None

    return _on_site(stack, run)


def _on_site(stack: str | None, work: Callable[[Site], Awaitable[_T]], *, minds_bounds: bool = False) -> _T:
    from runtime.observability.telemetry import configure_logging

    configure_logging("personal", level="CRITICAL")  # the answer says it all
    return asyncio.run(on_site(stack, work, minds_bounds=minds_bounds))


@contextmanager
def _progress(*, quiet: bool) -> Iterator[OnResealProgress]:
    with progress_bars(quiet=quiet) as bar:
        task = bar.add_task("texts", total=None)
        yield lambda run: bar.update(task, completed=run.sealed, total=run.of)
