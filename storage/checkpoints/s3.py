"""Checkpoint store in an S3 bucket with object lock, made for MinIO, under credentials of its own.

What it needs of the bucket: versioning with object lock, and a default retention in COMPLIANCE mode, long enough: what is put can be
removed by nobody, the store's administrators included, until its time is over. A bucket without that is refused, at every put, because
its administrators may change the default for what comes later. Our own puts don't name a retention: the permission that needs
would let these credentials choose a shorter one than the bucket's. Permissions on that one
bucket: ``s3:PutObject``, ``s3:GetObject``, ``s3:GetObjectVersion``, ``s3:ListBucket``, ``s3:ListBucketVersions``,
``s3:GetBucketObjectLockConfiguration``. No delete, no bypass, no change of retention.

Objects are named as in ``storage.checkpoints.names``. A lock keeps versions; it can't keep somebody from putting another one on top or
from hiding them behind a delete marker. So all versions are read, and delete markers passed over: a second body under a name shows
as what it is, a fork.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

import structlog
import urllib3
from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.error import S3Error
from minio.helpers import DictType
from minio.objectlockconfig import YEARS

from domain.checkpoints import MAX_FILE_BYTES
from domain.errors import CheckpointStoreUnavailable, ObjectMissing, ObjectStoreUnavailable
from storage.checkpoints.names import name_of, size_of, tenant_folder, tenant_of
from storage.clients.s3_errors import translated
from storage.clients.worker_threads import ObjectStoreThreads

_T = TypeVar("_T")

WORKERS: Final = 4
DAYS_OF_YEAR: Final = 365
#: S3's ways of saying that If-None-Match found something, or that another such put is under way.
_TAKEN: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})

log = structlog.get_logger()


class _Client(Minio):
    """The vendor's client with a put that it has no public method for."""

    def put_new(self, bucket: str, key: str, content: bytes) -> None:
        """Raises S3Error PreconditionFailed if the name is taken."""
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode("ascii")
        headers: DictType = {"Content-Type": "application/json", "Content-MD5": digest, "If-None-Match": "*"}
        self._put_object(bucket, key, content, headers)


class S3CheckpointStore:
    """See ``processors.audit.checkpoints.CheckpointStore``. Opens no connection until it is used; ``endpoint`` is ``host:port``,
    ``deadline`` in seconds holds for each call, ``tls`` says whom to trust over TLS, if not the system's authorities, ``least_days``
    is the shortest default retention that is accepted."""

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        *,
        secure: bool = True,
        region: str = "us-east-1",
        tls: ssl.SSLContext | None = None,
        deadline: float = 15.0,
        connect_timeout: float = 3.0,
        least_days: int = 3_650,
    ) -> None:
        pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=WORKERS,
            timeout=urllib3.Timeout(connect=connect_timeout, read=deadline),
            retries=urllib3.Retry(total=1, status=0, redirect=0, backoff_factor=0),
            cert_reqs="CERT_REQUIRED",
            ssl_context=tls,
        )
        self._pool = pool
        self._client = _Client(endpoint, access_key, secret_key, secure=secure, region=region, http_client=pool)
        self._bucket = bucket
        self._threads = ObjectStoreThreads("checkpoints-s3", WORKERS, deadline)
        self._least_days = least_days

    async def put(self, tenant: str, size: int, content: bytes) -> None:
        """Keep it; one of that size that is there stays. Raises CheckpointStoreUnavailable, also for a bucket that is not locked."""
        await self.check()
        await self._run(lambda: self._put(_key(tenant, size), content))

    async def sizes(self, tenant: str, first: int, limit: int) -> Sequence[int]:
        """The sizes kept, from ``first`` on, in order, at most ``limit``. Raises CheckpointStoreUnavailable."""
        return await self._run(lambda: list(islice(self._sizes(tenant, first), limit)))

    async def contents(self, tenant: str, size: int) -> Sequence[bytes]:
        """All versions that differ, oldest first. Raises CheckpointStoreUnavailable."""
        return await self._run(lambda: self._contents(_key(tenant, size)))

    async def tenants(self) -> Sequence[str]:
        """Those with checkpoints. Raises CheckpointStoreUnavailable."""
        return await self._run(self._tenants)

    async def check(self) -> None:
        """Raises CheckpointStoreUnavailable unless the bucket answers and locks what is put, in COMPLIANCE mode and for long enough."""
        config = await self._run(lambda: self._client.get_object_lock_config(self._bucket))
        days = (config.duration or 0) * (DAYS_OF_YEAR if config.duration_unit == YEARS else 1)
        if config.mode != COMPLIANCE or days < self._least_days:
            log.error("checkpoint_bucket_not_locked", mode=config.mode, days=days)
            raise CheckpointStoreUnavailable(
                "The bucket has no default retention in COMPLIANCE mode that is long enough."
            )

    async def aclose(self) -> None:
        """Let go of the connections; calls under way end by their own timeouts."""
        await self._threads.aclose()
        self._pool.clear()

    async def _run(self, call: Callable[[], _T]) -> _T:
        def called() -> _T:
            with translated():
                return call()

        try:
            return await self._threads.run(called)
        except (ObjectStoreUnavailable, ObjectMissing):
            raise CheckpointStoreUnavailable from None

    def _put(self, key: str, content: bytes) -> None:
        try:
            self._client.put_new(self._bucket, key, content)
        except S3Error as error:
            if error.code not in _TAKEN:
                raise

    def _tenants(self) -> list[str]:
        folders = self._client.list_objects(self._bucket, include_version=True)
        return sorted({tenant_of((found.object_name or "").partition("/")[0]) for found in folders})

    def _sizes(self, tenant: str, first: int) -> Iterator[int]:
        folder, last = f"{tenant_folder(tenant)}/", -1
        start = folder + name_of(first - 1)
        for found in self._client.list_objects(self._bucket, folder, start_after=start, include_version=True):
            size = size_of((found.object_name or "").removeprefix(folder))
            if size is not None and size >= first and size != last and not found.is_delete_marker:
                last = size
                yield size

    def _contents(self, key: str) -> list[bytes]:
        versions = [
            found.version_id
            for found in self._client.list_objects(self._bucket, key, include_version=True)
            if found.object_name == key and not found.is_delete_marker
        ]
        contents = [self._read(key, version) for version in reversed(versions)]
        return list(dict.fromkeys(contents))

    def _read(self, key: str, version: str | None) -> bytes:
        answer = self._client.get_object(self._bucket, key, version_id=version)
        try:
            return answer.read(MAX_FILE_BYTES + 1)
        finally:
            answer.close()
            answer.release_conn()


def _key(tenant: str, size: int) -> str:
    return f"{tenant_folder(tenant)}/{name_of(size)}"
