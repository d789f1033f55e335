"""What the errors of an S3 store and its client mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from xml.etree import ElementTree as ET

import structlog
import urllib3
from minio.error import MinioException, S3Error

from domain.errors import ObjectMissing, ObjectStoreUnavailable

log = structlog.get_logger()

#: What a store says that has no room, or must not use more of it (MinIO's own codes, and S3's).
_FULL: Final = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"})


def refusal(code: str | None) -> ObjectStoreUnavailable:
    """A refusal of the store with its code, if it has one."""
    return ObjectStoreUnavailable("The object store is full." if code in _FULL else "")


@contextmanager
def translated() -> Iterator[None]:
    """The vendor's errors as ours. Whatever is not a clear "no such object" is an outage: it must not condemn a document."""
    try:
        yield
    except S3Error as error:
        if error.code in {"NoSuchKey", "PreconditionFailed"}:
            raise ObjectMissing from None
        log.warning("object_store_refused", code=error.code)
        raise refusal(error.code) from None
    except (MinioException, urllib3.exceptions.HTTPError, ET.ParseError, OSError) as error:
        log.warning("object_store_failed", error=type(error).__name__)
        raise ObjectStoreUnavailable from None
