"""Uploads and downloads with the client that openapi-python-client made (package ``dpj_client``); raises where something is wrong.

Environment: API_URL, API_TOKEN (roles portal and validator), API_FILE (the file to upload).
"""

from __future__ import annotations

import os
import time
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

from dpj_client import AuthenticatedClient, Client
from dpj_client.api.documents import (
    get_document,
    get_document_content,
    get_document_receipt,
    get_document_thumbnail,
    list_document_events,
    list_documents,
    reject_document,
    upload_document,
)
from dpj_client.api.dossiers import create_dossier
from dpj_client.api.links import create_document_link, open_link, revoke_document_link
from dpj_client.models import (
    DepositorInput,
    DocumentView,
    DossierInput,
    DossierView,
    GetDocumentThumbnailSize,
    LinkInput,
    LinkView,
    Problem,
    RejectInput,
    Status,
    UploadDocumentFilesBody,
    UploadMetadata,
)
from dpj_client.types import File

URL, TOKEN = os.environ["API_URL"], os.environ["API_TOKEN"]
CONTENT = Path(os.environ["API_FILE"]).read_bytes()
#: For the way through Kafka on a busy machine; on an idle one a small document takes a second.
SECONDS = 120


def main() -> None:
    client = AuthenticatedClient(base_url=URL, token=TOKEN, raise_on_unexpected_status=True)
    number = f"PY-{uuid4().hex[:12]}"
    dossier = create_dossier.sync(client=client, body=DossierInput(number=number, client_id="C-1", journey_type="LOAN"))
    assert isinstance(dossier, DossierView), dossier

    said = UploadMetadata(
        type_="JUSTIFICATIF_DOMICILE", dossier_id=dossier.id, depositor=DepositorInput(email="marie@example.org")
    )
    key = uuid4().hex

    def upload() -> tuple[DocumentView, str | None]:
        with Path(os.environ["API_FILE"]).open("rb") as opened:
            body = UploadDocumentFilesBody(metadata=said, file=File(opened, "carte.pdf", "application/pdf"))
            answer = upload_document.sync_detailed(client=client, body=body, idempotency_key=key)
        assert answer.status_code == HTTPStatus.CREATED, answer.content
        assert isinstance(answer.parsed, DocumentView)
        assert answer.headers["Location"].endswith(f"/documents/{answer.parsed.id}")
        return answer.parsed, answer.headers.get("Idempotent-Replayed")

    taken, replayed = upload()
    assert (taken.status, taken.size, replayed) == (Status.STORED, len(CONTENT), None)
    again, replayed = upload()
    assert (again.id, replayed) == (taken.id, "true")

    ends = time.monotonic() + SECONDS
    while True:
        document = get_document.sync(taken.id, client=client)
        assert isinstance(document, DocumentView), document
        if document.status is Status.VERIFIED:
            break
        assert time.monotonic() < ends, document.status
        time.sleep(0.2)

    whole = get_document_content.sync_detailed(taken.id, client=client)
    assert isinstance(whole.parsed, File)
    assert whole.parsed.payload.read() == CONTENT
    assert whole.headers["ETag"] == f'"{document.sha256}"'
    part = get_document_content.sync_detailed(taken.id, client=client, range_="bytes=10-19")
    assert isinstance(part.parsed, File)
    assert (part.status_code, part.parsed.payload.read()) == (HTTPStatus.PARTIAL_CONTENT, CONTENT[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(CONTENT)}"
    known = get_document_content.sync_detailed(taken.id, client=client, if_none_match=whole.headers["ETag"])
    assert known.status_code == HTTPStatus.NOT_MODIFIED

    while not isinstance(
        picture := get_document_thumbnail.sync(taken.id, client=client, size=GetDocumentThumbnailSize.VALUE_256), File
    ):
        assert isinstance(picture, Problem), picture
        assert time.monotonic() < ends, picture.code
        time.sleep(0.2)
    assert len(picture.payload.read()) > 100

    link = create_document_link.sync(taken.id, client=client, body=LinkInput(purpose="partner-review", seconds=60))
    assert isinstance(link, LinkView), link
    opened = open_link.sync(link.url.rpartition("/")[2], client=Client(base_url=URL))
    assert isinstance(opened, File), opened
    assert opened.payload.read() == CONTENT
    revoked = revoke_document_link.sync_detailed(taken.id, link.id, client=client)
    assert revoked.status_code == HTTPStatus.NO_CONTENT

    page = list_documents.sync(client=client, dossier=dossier.id, status=Status.VERIFIED)
    assert [one.id for one in page.items] == [taken.id]
    events = list_document_events.sync(taken.id, client=client)
    assert {"STORED", "VERIFIED"} <= {one.type_ for one in events.items}

    rejected = reject_document.sync(taken.id, client=client, body=RejectInput(reason="The back is missing."))
    assert isinstance(rejected, DocumentView), rejected
    assert rejected.status is Status.REJECTED
    none = get_document_receipt.sync(taken.id, client=client)
    assert isinstance(none, Problem), none
    assert (none.code, none.status) == ("receipt_not_available", 409)


if __name__ == "__main__":
    main()
