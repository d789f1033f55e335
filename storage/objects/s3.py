"""Object store over S3, made for MinIO: only plain operations are used, so that any S3 store can stand in.

What it needs of the store: PutObject, multipart uploads, GetObject with Range and If-Match, HeadObject, DeleteObject,
ListObjectsV2, read-after-write consistency. Permissions on its one bucket: those operations, ``s3:ListBucket`` and
``s3:AbortMultipartUpload``, ``s3:ListBucketMultipartUploads``, ``s3:ListBucketVersions``. The bucket has no versioning (a delete must delete), and a rule
that drops multipart uploads left behind by a killed process (MinIO does so by itself after 24 hours).

An object of up to one part is a single PUT, a longer one a multipart upload. Every body is checked by the store on
arrival: a whole object by the SHA-256 in the request's signature (over TLS, when it comes from the vendor's client, by
Content-MD5), a part by its CRC-32, which is named once more when the upload is completed
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html). The etag is the store's:
a digest of the bytes, and since no two envelopes are alike, it changes whenever an object is written anew.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import islice
from threading import Lock

import structlog
import urllib3
from minio.datatypes import Object
from minio.helpers import DictType

from domain.errors import ObjectMissing, ObjectStoreUnavailable
from domain.objects import StoredObject, UnfinishedPut
from domain.refusals import FileTooLarge
from storage.clients.s3_errors import refusal
from storage.clients.s3_errors import translated as _translated
from storage.clients.worker_threads import ObjectStoreThreads
from storage.objects.object_keys import check_key, check_prefix
from storage.objects.s3_multipart import MultipartClient, UnfinishedListing, UploadedPart, abort, as_bytes
from storage.objects.s3_requests import MAX_ANSWER_BYTES, S3Requests, S3Response, SigV4Signer
from storage.objects.s3_versions import purge

PART_SIZE = 8 << 20  # S3 allows 5 MiB and more; half as many requests cost the store less
PARTS_AT_ONCE = 2
MAX_PARTS = 10_000
PIECE_SIZE = 2 << 20  # two of them are what a reading holds: one in use, one ahead
#: Up to here an object goes and comes in one request of the event loop itself: hashing it takes less than a millisecond.
SMALL = 1 << 20
LIST_BATCH = 256

#: First and last byte of a part that was asked for, and the object's size.
_SPAN = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
#: The code in the XML body of a refusal.
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")

log = structlog.get_logger()


class MinioObjectStore:
    """The ObjectStore port over one bucket, for one event loop. Opens no connection until it is used.

    ``endpoint`` is ``host:port``. ``deadline`` in seconds holds for each call (a part, a piece), ``connect_timeout`` for
    reaching the store. ``tls`` says whom to trust over TLS, if not the system's authorities.
    """

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
        workers: int = 16,
        deadline: float = 30.0,
        connect_timeout: float = 3.0,
    ) -> None:
        pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=4 * workers,  # a reading keeps its connection between pieces, when it has no thread
            timeout=urllib3.Timeout(connect=connect_timeout, read=deadline),
            # Once more after a connection that had gone stale; holding on through an outage is delivery's business.
            retries=urllib3.Retry(total=1, status=0, redirect=0, backoff_factor=0),
            cert_reqs="CERT_REQUIRED",
            ssl_context=tls,
        )
        self._client = MultipartClient(endpoint, access_key, secret_key, secure=secure, region=region, http_client=pool)
        self._bucket = bucket
        self._threads = ObjectStoreThreads("objects-minio", workers, deadline)
        self._requests = S3Requests(
            endpoint,
            SigV4Signer(endpoint, access_key, secret_key, region),
            tls=(tls or ssl.create_default_context()) if secure else None,
            connections=4 * workers,
            deadline=deadline,
            connect_timeout=connect_timeout,
        )

    async def put(self, key: str, data: AsyncIterable[bytes]) -> StoredObject:
        """Store a stream of unknown length. ``modified_at`` is our clock's; ``stat`` gives the store's.

        Raises ObjectStoreUnavailable, FileTooLarge (over 10,000 parts) and what ``data`` raises; then nothing is left.
        """
        check_key(key)
        upload = _Upload(self._client, self._bucket, key)
        start, pieces = bytearray(), aiter(data)
        async for piece in pieces:
            start += piece
            if len(start) > SMALL:
                break
        else:
            return await self._put_small(upload, key, start)
        return await self._threads.write(upload, _from(start, pieces), PART_SIZE, PARTS_AT_ONCE)

    async def stat(self, key: str) -> StoredObject:
        """Raises ObjectMissing or ObjectStoreUnavailable."""
        check_key(key)
        answer = await self._requests.request("HEAD", f"/{self._bucket}/{key}")
        if answer.status == HTTPStatus.NOT_FOUND:
            # A HEAD has no body to tell a missing bucket from a missing object, and one is an outage, the other a verdict.
            await self.check()
            raise ObjectMissing
        size, etag = answer.headers.get(b"content-length"), _etag_of(answer)
        modified_at = _time_of(answer.headers.get(b"last-modified"))
        if answer.status != HTTPStatus.OK:
            raise _refused(answer)
        if not etag or size is None or modified_at is None:
            raise ObjectStoreUnavailable("The store's answer is incomplete.")
        return StoredObject(key, int(size), etag, modified_at)

    async def read(
        self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Up to ``length`` bytes from ``start``, none beyond the end.

        Raises ObjectMissing (absent, or no longer the version ``etag``) or ObjectStoreUnavailable, in midstream too.
        """
        check_key(key)
        if length == 0:
            return
        first = await self._read_first(key, start, SMALL if length is None else min(length, SMALL), etag)
        if first is None:
            return
        piece, total, version = first
        end = total if length is None else min(total, start + length)
        start += len(piece)
        yield piece
        if start < end:
            del first, piece  # the rest may take long
            reading = _ObjectReading(self._client, self._bucket, key, (start, end - start), version)
            async with aclosing(self._threads.stream(reading)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _read_first(self, key: str, start: int, length: int, etag: str | None) -> tuple[bytes, int, str] | None:
        """The first bytes of a reading, which are all of a small object; the object's size and version. None beyond its end."""
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        if etag is not None:
            headers["If-Match"] = f'"{etag}"'
        answer = await self._requests.request(
            "GET", f"/{self._bucket}/{key}", headers=headers, limit=length + MAX_ANSWER_BYTES
        )
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        if answer.status == HTTPStatus.PRECONDITION_FAILED or _code_of(answer) == "NoSuchKey":
            raise ObjectMissing
        span, version = _SPAN.fullmatch(answer.headers.get(b"content-range", b"")), _etag_of(answer)
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            raise _refused(answer)
        if not span or not version or int(span[1]) != start or int(span[2]) + 1 - start != len(answer.body):
            raise ObjectStoreUnavailable("The store's answer is incomplete.")
        return answer.body, int(span[3]), version

    async def delete(self, key: str) -> None:
        """Delete; an absent object is fine. Raises ObjectStoreUnavailable."""
        check_key(key)
        await self._threads.run(self._delete, key)

    async def purge(self, key: str) -> None:
        """Delete the object of that key and those derived from it, in every version; see ``storage.objects.s3_versions``.

        Raises ObjectStoreUnavailable, also if something is left.
        """
        check_key(key)
        await self._threads.run(purge, self._client, self._bucket, key)

    async def list(self, prefix: str) -> AsyncGenerator[StoredObject, None]:
        """Objects whose keys begin with ``prefix``, in the order of their keys. Raises ObjectStoreUnavailable."""
        check_prefix(prefix)
        async with aclosing(self._threads.stream(_Listing(self._client, self._bucket, prefix))) as batches:
            async for batch in batches:
                for stored in batch:
                    yield stored

    async def unfinished(self, key: str | None = None) -> AsyncGenerator[UnfinishedPut, None]:
        """Multipart uploads under way or left behind; see ``storage.objects.s3_multipart``. Raises ObjectStoreUnavailable."""
        listing = UnfinishedListing(self._client, self._bucket, key)
        async with aclosing(self._threads.stream(listing)) as batches:
            async for batch in batches:
                for put in batch:
                    yield put

    async def abort(self, put: UnfinishedPut) -> None:
        """End a multipart upload for good; one that is not there is fine. Raises ObjectStoreUnavailable."""
        await self._threads.run(abort, self._client, self._bucket, put)

    async def prepare(self) -> None:
        """Make the bucket, where there is none yet. Raises ObjectStoreUnavailable."""
        await self._threads.run(self._prepare)

    async def check(self) -> None:
        """Raises ObjectStoreUnavailable unless the bucket is there and answers."""
        await self._threads.run(self._check)

    async def aclose(self) -> None:
        """Let go of the connections; calls under way end by their own timeouts."""
        await self._threads.aclose()
        self._client.close()
        self._requests.close()

    async def _put_small(self, upload: _Upload, key: str, content: bytearray) -> StoredObject:
        sending = asyncio.create_task(self._send_small(upload, key, content))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            # The request can't be taken back: it comes to its end, and then what it made visible is removed.
            sending.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            await self._threads.undo(upload, sending)
            raise

    async def _send_small(self, upload: _Upload, key: str, content: bytearray) -> StoredObject:
        answer = await self._requests.request("PUT", f"/{self._bucket}/{key}", content)
        if answer.status != HTTPStatus.OK:
            raise _refused(answer)
        # The request is signed over the body's SHA-256: the store answers 200 only if what it received has that digest.
        return replace(upload.was_sent(len(content), _etag_of(answer)), proved=True)

    def _delete(self, key: str) -> None:
        with _translated():
            self._client.remove_object(self._bucket, key)

    def _prepare(self) -> None:
        with _translated():
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)

    def _check(self) -> None:
        with _translated():
            found = self._client.bucket_exists(self._bucket)
        if not found:
            raise ObjectStoreUnavailable("The bucket does not exist.")


class _Upload:
    """A Writing of storage.clients.worker_threads: one PUT if the first part is the last, else a multipart upload, whose parts may be sent at once."""

    def __init__(self, client: MultipartClient, bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload_id: str | None = None
        self._parts: list[UploadedPart] = []
        self._size = 0
        self._etag: str | None = None
        self._lock = Lock()

    def add(self, part: bytearray, number: int) -> None:
        if number > MAX_PARTS:
            raise FileTooLarge("The object has more parts than the store takes.")
        with _translated():
            sent = self._client.send(self._bucket, self._key, self._begun(), number, part)
        with self._lock:
            self._parts.append(sent)
            self._size += len(part)

    def finish(self, part: bytearray) -> StoredObject:
        if self._upload_id is None:
            with _translated():
                return self.was_sent(len(part), self._client.send_whole(self._bucket, self._key, part))
        self.add(part, len(self._parts) + 1)
        with _translated():
            in_order = sorted(self._parts, key=lambda sent: sent.number)
            etag = self._client.complete(self._bucket, self._key, self._upload_id, in_order)
        return self.was_sent(self._size, etag)

    def _begun(self) -> str:
        with self._lock:
            if self._upload_id is None:
                self._upload_id = self._client.begin(self._bucket, self._key)
            return self._upload_id

    def was_sent(self, size: int, etag: str | None) -> StoredObject:
        """The store has answered for the object. Raises ObjectStoreUnavailable if its answer names no version."""
        if not etag:
            raise ObjectStoreUnavailable("The store did not confirm the object.")
        self._size, self._etag = size, etag
        return StoredObject(self._key, size, etag, datetime.now(UTC))

    def undo(self) -> None:
        with _translated():
            if self._etag:
                self._remove_ours()
            elif self._upload_id is not None:
                self._client.abort(self._bucket, self._key, self._upload_id)

    def _remove_ours(self) -> None:
        """Only what we wrote: another attempt may have put its own object under the key since."""
        if self._client.stat_object(self._bucket, self._key).etag == self._etag:
            self._client.remove_object(self._bucket, self._key)


class _ObjectReading:
    """A Reading of storage.clients.worker_threads over one GET: ``length`` bytes from ``start`` of the version ``etag``, which has as many."""

    def __init__(self, client: MultipartClient, bucket: str, key: str, span: tuple[int, int], etag: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._start, self._length = span
        self._headers: DictType = {"If-Match": f'"{etag}"'}
        self._response: urllib3.BaseHTTPResponse | None = None
        self._closed = False
        self._lock = Lock()

    def next(self) -> tuple[bytes, bool]:
        with self._lock, _translated():
            if self._closed:
                return b"", True
            if self._response is None:
                self._response = self._client.get_object(
                    self._bucket, self._key, self._start, self._length, request_headers=self._headers
                )
            piece = self._response.read(PIECE_SIZE)
            done = len(piece) < PIECE_SIZE
            if done:
                self._response.release_conn()
                self._closed = True
            return piece, done

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._response is not None:
                self._response.close()


class _Listing:
    """A Reading over the pages of ListObjectsV2."""

    def __init__(self, client: MultipartClient, bucket: str, prefix: str) -> None:
        self._objects = client.list_objects(bucket, prefix=prefix, recursive=True)

    def next(self) -> tuple[list[StoredObject], bool]:
        with _translated():
            batch = [_described(found) for found in islice(self._objects, LIST_BATCH)]
        return batch, len(batch) < LIST_BATCH

    def close(self) -> None:
        """Nothing is open between two pages."""


async def _from(start: bytearray, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield as_bytes(start)
    async for piece in pieces:
        yield piece


def _refused(answer: S3Response) -> ObjectStoreUnavailable:
    """Whatever is not a clear "no such object" is an outage: it must not condemn a document."""
    code = _code_of(answer)
    log.warning("object_store_refused", code=code or str(answer.status))
    return refusal(code)


def _code_of(answer: S3Response) -> str | None:
    code = None if answer.status < HTTPStatus.BAD_REQUEST else _CODE.search(answer.body)
    return code[1].decode() if code else None


def _etag_of(answer: S3Response) -> str:
    return answer.headers.get(b"etag", b"").decode("latin-1").strip('"')


def _time_of(text: bytes | None) -> datetime | None:
    try:
        return None if text is None else parsedate_to_datetime(text.decode("latin-1"))
    except ValueError:
        return None


def _described(found: Object) -> StoredObject:
    """Raises ObjectStoreUnavailable if the store's answer lacks a field."""
    if found.object_name is None or found.size is None or not found.etag or found.last_modified is None:
        raise ObjectStoreUnavailable("The store's answer is incomplete.")
    return StoredObject(found.object_name, found.size, found.etag.strip('"'), found.last_modified)
