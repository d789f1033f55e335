"""``dpj doc``: documents, through the HTTP API, with a token issued here or taken from DPJ_TOKEN."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from domain.shared.terminal_text import visible
from runtime.cli.failures import describe
from runtime.cli.operator_bounds import bound_tenants
from runtime.cli.operator_options import COLUMNS, on_site
from runtime.cli.output import AsJson, Stack, print_note, print_result, settings_about
from runtime.cli.progress import progress_bars
from runtime.errors import CommandFailed
from runtime.processes.local_stack import DEFAULT_TENANT

if TYPE_CHECKING:
    from operations.api_client import ApiClient

app = typer.Typer(help="Documents: submit, show, list, decide.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option("--tenant", help="Whose documents.")]
DocumentId = Annotated[str, typer.Argument(metavar="ID")]

#: Smaller files are sent before a progress bar could be read.
PROGRESS_BYTES: Final = 5_000_000

_ROW: Final = "{id:<36}  {status:<14}  {size:>14}"
#: Where a document's type begins, in its second line.
_TYPE_AT: Final = 27


@app.command()
def submit(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, readable=True, show_default=False)
    ],
    type_code: Annotated[str, typer.Option("--type", help="Document type; see GET /api/v1/document-types.")],
    dossier: Annotated[str | None, typer.Option(help="Id of the dossier.  [default: a new one]")] = None,
    email: Annotated[str, typer.Option(help="Where the mails go.")] = "depositor@client.example",
    language: Annotated[str, typer.Option(help="fr or en: the language of the mails.")] = "fr",
    key: Annotated[str | None, typer.Option(help="Idempotency-Key; one file only.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Send files; each becomes a document. They are streamed, whatever their size."""
    if key is not None and len(files) > 1:
        raise CommandFailed("An Idempotency-Key stands for one document.", "Send the files one by one.")
    sent: list[dict[str, Any]] = []
    with api(stack, "portal", tenant) as client:
        is_new = dossier is None
        if dossier is None:
            check_before(client, files[0], type_code, email, language)
            dossier = client.create_dossier(new_dossier())["id"]
            print_note(f"New dossier {dossier}")
        metadata = {"type": type_code, "dossier_id": dossier, "depositor": {"email": email, "language": language}}
        for path in files:
            with _progress(path) as advance:
                try:
                    sent.append(client.submit(path, metadata, key=key, advance=advance))
                except Exception as error:
                    if is_new and not sent:
                        print_note(f"The dossier is empty; send to it again with: --dossier {dossier}")
                    _say_what_was_sent(error, sent, as_json=as_json)
                    raise
    print_result(sent, _listing(sent), as_json=as_json)


@app.command()
def show(
    document_id: DocumentId, tenant: Tenant = DEFAULT_TENANT, stack: Stack = None, as_json: AsJson = False
) -> None:
    """Where a document is, and what happened to it."""
    with api(stack, "operator", tenant) as client:
        document = client.document(document_id)
        events = client.events(document_id)["items"]
    waits, unknown = _waits(document["id"], stack)
    shown = {**document, "events": events, "waits": waits}
    print_result(shown, _described(document, events, waits, unknown), as_json=as_json)


def _waits(document_id: str, stack: str | None) -> tuple[list[dict[str, Any]] | None, str]:
    """What the document waits for, or None and why that is not known: it is asked of the site, which may be another machine's."""
    from domain.errors import DPJError
    from runtime.cli.document_waits import waits_of

    try:
        # The API has shown it to who asks.
        return asyncio.run(on_site(stack, lambda site: waits_of(site, UUID(document_id)), minds_bounds=True)), ""
    except DPJError as error:
        return None, error.code
    except (OSError, ValueError, CommandFailed):
        return None, "the site is not at hand"


@app.command(name="list")
def list_documents(
    status: Annotated[str | None, typer.Option(help="Only documents in this state, e.g. VERIFIED.")] = None,
    dossier: Annotated[str | None, typer.Option(help="Only documents of this dossier.")] = None,
    type_code: Annotated[str | None, typer.Option("--type", help="Only documents of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Documents, newest first."""
    given = {"status": status, "dossier": dossier, "type": type_code}
    filters = {name: value for name, value in given.items() if value is not None}
    with api(stack, "portal", tenant) as client:
        found = [document for document, _ in zip(client.documents(**filters), range(limit), strict=False)]
    print_result(found, () if as_json else _listing(found), as_json=as_json)


@app.command()
def validate(
    document_id: DocumentId,
    comment: Annotated[str | None, typer.Option(help="A comment for the record.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Validate a document: it goes to the archive. Before its verification the decision is kept for then."""
    with api(stack, "validator", tenant) as client:
        _decided(client.validate(document_id, comment), as_json=as_json)


@app.command()
def reject(
    document_id: DocumentId,
    reason: Annotated[str, typer.Option(help="What the depositor is told.")],
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Reject a document, with the reason that the depositor will read."""
    with api(stack, "validator", tenant) as client:
        _decided(client.reject(document_id, reason), as_json=as_json)


@app.command()
def content(
    document_id: DocumentId,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to.  [default: standard output]")] = None,
    tenant: Tenant = DEFAULT_TENANT,
    stack: Stack = None,
) -> None:
    """Fetch a document's content, decrypted."""
    with api(stack, "portal", tenant) as client:
        pieces = client.content(document_id)
        if output is None:
            if sys.stdout.isatty():
                raise CommandFailed("A document is not written to a terminal.", "Give --output FILE, or a pipe.")
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        partial = output.with_name(output.name + ".part")
        try:
            with partial.open("wb") as file:
                file.writelines(pieces)
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)


def new_dossier() -> dict[str, Any]:
    """A dossier of a number that nobody has: the moment and a random part."""
    import secrets
    from datetime import UTC, datetime

    number = f"CLI-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return {"number": number, "client_id": "cli", "journey_type": "DEPOSIT"}


def check_before(client: ApiClient, file: Path, type_code: str, email: str, language: str) -> None:
    """Raise what the API would refuse the first file with, before a dossier is made for it that would stay empty."""
    from pydantic import ValidationError

    from domain.refusals import FileEmpty, FileTooLarge, MetadataInvalid, TypeInactive, TypeUnknown
    from ingest_api.models import UploadMetadata
    from ingest_api.sniffing import MagicSniffer
    from processors.documents.media_types import media_type

    depositor = {"email": email, "language": language}
    try:
        UploadMetadata.model_validate({"type": type_code, "dossier_id": UUID(int=0), "depositor": depositor})
    except ValidationError as error:
        names = sorted({".".join(map(str, one["loc"])) for one in error.errors()})
        raise MetadataInvalid(f"Not as they have to be: {', '.join(names)}.") from None
    rule = next((one for one in client.types() if one["code"] == type_code), None)
    if rule is None:
        raise TypeUnknown(f"There is no document type {type_code}.")
    if not rule["active"]:
        raise TypeInactive("The document type is not in use.")
    size = file.stat().st_size
    if size == 0:
        raise FileEmpty("The file has no content.")
    if size > rule["max_size"]:
        raise FileTooLarge(f"The document type takes at most {rule['max_size']} bytes.")
    sniffer = MagicSniffer()
    with file.open("rb") as opened:
        media_type(None, sniffer.sniff(opened.read(sniffer.wanted)), frozenset(rule["formats"]))


@contextmanager
def api(stack: str | None, role: str, tenant: str) -> Iterator[ApiClient]:
    """A client of the stack's API in ``role``: with DPJ_TOKEN if that is set, else with a token of the stack's own key."""
    from operations.api_client import ApiClient
    from runtime.cli.administration import issue
    from runtime.config.transport import https_tls

    settings = settings_about(stack, tenant)
    token = os.environ.get("DPJ_TOKEN") or issue(
        settings, [role], tenant=tenant, subject="cli", ttl=3600, tenants=bound_tenants(settings)
    )
    with ApiClient(settings.api_url, token, tls=https_tls(settings, settings.api_url)) as client:
        yield client


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    size = path.stat().st_size
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with progress_bars(*columns, quiet=size < PROGRESS_BYTES) as progress:
        task = progress.add_task(escape(visible(path.name[:30])), total=size)
        yield lambda count: progress.advance(task, count)


def _say_what_was_sent(error: Exception, sent: list[dict[str, Any]], *, as_json: bool) -> None:
    """What was taken before a later file failed must not be lost with the error."""
    if not as_json:
        print_result(None, _listing(sent) if sent else (), as_json=False)
        return
    if sent:
        described = describe(error)
        raise CommandFailed(
            described.message, described.next_step, code=described.code, document={"documents": sent}
        ) from error


def _decided(decided: dict[str, Any], *, as_json: bool) -> None:
    pending = decided["http_status"] == 202
    waiting = "recorded; takes effect once the document is verified" if pending else decided["status"]
    print_result(decided, [f"{decided['id']}  {waiting}"], as_json=as_json)


def _listing(found: list[dict[str, Any]]) -> Iterator[str]:
    """Two lines for each document, within 80 columns; a type that is too long for its line goes on below. Nothing is cut."""
    yield _ROW.format(id="ID", status="STATE", size="BYTES")
    yield f"  {'SENT':<23}  TYPE"
    for one in found:
        yield _ROW.format(id=one["id"], status=one["status"], size="-" if one["size"] is None else one["size"])
        first, *more = wrap(one["type"], COLUMNS - _TYPE_AT) or [""]
        yield f"  {moment_text(one['created_at']):<23}  {first}"
        yield from (" " * _TYPE_AT + rest for rest in more)


def moment_text(at: str) -> str:
    """A moment of the API, to the second, in UTC as it is given."""
    return f"{at[:10]} {at[11:19]} UTC"


def _described(
    document: dict[str, Any], events: list[dict[str, Any]], waits: list[dict[str, Any]] | None, unknown: str
) -> Iterator[str]:
    from runtime.cli.document_waits import lines_of

    facts = {
        "Document": document["id"],
        "State": document["status"],
        "Type": document["type"],
        "Media type": document["media_type"],
        "Bytes": document["size"],
        "SHA-256": document["sha256"],
        "Dossier": document["dossier_id"],
        "GED": document["archive"]["ged_path"],
        "Failure": document["failure_code"],
    }
    for name, value in facts.items():
        if value is not None:
            yield f"{name:<11} {value}"
    yield from lines_of(waits or [])
    if waits is None:
        yield f"Waits       unknown ({unknown})"
    yield ""
    for event in events:
        details = " ".join(f"{name}={value}" for name, value in event["details"].items() if value is not None)
        yield f"{event['at'][:19]}  {event['type']:<20} {event['by'][:20]:<20} {details}".rstrip()
