"""An upload out of a request, in either of two forms, without reading the file.

* ``multipart/form-data``: part ``metadata`` (JSON), then part ``file`` with its name and media type;
* raw: the body is the file, Content-Type its media type, and header ``X-DPJ-Metadata`` the base64url of the same JSON.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from python_multipart.multipart import parse_options_header

from domain.documents import Language
from domain.refusals import BodyMalformed, MediaTypeUnsupported
from ingest_api.body import Body, parse_json
from ingest_api.file_names import clean_file_name
from ingest_api.idempotency_header import given_idempotency_key
from ingest_api.models import UploadMetadata
from ingest_api.multipart import MAX_OVERHEAD_BYTES, FileHead, UploadForm
from processors.documents.intake import Upload

METADATA_HEADER: Final = "x-dpj-metadata"
MAX_METADATA_HEADER: Final = 16 * 1024
_RAW_ADVICE: Final = "Send the metadata's JSON as base64url in one header X-DPJ-Metadata, or send multipart/form-data."
_FORM_ADVICE: Final = "Let your HTTP library set the Content-Type of the form: it knows the boundary."


@dataclass(frozen=True, slots=True)
class _Parts:
    metadata: UploadMetadata
    head: FileHead
    content: AsyncIterator[bytes]
    overhead: int


async def read_upload(request: Request, *, timeout: float) -> Upload:
    """The upload that ``request`` carries; its content is still to come and is read as intake asks for it.

    Raises MediaTypeUnsupported, IdempotencyKeyInvalid, BodyMalformed, BodyTruncated, BodyTooSlow or MetadataInvalid.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise MediaTypeUnsupported(
            "The body is declared as compressed.", advice="Send the body as it is, without Content-Encoding."
        )
    key = given_idempotency_key(request.headers)
    if len(set(request.headers.getlist(METADATA_HEADER))) > 1:
        raise BodyMalformed("The request has several X-DPJ-Metadata headers that differ.", advice=_RAW_ADVICE)
    declared, options = parse_options_header(request.headers.get("content-type"))
    body = Body(request.receive, timeout=timeout)
    if declared == b"multipart/form-data":
        parts = await _from_form(body, options)
    elif not declared or declared.startswith((b"multipart/", b"application/x-www-form-urlencoded")):
        raise MediaTypeUnsupported(
            "The Content-Type is missing, or that of a form of another kind.",
            advice="Send multipart/form-data, or the file itself with its media type.",
        )
    else:
        parts = _from_raw(body, request.headers, declared.decode("latin-1"))
    metadata = parts.metadata
    return Upload(
        type_code=metadata.type,
        dossier_id=metadata.dossier_id,
        file_name=clean_file_name(metadata.file_name or parts.head.file_name),
        depositor_email=metadata.depositor.email,
        depositor_name=metadata.depositor.name,
        language=Language(metadata.depositor.language),
        content=parts.content,
        step_id=metadata.step_id,
        parent_id=metadata.parent_id,
        tags=tuple(metadata.tags),
        metadata=metadata.metadata,
        sha256=metadata.sha256.lower() if metadata.sha256 else None,
        declared_type=parts.head.media_type,
        idempotency_key=key,
        at_least=max(0, _content_length(request.headers) - parts.overhead),
    )


async def _from_form(body: Body, options: Mapping[bytes, bytes]) -> _Parts:
    boundary = options.get(b"boundary")
    if not boundary:
        raise BodyMalformed("The Content-Type names no boundary.", advice=_FORM_ADVICE)
    form = UploadForm(body, boundary)
    metadata = parse_json(await form.metadata(), UploadMetadata)
    return _Parts(metadata, await form.file(), form.content(), MAX_OVERHEAD_BYTES)


def _from_raw(body: Body, headers: Mapping[str, str], media_type: str) -> _Parts:
    encoded = headers.get(METADATA_HEADER)
    if encoded is None:
        raise BodyMalformed(
            "The body is taken for the file itself, and the header X-DPJ-Metadata is missing.", advice=_RAW_ADVICE
        )
    if len(encoded) > MAX_METADATA_HEADER:
        raise BodyMalformed(
            f"The header X-DPJ-Metadata has more than {MAX_METADATA_HEADER} characters.",
            advice=f"Send at most {MAX_METADATA_HEADER} characters there, or multipart/form-data.",
        )
    try:
        content = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BodyMalformed("The header X-DPJ-Metadata is not base64url.", advice=_RAW_ADVICE) from None
    return _Parts(parse_json(content, UploadMetadata), FileHead(None, media_type), aiter(body), 0)


def _content_length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
