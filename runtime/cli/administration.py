"""Commands for operators: schemas, topics, database, tokens, audit, OpenAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import Apply, Reason, checked_reason, uuid_of
from runtime.cli.output import AsJson, Stack, print_result, settings_about, settings_of
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from runtime.config.settings import Settings

schemas = typer.Typer(help="Avro schemas of the events.", no_args_is_help=True)
topics = typer.Typer(help="Kafka topics.", no_args_is_help=True)
database = typer.Typer(help="The PostgreSQL database.", no_args_is_help=True)
audit = typer.Typer(help="The audit log.", no_args_is_help=True)


@schemas.command("register")
def schemas_register(stack: Stack = None, as_json: AsJson = False) -> None:
    """Register this release's schemas, or show their ids where the site takes them from the repository; safe to repeat."""
    from runtime.wiring.provisioning import register_schemas

    settings = settings_of(stack)
    ids = asyncio.run(register_schemas(settings))
    lines = [f"{schema_id:>6}  {subject}" for subject, schema_id in ids.items()]
    if settings.schema_registry == "repository":
        lines.append("These ids are the repository's own: there is no registry to register with.")
    print_result(ids, lines, as_json=as_json)


@schemas.command("check")
def schemas_check(as_json: AsJson = False) -> None:
    """Whether this release reads every event that an earlier release wrote. Needs the development dependencies."""
    from schemas import fixed_ids

    try:
        from schemas.compatibility import problems
    except ImportError:
        raise CommandFailed(
            "The package avro, which knows the rules, is not installed.", "Install it: uv sync", code="avro_missing"
        ) from None
    found = problems()
    if found:
        raise CommandFailed(
            f"{len(found)} incompatible: {found[0]}",
            "Give new fields a default; never rename or retype one.",
            code="schema_incompatible",
            document={"compatible": False, "problems": found},
        )
    if ids := fixed_ids.problems():
        raise CommandFailed(
            f"{len(ids)} faults of ids; first: {ids[0]}",
            "Only ever add to schemas/avro/ids.json.",
            code="schema_ids_differ",
            document={"compatible": True, "problems": ids},
        )
    print_result({"compatible": True, "problems": []}, ["Every schema reads all released versions."], as_json=as_json)


@topics.command("create")
def topics_create(stack: Stack = None, as_json: AsJson = False) -> None:
    """Create missing topics and compare existing ones with the settings; changes nothing that exists."""
    from operations.kafka.topics import ensure_topics, planned_topics
    from runtime.config.transport import kafka_security

    settings = settings_of(stack)
    plans = planned_topics(
        partitions=settings.topic_partitions,
        replication=settings.topic_replication,
        retention_days=settings.topic_retention_days,
    )
    reports = ensure_topics(settings.kafka_bootstrap, plans, security=kafka_security(settings))
    document = [asdict(report) for report in reports]
    lines = (f"{report.state:<8} {report.name:<26} {'; '.join(report.differences)}".rstrip() for report in reports)
    print_result(document, lines, as_json=as_json)
    if any(report.state == "differs" for report in reports):
        raise typer.Exit(1)


@database.command("migrate")
def database_migrate(stack: Stack = None, as_json: AsJson = False) -> None:
    """Bring the database to this release's tables; safe to repeat."""
    from runtime.wiring.provisioning import migrate

    revision = asyncio.run(migrate(settings_of(stack)))
    print_result(
        {"revision": revision}, [f"The database has this release's tables (revision {revision})."], as_json=as_json
    )


@audit.command("verify")
def audit_verify(
    tenant: Annotated[str | None, typer.Option(help="One tenant only.")] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Walk every tenant's audit chain and compare it with its head, the signed checkpoints and the timelines."""
    from runtime.cli.audit import verify

    found = asyncio.run(verify(settings_about(stack, tenant), tenant))
    print_result(found.document, found.report_lines, as_json=as_json)
    if not found.intact:
        raise typer.Exit(1)


@audit.command("resume")
def audit_resume(
    reason: Reason,
    tenant: Annotated[str | None, typer.Option(help="One tenant only.")] = None,
    apply: Apply = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """After PostgreSQL was restored to before: have chains go on behind the log's last entry. A dry run without --apply."""
    from runtime.cli.audit import resume
    from runtime.observability.telemetry import configure_logging

    configure_logging("audit", level="CRITICAL")  # the answer says it all
    settings = settings_about(stack, tenant)
    found = asyncio.run(resume(settings, tenant, operator_name(), checked_reason(reason), apply=apply))
    refused = [one for one in found if isinstance(one, tuple)]
    lines = [f"{one[0]}: REFUSED: {one[1]}" if isinstance(one, tuple) else one.line for one in found]
    if not apply and any(not isinstance(one, tuple) and one.needed for one in found):
        lines.append("(dry run: --apply does it)")
    document = [
        {"tenant": one[0], "refused": one[1]} if isinstance(one, tuple) else {**asdict(one), "needed": one.needed}
        for one in found
    ]
    print_result({"applied": apply, "chains": document}, lines or ["There is no audit chain yet."], as_json=as_json)
    if refused:
        raise typer.Exit(1)


@audit.command("show")
def audit_show(
    document_id: Annotated[str, typer.Argument(metavar="ID")],
    tenant: Annotated[str, typer.Option(help="Whose document.")],
    reason: Reason,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """An auditor's look at the entries about a document, addresses unsealed where no erasure destroyed their key."""
    from runtime.cli.audit import entry_documents, entry_lines, read
    from runtime.observability.telemetry import configure_logging

    configure_logging("audit", level="CRITICAL")  # the answer says it all
    checked_reason(reason)
    found = asyncio.run(read(settings_of(stack, minds_bounds=True), tenant, uuid_of(document_id), reason))
    print_result({"entries": entry_documents(found)}, entry_lines(found), as_json=as_json)


@audit.command("export")
def audit_export(
    tenant: Annotated[str, typer.Option(help="Whose log.")],
    to: Annotated[Path, typer.Option(help="A new folder.")],
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Write a tenant's log up to its newest checkpoint, the checkpoints and the public keys, for the stand-alone verifier."""
    from runtime.cli.audit import export

    found = asyncio.run(export(settings_about(stack, tenant), tenant, to))
    print_result(asdict(found), found.lines, as_json=as_json)


@audit.command("keys")
def audit_keys(
    create: Annotated[
        bool, typer.Option("--create", help="Make the local signer's key file, if there is none.")
    ] = False,
    stack: Stack = None,
) -> None:
    """Print the public keys (JWKS) that verify checkpoints and receipts. Keep them where the database's people have no access."""
    from runtime.cli.audit import create_key, public_keys

    if create:
        create_key(settings_of(stack))
    typer.echo(asyncio.run(public_keys(settings_of(stack))), nl=False)


def token(
    role: Annotated[list[str], typer.Option("--role", help="portal, validator, operator or auditor; may be repeated.")],
    tenant: Annotated[str, typer.Option(help="Whose documents the token opens.")] = "demo",
    subject: Annotated[str, typer.Option(help="Who it speaks for.")] = "cli",
    ttl: Annotated[int, typer.Option(min=1, max=30 * 86400, help="Seconds it is good for.")] = 3600,
    bound_to: Annotated[
        list[str] | None, typer.Option("--bound-to", help="The only tenants that an operator sees; may be repeated.")
    ] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Issue a token with the local stack's own signing key."""
    issued = issue(settings_of(stack), role, tenant=tenant, subject=subject, ttl=ttl, tenants=bound_to)
    document = {"token": issued, "roles": role, "tenant": tenant, "subject": subject, "ttl": ttl}
    print_result(document, [issued], as_json=as_json)


def openapi() -> None:
    """Print the API's OpenAPI document as JSON."""
    from ingest_api.openapi import main

    main()


def issue(
    settings: Settings,
    roles: list[str],
    *,
    tenant: str,
    subject: str,
    ttl: int = 3600,
    tenants: Collection[str] | None = None,
) -> str:
    """A token for ``roles``; ``tenants``: whom it binds an operator or auditor to. Raises CommandFailed for an unknown role, a name that
    no tenant can have, or where there is no signing key."""
    from domain.documents import Role
    from domain.keys import is_reserved, is_tenant
    from identity.tokens import issue_token

    try:
        known = [Role(role) for role in roles]
    except ValueError:
        names = ", ".join(role.value for role in Role)
        raise CommandFailed(f"There is no such role: {', '.join(roles)}.", f"Roles are {names}.") from None
    if settings.jwt_private_key_file is None:
        raise CommandFailed(
            "This site's settings have no signing key: its identity provider issues tokens.",
            "Get a token there and pass it in DPJ_TOKEN.",
            code="no_signing_key",
        )
    if unfit := [name for name in (tenant, *(tenants or ())) if not is_tenant(name) or is_reserved(name)]:
        raise CommandFailed(
            f"No tenant can be called so: {', '.join(unfit)}.",
            "Use 1 to 63 letters, digits, '.', '_' and '-'; 'system' is the site's own.",
            code="tenant_invalid",
        )
    return issue_token(
        settings.jwt_private_key_file,
        settings.jwt_issuer,
        settings.jwt_audience,
        subject,
        tenant,
        known,
        ttl,
        tenants=tenants,
    )
