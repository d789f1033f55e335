"""Multipart uploads step by step, and those that were begun in a bucket and never ended.

S3 lists all of a bucket's by key. MinIO lists those of one exact key reliably, and those of a bucket only as far as the
server that is asked has seen them begin since it started.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple, cast
from xml.etree.ElementTree import Element, SubElement, tostring

from minio import Minio
from minio.datatypes import CompleteMultipartUploadResult, Upload
from minio.error import S3Error

from domain.errors import ObjectStoreUnavailable
from domain.objects import UnfinishedPut
from storage.clients.s3_errors import translated

BATCH: Final = 256
CHECKSUM: Final = "x-amz-checksum-crc32"


class UploadedPart(NamedTuple):
    """One that was sent: its number, the store's ETag of it, and the base64 of its CRC-32."""

    number: int
    etag: str
    crc: str


class MultipartClient(Minio):
    """The vendor's client with what it keeps to itself: its public ``put_object`` pulls from a blocking stream, and would hold a
    thread for as long as a slow sender takes."""

    def pages(self, bucket: str, prefix: str) -> Iterator[Upload]:
        key_marker: str | None = None
        id_marker: str | None = None
        while True:
            page = self._list_multipart_uploads(
                bucket, prefix=prefix, key_marker=key_marker, upload_id_marker=id_marker, encoding_type="url"
            )
            yield from page.uploads
            if not page.is_truncated or not page.uploads:
                return
            last = page.uploads[-1]  # where the next page begins; the vendor's class loses the server's own marker
            if (last.object_name, last.upload_id) == (key_marker, id_marker):
                return
            key_marker, id_marker = last.object_name, last.upload_id

    def begin(self, bucket: str, key: str) -> str:
        return self._create_multipart_upload(bucket, key, {"x-amz-checksum-algorithm": "CRC32"})

    def send(self, bucket: str, key: str, upload_id: str, number: int, part: bytearray) -> UploadedPart:
        crc = base64.b64encode(zlib.crc32(part).to_bytes(4, "big")).decode()
        etag = self._upload_part(bucket, key, as_bytes(part), {CHECKSUM: crc}, upload_id, number)
        return UploadedPart(number, etag, crc)

    def send_whole(self, bucket: str, key: str, content: bytearray) -> str:
        return self._put_object(bucket, key, as_bytes(content), {"Content-Type": "application/octet-stream"}).etag or ""

    def complete(self, bucket: str, key: str, upload_id: str, parts: list[UploadedPart]) -> str:
        order = Element("CompleteMultipartUpload")
        for part in parts:
            said = SubElement(order, "Part")
            for name, value in (("PartNumber", str(part.number)), ("ETag", part.etag), ("ChecksumCRC32", part.crc)):
                SubElement(said, name).text = value
        answer = self._execute(
            "POST",
            bucket,
            key,
            body=tostring(order),
            headers={"Content-Type": "application/xml"},
            query_params={"uploadId": upload_id},
        )
        # S3 may answer 200 and only then fail: the body without an ETag is that failure.
        return CompleteMultipartUploadResult(answer).etag or ""

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        self._abort_multipart_upload(bucket, key, upload_id)

    def close(self) -> None:
        self._http.clear()

    def _build_headers(self, host: str, headers: Any = None, body: bytes | None = None, creds: Any = None) -> Any:
        """A body that the store checks by its CRC-32 is not hashed for the signature as well: that would cost it, and us,
        as much as sealing it does. The signature covers the CRC."""
        if not headers or CHECKSUM not in headers:
            return super()._build_headers(host, headers, body, creds)
        built, date = super()._build_headers(host, headers, None, creds)
        built["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
        built["Content-Length"] = str(len(body or b""))
        return built, date


class UnfinishedListing:
    """A Reading of storage.clients.worker_threads over the pages of ListMultipartUploads; with ``key``, that key's alone."""

    def __init__(self, client: MultipartClient, bucket: str, key: str | None) -> None:
        self._key = key
        self._uploads = client.pages(bucket, key or "")

    def next(self) -> tuple[list[UnfinishedPut], bool]:
        with translated():
            batch = list(islice(self._uploads, BATCH))
        found = [_described(upload) for upload in batch if self._key in {None, upload.object_name}]
        return found, len(batch) < BATCH

    def close(self) -> None:
        """Nothing is open between two pages."""


def abort(client: MultipartClient, bucket: str, put: UnfinishedPut) -> None:
    """One that is not there is fine. Raises ObjectStoreUnavailable."""
    with translated():
        try:
            client.abort(bucket, put.key or "", put.id)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise


def _described(upload: Upload) -> UnfinishedPut:
    """Raises ObjectStoreUnavailable if the store's answer lacks a field."""
    if upload.upload_id is None or upload.initiated_time is None:
        raise ObjectStoreUnavailable("The store's answer is incomplete.")
    return UnfinishedPut(upload.upload_id, upload.object_name, upload.initiated_time)


def as_bytes(part: bytearray) -> bytes:
    """No copy: the client is annotated for bytes, but only hashes and sends what it is given, which any buffer allows."""
    return cast("bytes", part)
