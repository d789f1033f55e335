"""Names of checkpoints in both stores: ``<tenant>/<size, 20 digits>.json``, so that their order is that of their sizes."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

_NAME: Final = re.compile(r"(\d{20})\.json", re.ASCII)


def tenant_folder(tenant: str) -> str:
    """A name of its own for every tenant that is no path and no hidden file. Raises ValueError for the empty one."""
    if not tenant:
        raise ValueError("a tenant has a name")
    name = quote(tenant, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def tenant_of(folder: str) -> str:
    """Whose folder it is."""
    return unquote(folder)


def name_of(size: int) -> str:
    return f"{size:020d}.json"


def size_of(name: str) -> int | None:
    """None for what is no checkpoint's name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None
