"""Multipart uploads that were begun in a bucket and never ended, and their end.

S3 lists all of a bucket's by key. MinIO lists those of one exact key reliably, and those of a bucket only as far as the
server that is asked has seen them begin since it started.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from minio import Minio
from minio.datatypes import Upload
from minio.error import S3Error

from domain.errors import ObjectStoreUnavailable
from domain.objects import UnfinishedPut
from storage.minio_errors import translated

BATCH: Final = 256


class UnfinishedClient(Minio):
    """The vendor's client with what it keeps to itself."""

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

    def drop(self, bucket: str, put: UnfinishedPut) -> None:
        self._abort_multipart_upload(bucket, put.key or "", put.id)


class UnfinishedListing:
    """A Reading of storage.threads over the pages of ListMultipartUploads; with ``key``, that key's alone."""

    def __init__(self, client: UnfinishedClient, bucket: str, key: str | None) -> None:
        self._key = key
        self._uploads = client.pages(bucket, key or "")

    def next(self) -> tuple[list[UnfinishedPut], bool]:
        with translated():
            batch = list(islice(self._uploads, BATCH))
        found = [_described(upload) for upload in batch if self._key in {None, upload.object_name}]
        return found, len(batch) < BATCH

    def close(self) -> None:
        """Nothing is open between two pages."""


def abort(client: UnfinishedClient, bucket: str, put: UnfinishedPut) -> None:
    """One that is not there is fine. Raises ObjectStoreUnavailable."""
    with translated():
        try:
            client.drop(bucket, put)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise


def _described(upload: Upload) -> UnfinishedPut:
    """Raises ObjectStoreUnavailable if the store's answer lacks a field."""
    if upload.upload_id is None or upload.initiated_time is None:
        raise ObjectStoreUnavailable("The store's answer is incomplete.")
    return UnfinishedPut(upload.upload_id, upload.object_name, upload.initiated_time)
