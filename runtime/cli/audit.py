"""The audit log's chains, looked at from outside."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from domain.shared.terminal_text import visible

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from domain.subjects import OpenedAuditField
    from operations.audit.export import AuditExport
    from operations.audit.verify import AuditReport
    from processors.audit.reading import OpenedAuditEntry
    from processors.audit.resumption import Resumption
    from runtime.config.settings import Settings
    from runtime.wiring.site import Site
    from storage.mongodb.audit import MongoAuditStore
    from storage.postgres.audit.entries import PostgresAuditStore


async def verify(settings: Settings, tenant: str | None) -> AuditReport:
    """Every tenant's chain, or that of ``tenant``, held against the checkpoints. Raises AuditStoreUnavailable, DatabaseUnavailable,
    CheckpointStoreUnavailable or KeyringUnavailable."""
    from crypto.signatures import verifies
    from domain.errors import DatabaseUnavailable
    from operations.audit.checkpoints import read_signed
    from operations.audit.overdue import OverdueCheck
    from operations.audit.timelines import RECORDED
    from operations.audit.verify import AUDIT_VERIFIED, verify_audit
    from storage.postgres.audit.chain import PostgresUnflushedEntries
    from storage.postgres.audit.timelines import PostgresTimelines
    from storage.postgres.audit.tree import PostgresAuditTrees
    from storage.postgres.periodic_jobs import PostgresPeriodicJobs

    async with _opened(settings) as (site, history):
        keys = {key.id: key for key in await site.signing.signer.public_keys()}
        checkpoints = site.signing.checkpoints
        # In this order: what the database has as signed is in the store, and no checkpoint covers more than its chain has.
        recorded = await PostgresAuditTrees(site.postgres).recorded(tenant)
        tenants = {*await checkpoints.tenants(), *recorded} if tenant is None else {tenant}
        signed = {
            name: await read_signed(checkpoints, keys, verifies, name, recorded.get(name, ()))
            for name in sorted(tenants)
        }
        pending = PostgresUnflushedEntries(site.postgres)
        overdue = OverdueCheck(checkpoints, history, pending, site.clock, seconds=settings.checkpoint_seconds)
        timelines = PostgresTimelines(site.postgres, [status.value for status in RECORDED.values()])
        report = await verify_audit(history, pending, tenant, signed, overdue, timelines)
        if tenant is None and report.intact:
            # For who asks later when that was; what was found does not hang on it.
            with suppress(DatabaseUnavailable):
                await PostgresPeriodicJobs(site.postgres).mark_done(AUDIT_VERIFIED)
        return report


async def read(settings: Settings, tenant: str, document_id: UUID, reason: str) -> Sequence[OpenedAuditEntry]:
    """The entries about a document, as an auditor may read them. Raises AuditStoreUnavailable, DatabaseUnavailable, and as
    ``runtime.cli.operator_options.acting_as`` does."""
    from domain.documents import Role
    from processors.audit.reading import AuditEntryReader
    from runtime.cli.operator_options import acting_as
    from storage.postgres.keys.subject_keys import PostgresSubjectKeyReader

    async with _opened(settings) as (site, history):
        await site.codec.check()
        actor = await acting_as(site, Role.AUDITOR, tenant)
        keys = PostgresSubjectKeyReader(site.postgres)
        reading = AuditEntryReader(history, keys, site.personal, site.database, site.clock, actor)
        async with aclosing(reading.about(tenant, document_id, reason)) as entries:
            return [entry async for entry in entries]


async def export(settings: Settings, tenant: str, folder: Path) -> AuditExport:
    """What ``operations.audit.export`` says. Raises AuditStoreUnavailable, DatabaseUnavailable, CheckpointStoreUnavailable,
    KeyringUnavailable, or FileExistsError."""
    from operations.audit.export import export_audit
    from storage.postgres.audit.chain import PostgresUnflushedEntries

    async with _opened(settings) as (site, history):
        keys = await site.signing.signer.public_keys()
        pending = PostgresUnflushedEntries(site.postgres)
        return await export_audit(tenant, folder, history, pending, site.signing.checkpoints, keys)


async def resume(
    settings: Settings, tenant: str | None, operator: str, reason: str, *, apply: bool
) -> list[Resumption | tuple[str, str]]:
    """What became of each chain, or (tenant, why it was refused). Raises what says that a server is away."""
    from domain.errors import Permanent
    from storage.postgres.audit.chain import PostgresUnflushedEntries

    async with _opened(settings) as (site, history):
        await site.codec.check()
        resumption = site.audit_resumption(site.operator(operator))
        names = {tenant} if tenant is not None else set(await history.tenants())
        if tenant is None:
            names |= {head.tenant for head in await PostgresUnflushedEntries(site.postgres).heads()}
        found: list[Resumption | tuple[str, str]] = []
        for name in sorted(names):
            try:
                found.append(await resumption.resume(name, reason, apply=apply))
            except Permanent as error:
                found.append((name, error.detail or error.code))
        return found


def create_key(settings: Settings) -> None:
    """Make the local signer's key file, unless it is there. Raises CommandFailed where there is none to make."""
    from crypto.local_signer import LocalSigner
    from runtime.errors import CommandFailed

    path = settings.signing_key_file
    if settings.signer != "local" or path is None:
        raise CommandFailed(
            "This site has no signing key in a file.",
            "In Vault: vault write -f transit/keys/dpj-proofs type=ed25519. Else set DPJ_SIGNING_KEY_FILE.",
            code="no_key_file",
        )
    if path.exists():
        return
    try:
        LocalSigner.create(path)
    except FileExistsError:
        return
    except OSError as error:
        raise CommandFailed(
            f"The key file can't be made ({type(error).__name__}).", "Look at its folder.", code="key_file_not_made"
        ) from None


async def public_keys(settings: Settings) -> bytes:
    """The public keys that verify checkpoints and receipts, as a JSON Web Key Set. Raises KeyringUnavailable."""
    from operations.audit.export import key_set
    from runtime.wiring.keyrings import vault_session
    from runtime.wiring.signing_and_checkpoints import create_signer

    signer = create_signer(settings, lambda: vault_session(settings))
    try:
        return key_set(await signer.public_keys())
    finally:
        await signer.aclose()


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[tuple[Site, MongoAuditStore | PostgresAuditStore], None]:
    """Parts made when asked for, and the audit log."""
    from runtime.wiring.site import Site

    site = Site(settings)
    try:
        yield site, site.audit_log
    finally:
        await site.aclose()


def entry_documents(entries: Sequence[OpenedAuditEntry]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "seq": entry.seq,
            "at": entry.at.isoformat(),
            "action": entry.action,
            "actor": entry.actor,
            "details": entry.details,
            "ip": _opened_document(entry.ip),
            "user_agent": _opened_document(entry.user_agent),
            "faithful": entry.faithful,
        }
        for entry in entries
    ]


def entry_lines(entries: Sequence[OpenedAuditEntry]) -> Iterator[str]:
    """For people."""
    if not entries:
        yield "There is no entry about this document."
    for entry in entries:
        mark = "" if entry.faithful else "  NOT WHAT WAS WRITTEN: run dpj audit verify"
        yield f"{entry.seq:>8}  {entry.at:%Y-%m-%dT%H:%M:%S}  {entry.action}  {entry.actor}{mark}"
        fields = [f"{name} {_opened_text(one)}" for name, one in (("ip", entry.ip), ("agent", entry.user_agent))]
        yield f"          {', '.join(fields)}"


def _opened_document(opened: OpenedAuditField) -> dict[str, Any]:
    return {
        "state": opened.legibility.value,
        "text": opened.text,
        "erased_at": opened.erased_at and opened.erased_at.isoformat(),
    }


def _opened_text(opened: OpenedAuditField) -> str:
    """One line, whatever a client called itself."""
    if opened.text is not None:
        return visible(opened.text)
    if opened.erased_at is not None:
        return f"[erased {opened.erased_at:%Y-%m-%d}]"
    return {"ABSENT": "-"}.get(opened.legibility.value, "[unreadable]")
