"""Uploads that nobody will end: rows whose lease ran out, and puts that were left under way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from uuid import UUID

from domain.reconciliation import DiscrepancyKind, ReconcileFinding, document_of_key
from processors.reconcile.run import MAX_LISTED_FINDINGS, ReconcileRun


async def check_expired_uploads(run: ReconcileRun) -> None:
    """PENDING rows whose lease ran out: ABANDONED by compare-and-set, then what they left is removed. Never completed."""
    if not run.repairs.include(DiscrepancyKind.EXPIRED_UPLOAD):
        for row in await run.inventory.expired(MAX_LISTED_FINDINGS):
            run.report.add(_expired(row.document_id, row.tenant, row.object_key))
        return
    while True:
        await run.may_delete()
        async with run.database.transaction() as work:
            abandoned = await work.uploads.abandon_expired(100)
            findings = [_expired(one.id, one.tenant, one.object_key) for one in abandoned]
            for finding in findings:
                await work.outbox.add(run.audit_line(finding))
        for finding in findings:
            # Should this fail, what is left has a row that says ABANDONED, and is found by it.
            await run.remove(finding.place)
            run.report.add(replace(finding, repaired=True))
        if not findings:
            return


def _expired(document_id: UUID, tenant: str, key: str) -> ReconcileFinding:
    return ReconcileFinding(fault=DiscrepancyKind.EXPIRED_UPLOAD, document_id=document_id, tenant=tenant, place=key)


async def check_unfinished_puts(run: ReconcileRun) -> None:
    """Puts that nobody will end: old, and not of an upload that holds its lease."""
    async for put in run.objects.unfinished():
        if not run.is_old(put.at):
            continue
        document_id = document_of_key(put.key) if put.key is not None else None
        if put.key is not None and document_id is None:
            continue  # not of our making
        row = await run.inventory.get(document_id) if document_id is not None else None
        if row is not None and (row.lease_held or row.is_rendering):
            continue
        finding = ReconcileFinding(
            fault=DiscrepancyKind.UNFINISHED_PUT,
            document_id=document_id,
            tenant=row.tenant if row else None,
            place=put.key or put.id,
        )
        await run.settle(finding, partial(run.objects.abort, put))
