"""The audit log: how far its chains are and are signed, who did what, and what reconciling found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.responses import Response

from console.dependencies import Deps, Overseer, SignedIn
from domain.audit_chain import SYSTEM_TENANT
from domain.keys import is_tenant
from domain.reconciliation import DiscrepancyKind
from domain.refusals import ParameterInvalid, TenantNotYours
from operations.audit.acts import ActPage

router = APIRouter()

CHAINS: Final = 100


@router.get("/proof", name="proof")
async def proof(visitor: Overseer, deps: Deps, after: str = "") -> Response:
    """Every chain with its newest checkpoint, and when all were last verified."""
    if after and not is_tenant(after):
        raise ParameterInvalid("That is no tenant.")
    chains = await deps.chains.page(None, after, CHAINS + 1)
    following = f"/proof?{urlencode({'after': chains[CHAINS - 1].tenant})}" if len(chains) > CHAINS else ""
    age = await deps.verified_age()
    overview = await deps.overview.get()
    return visitor.page(
        "proof.html",
        chains=chains[:CHAINS],
        next=following,
        verified=None if age is None else datetime.now(UTC) - timedelta(seconds=age),
        stopped=overview.audit_steps_stopped,
        late_seconds=max(2 * deps.checkpoint_seconds, 60.0),
        runbook=deps.runbook,
    )


@router.get("/acts", name="acts")
async def acts(visitor: SignedIn, deps: Deps, tenant: str = "", last: int | None = None) -> Response:
    """Who did what in one chain, newest first. Whoever is bound to tenants sees theirs."""
    bound = visitor.caller.bound_to
    chain = tenant or (SYSTEM_TENANT if bound is None else min(bound, default=""))
    if not is_tenant(chain):
        raise ParameterInvalid("That is no tenant.")
    if bound is not None and chain not in bound:
        raise TenantNotYours("You are bound to other tenants.")
    states = {one.tenant: one for one in await deps.chains.page(bound, "", CHAINS)}
    if chain not in states:
        states |= {one.tenant: one for one in await deps.chains.page(frozenset({chain}), "", 1)}
    head = states[chain].entries if chain in states else 0
    end = head if last is None else max(1, min(last, head))
    page = await deps.acts.page(chain, end) if head else ActPage(first=0, last=0, acts=(), unreadable=0)
    older = f"/acts?{urlencode({'tenant': chain, 'last': page.first - 1})}" if page.first > 1 else ""
    return visitor.page("acts.html", chain=chain, chains=sorted(states), head=head, page=page, older=older)


@router.get("/reconcile", name="reconcile")
async def reconcile(visitor: Overseer, deps: Deps) -> Response:
    """The last whole run, and the faults that it left."""
    overview = await deps.overview.get()
    found = overview.reconcile
    faults = (
        []
        if found is None
        else [(DiscrepancyKind(name), count) for name, count in sorted(found.findings.items()) if name in _KNOWN]
    )
    return visitor.page("reconcile.html", o=overview, faults=faults, runbook=deps.runbook)


_KNOWN: Final = frozenset(kind.value for kind in DiscrepancyKind)
