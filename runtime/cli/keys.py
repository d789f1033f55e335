"""``dpj keys``: the keys that wrap documents' keys, one per tenant: create, rotate, rewrap, retire, and look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from domain.orders import Order
from runtime.cli.operator_bounds import bound_tenants, check_bound, operator_name
from runtime.cli.operator_options import (
    Apply,
    OrderId,
    Withdraw,
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
    from domain.key_encryption_keys import KeyState, KeyUse
    from processors.operators.keys import KeyAdministration, OnRewrapProgress, Rewrapping
    from runtime.wiring.site import Site

app = typer.Typer(help="Keys that wrap documents' keys, one per tenant.", no_args_is_help=True)

#: Failed documents shown to a person; --json has those that the report names.
SHOWN: Final = 10

_T = TypeVar("_T")
#: See ``bound_tenants``.
Bound = frozenset[str] | None

Tenant = Annotated[str, typer.Option("--tenant", help="Whose key.")]
Tenants = Annotated[list[str] | None, typer.Option("--tenant", help="Whose key; may be repeated.")]
Everybody = Annotated[bool, typer.Option("--all", help="Every tenant that has a key.")]


@app.command()
def create(
    tenants: Annotated[list[str], typer.Option("--tenant", help="Whose key; may be repeated.")],
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Make the keys of new tenants. No document of a tenant is taken in before. Safe to repeat."""

    async def work(keys: KeyAdministration, _: Bound) -> list[dict[str, Any]]:
        return [{"tenant": tenant, "created": await keys.create(tenant)} for tenant in tenants]

    rows = _with_keys(stack, work, tenants)
    lines = [f"{row['tenant']}  {'key created' if row['created'] else 'has a key already'}" for row in rows]
    print_result({"keys": rows}, lines, as_json=as_json)


@app.command()
def rotate(tenants: Tenants = None, everybody: Everybody = False, stack: Stack = None, as_json: AsJson = False) -> None:
    """Make a new version of the key, which wraps from now on. What older ones wrapped stays readable; see rewrap."""

    async def work(keys: KeyAdministration, bound: Bound) -> list[dict[str, Any]]:
        return [
            {"tenant": tenant, "version": (await keys.rotate(tenant)).latest}
            for tenant in await _chosen(keys, tenants, everybody, bound)
        ]

    rows = _with_keys(stack, work, tenants)
    lines = [f"{row['tenant']}  wraps under version {row['version']} from now on" for row in rows]
    print_result({"keys": rows}, lines, as_json=as_json)


@app.command()
def rewrap(
    tenants: Tenants = None,
    everybody: Everybody = False,
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Documents per second.")] = 1000.0,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Move documents' keys to the newest version of their tenant's key, beside live traffic. Cut off, start it again.

    Exit status 1 if some are left.
    """
    from processors.operators.keys import Throttle

    with _progress(quiet=as_json) as on_progress:

        async def work(keys: KeyAdministration, bound: Bound) -> list[Rewrapping]:
            pace = Throttle(rate, time.monotonic, asyncio.sleep)
            return [
                await keys.rewrap(tenant, pace, on_progress)
                for tenant in await _chosen(keys, tenants, everybody, bound)
            ]

        runs = _with_keys(stack, work, tenants)
    rows = [_run_row(run) for run in runs]
    print_result({"keys": rows}, _run_lines(runs), as_json=as_json)
    if any(run.remaining for run in runs):
        raise typer.Exit(1)


@app.command()
def retire(
    tenant: Tenant,
    version: Annotated[
        int | None, typer.Option(min=1, help="Retire all versions older than this one.  [default: the newest]")
    ] = None,
    apply: Apply = False,
    order: OrderId = None,
    withdraw: Withdraw = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Make old versions of the key useless. Refused while anything is wrapped under them, or may be in a moment.

    Where it takes two persons, the first one orders it with --apply, and another one confirms it. Until then the first one may --withdraw it.
    """
    order_id = None if order is None else uuid_of(order)
    if withdraw:
        check_withdrawal(order_id, apply=apply)

    async def who(site: Site) -> str | None:
        return await retiring_as(site, tenant, apply=apply or withdraw, order_id=order_id)

    async def work(keys: KeyAdministration, _: Bound) -> KeyState | Order:
        if withdraw and order_id is not None:
            return await keys.withdraw_retirement(tenant, order_id)
        if apply and keys.needs_second_person and order_id is None:
            return await keys.order_retirement(tenant, version)
        return await keys.retire(tenant, version, apply=apply, order_id=order_id)

    state = _with_keys(stack, work, [tenant], who)
    if isinstance(state, Order):
        said, lines = order_document(state, f"dpj keys retire --tenant {tenant}", withdrawn=withdraw)
        print_result({"tenant": tenant, "apply": False, **said}, lines, as_json=as_json)
        return
    if order_id is not None:
        version = state.min_decryption
    wanted = state.latest if version is None else version
    done = f"{tenant}  versions below {wanted} open nothing any more"
    planned = f"{tenant}  nothing is in the way of retiring versions below {wanted} (dry run: --apply does it)"
    row = {"tenant": tenant, "min_decryption_version": state.min_decryption, "below_version": wanted, "apply": apply}
    print_result(row, [done if apply else planned], as_json=as_json)


@app.command()
def status(stack: Stack = None, as_json: AsJson = False) -> None:
    """Every key: its versions, how many documents each wraps, the oldest in use, what it opens at least."""

    async def work(keys: KeyAdministration, bound: Bound) -> tuple[Sequence[KeyState], Sequence[KeyUse]]:
        states, uses = await keys.status()
        if bound is None:
            return states, uses
        return [one for one in states if one.tenant in bound], [one for one in uses if one.tenant in bound]

    states, uses = _with_keys(stack, work, ())
    document = document_of(states, uses)
    lines = table(
        ("TENANT\nKEY", "VERSIONS", "DOCUMENTS", "OLDEST\nIN USE", "MIN. OPENED"),
        [
            (
                (row["tenant"] or "(single key)", row["key"]),
                f"{row['min_decryption_version']} to {row['latest_version']}",
                tuple(f"v{one['version']}: {one['documents']}" for one in row["uses"]) or "none",
                str(row["oldest_in_use"] or "-"),
                str(row["min_decryption_version"]),
            )
            for row in document["keys"]
        ],
    )
    orphans = [
        f"NO KEY HERE for {one['documents']} documents of {one['tenant']}: {one['key']}" for one in document["unknown"]
    ]
    print_result(
        document,
        [*(lines if document["keys"] else ["No keys yet: dpj keys create --tenant NAME"]), *orphans],
        as_json=as_json,
    )


def document_of(states: Sequence[KeyState], uses: Sequence[KeyUse]) -> dict[str, Any]:
    """For programs: each key with its uses, and uses of keys that the keyring does not have."""
    known = {(state.scheme, state.name) for state in states}
    return {
        "keys": [
            _key_row(state, [use for use in uses if (use.scheme, use.name) == (state.scheme, state.name)])
            for state in states
        ],
        "unknown": [
            {
                "scheme": use.scheme,
                "key": use.name,
                "version": use.version,
                "tenant": use.tenant,
                "documents": use.documents,
            }
            for use in uses
            if (use.scheme, use.name) not in known
        ],
    }


def _key_row(state: KeyState, uses: Sequence[KeyUse]) -> dict[str, Any]:
    counts: dict[int, int] = {}
    for use in uses:
        counts[use.version] = counts.get(use.version, 0) + use.documents
    return {
        "tenant": state.tenant,
        "scheme": state.scheme,
        "key": state.name,
        "versions": [
            {"version": version, "made_at": made and made.isoformat()} for version, made in state.versions.items()
        ],
        "latest_version": state.latest,
        "min_decryption_version": state.min_decryption,
        "uses": [{"version": version, "documents": counts[version]} for version in sorted(counts)],
        "documents": sum(counts.values()),
        "oldest_in_use": min(counts, default=None),
    }


def _run_row(run: Rewrapping) -> dict[str, Any]:
    return {
        "tenant": run.tenant,
        "key": run.key,
        "version": run.version,
        "documents": run.of,
        "moved": run.moved,
        "canaries": run.canaries,
        "left": run.remaining,
        "failed": [{"document_id": str(document), "code": code} for document, code in run.failed.items()],
    }


def _run_lines(runs: Sequence[Rewrapping]) -> Iterator[str]:
    for run in runs:
        left = f", {run.remaining} LEFT: run it again" if run.remaining else ""
        yield f"{run.tenant}  {run.moved} moved to version {run.version}{left}"
        for document, code in list(run.failed.items())[:SHOWN]:
            yield f"  {document}  {code}"
        if len(run.failed) > SHOWN:
            yield f"  and {len(run.failed) - SHOWN} more (--json names them)"


async def _chosen(
    keys: KeyAdministration, tenants: Sequence[str] | None, everybody: bool, bound: Bound
) -> Sequence[str]:
    if bool(tenants) == everybody:
        raise CommandFailed("Say whose key.", "Give --tenant NAME, once or more, or --all.", code="tenant_needed")
    return tenants or [one for one in await keys.tenants() if bound is None or one in bound]


def _with_keys(
    stack: str | None,
    work: Callable[[KeyAdministration, Bound], Awaitable[_T]],
    named: Iterable[str] | None,
    who: Callable[[Site], Awaitable[str | None]] | None = None,
) -> _T:
    """``named``: tenants that the command names, each of which has to be the operator's. ``who`` gives the pseudonym of who acts, if it
    is not who is at the terminal."""
    from runtime.observability.telemetry import configure_logging

    configure_logging("keys", level="CRITICAL")  # the answer says it all

    async def run(site: Site) -> _T:
        from domain.errors import DocumentBusy

        bound = bound_tenants(site.settings)
        for tenant in named or ():
            check_bound(bound, tenant)
        await site.codec.check()
        try:
            actor = await who(site) if who else None
            return await work(site.key_administration(operator_name(), actor=actor), bound)
        except DocumentBusy:
            raise CommandFailed(
                "Another act on this tenant's key is under way.", "Wait until it has ended.", code="key_busy"
            ) from None

    return asyncio.run(on_site(stack, run, minds_bounds=True))


@contextmanager
def _progress(*, quiet: bool) -> Iterator[OnRewrapProgress]:
    with progress_bars(quiet=quiet) as bar:
        task = bar.add_task("keys", total=None)

        def on_progress(run: Rewrapping) -> None:
            bar.update(task, description=f"{run.tenant} v{run.version}", completed=run.moved, total=run.of)

        yield on_progress
