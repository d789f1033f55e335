"""Which object keys both stores take: plain on every file system and in every S3 URL, and never a way out of the root.

Callers keep one rule more: no key is a folder of another (``a`` beside ``a/b``). MinIO stores both, but lists only ``a``.
"""

from __future__ import annotations

import re

MAX_KEY_LENGTH = 512

# A segment begins with a letter or digit, which rules out "..", hidden files and options; 200 leaves room for suffixes.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,199})*", re.ASCII)


def check_key(key: str) -> None:
    """Raises ValueError unless ``key`` is segments of ``A-Z a-z 0-9 . _ -`` between single slashes."""
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        raise ValueError("an object key has segments of letters, digits, dot, hyphen and underscore")


def check_prefix(prefix: str) -> None:
    """Raises ValueError unless ``prefix`` can begin a key; the empty prefix does."""
    if prefix:
        check_key(prefix.removesuffix("/"))
