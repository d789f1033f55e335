"""Deleting an object for good: every version of it that a bucket with versioning keeps, its delete markers, what was begun.

Our own bucket has no versioning; a site's may have been given it, and then a plain delete hides an object and keeps its bytes.
Needs ``s3:ListBucketVersions``, and ``s3:DeleteObjectVersion`` where the bucket has versions. A bucket whose object lock keeps
a version refuses, and the erasure waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from domain.errors import ObjectStoreUnavailable
from domain.objects import UnfinishedPut
from storage.clients.s3_errors import translated
from storage.objects.s3_multipart import MultipartClient, abort

#: What a store without versioning calls the one version of an object.
_NO_VERSION: Final = {None, "", "null"}


class _Version(NamedTuple):
    key: str
    version: str | None


def purge(client: MultipartClient, bucket: str, key: str) -> None:
    """Delete ``key`` and every key that is ``key``, a dot and more. Raises ObjectStoreUnavailable, also if something is left."""
    with translated():
        for upload in [*client.pages(bucket, key)]:
            if _is_of(upload.object_name, key):
                abort(client, bucket, UnfinishedPut(str(upload.upload_id), upload.object_name, datetime.now(UTC)))
        for found in [*_versions(client, bucket, key)]:
            client.remove_object(bucket, found.key, version_id=found.version)
        left = [*_versions(client, bucket, key)]
    if left:
        raise ObjectStoreUnavailable("The store still has what it was told to delete.", outage=False)


def _versions(client: MultipartClient, bucket: str, key: str) -> Iterator[_Version]:
    for found in client.list_objects(bucket, prefix=key, recursive=True, include_version=True):
        if _is_of(found.object_name, key):
            version = None if found.version_id in _NO_VERSION else found.version_id
            yield _Version(str(found.object_name), version)


def _is_of(found: str | None, key: str) -> bool:
    return found is not None and (found == key or found.startswith(f"{key}."))
