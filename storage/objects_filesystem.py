"""Object store in a folder: the embedded default, with the promises that the S3 adapter makes.

Layout under the root: an object ``a/b`` is the file ``a/b@`` (a key's alphabet has no ``@``, so a key never collides with the
folder of another), holding the sealed bytes and a footer of 40 bytes: ``DPJOBJ1\\n`` and the SHA-256 of what is before it, which
is the etag. In the footer it stays with its bytes through every copy and restore, and ``stat`` never reads the content.
``.incoming`` holds what is being written. Files are 0600, folders 0700.

A put is: write beside, fsync, rename, fsync the folder. So an object is there whole or not at all, through a power cut too,
as far as the disk keeps the promise of fsync. One file system holds the whole root.
"""

from __future__ import annotations

import hashlib
import os
import stat as modes
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar
from uuid import uuid4

from domain.errors import IntegrityMismatch, ObjectMissing, ObjectStoreUnavailable
from storage.object_keys import check_key, check_prefix
from storage.threads import Threads, parts_of

FOOTER_MAGIC = b"DPJOBJ1\n"
FOOTER_SIZE = len(FOOTER_MAGIC) + 32
PIECE_SIZE = 1 << 20
INCOMING = ".incoming"
OBJECT_SUFFIX = "@"
LIST_BATCH = 256

P = ParamSpec("P")
T = TypeVar("T")


class StoredObject(NamedTuple):
    """As the port's: key, size of the sealed object in bytes, etag, time of the last change."""

    key: str
    size: int
    etag: str
    modified_at: datetime
