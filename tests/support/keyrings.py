"""Local keyrings with keys for tenants."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from crypto import local_key_file
from crypto.local_key_file import Key
from crypto.local_keyring import LocalKeyring


def a_keyring(path: Path, *tenants: str) -> LocalKeyring:
    """A new key file that has a key for each of ``tenants``."""
    made = LocalKeyring.create(path)
    with local_key_file.changing(path) as keys:
        for tenant in tenants:
            keys.tenants[tenant] = key = Key(0, {})
            key.add_version(datetime.now(UTC))
    return made
