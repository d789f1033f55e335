"""The file of the local keyring: its format, read and written. ``crypto.local_keyring`` says what its keys are for.

UTF-8 JSON, mode 0600; a file that group or others may read is refused:

    {
      "format": "dpj-keyring-2",
      "name": "local-5f0c1d2e",                  the keyring's name, in every wrapped key
      "tenants": {
        "acme": {
          "current": 2,                          the version that wraps
          "from": 1,                             older ones do not unwrap any more (absent: 1)
          "keys": {"1": "<32 bytes, base64url>", "2": "..."},
          "made": {"2": "2026-03-01T08:00:00+00:00"}
        }
      },
      "single": {"current": 1, "keys": {...}}    only in files that were of format 1
    }

A tenant's key is called ``<name>.<tenant>`` in wrapped keys, the single key ``<name>``. Format 1, which had one key for all
tenants (``format``, ``name``, ``current``, ``keys``), is still read; the first tenant's key that is created turns it into
format 2. A file is replaced as a whole (written beside it, then renamed), by one writer at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from crypto.encoding import from_text, to_text
from crypto.key_files import create_key_file, locked, read_key_file, refused, replace_key_file
from domain.keys import is_tenant, wipe

FORMAT_1 = "dpj-keyring-1"
FORMAT = "dpj-keyring-2"
KEK_BYTES = 32


@dataclass(slots=True)
class Key:
    """A key-encryption key: its versions by number, 32 bytes each."""

    current: int
    by_version: dict[int, bytearray] = field(repr=False)
    floor: int = 1
    made: dict[int, str] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        sizes = {len(key) for key in self.by_version.values()}
        return self.current in self.by_version and 1 <= self.floor <= self.current and sizes == {KEK_BYTES}

    def add_version(self, at: datetime) -> None:
        """A new random version, which wraps from now on."""
        self.current = max(self.by_version, default=0) + 1
        self.by_version[self.current] = bytearray(os.urandom(KEK_BYTES))
        self.made[self.current] = at.isoformat(timespec="seconds")


@dataclass(slots=True)
class KeyFile:
    """The file's content."""

    name: str
    tenants: dict[str, Key] = field(default_factory=dict)
    single: Key | None = None

    def name_of(self, tenant: str) -> str:
        return f"{self.name}.{tenant}"

    def named(self, key_name: str) -> Key | None:
        """The key that wrapped keys name so."""
        if key_name == self.name:
            return self.single
        name, dot, tenant = key_name.partition(".")
        return self.tenants.get(tenant) if dot and name == self.name else None

    def wipe(self) -> None:
        """Overwrite all keys. The texts that they were read from go with their last reference."""
        for key in (self.single, *self.tenants.values()):
            for version in () if key is None else key.by_version.values():
                wipe(version)


def create(path: Path) -> None:
    """Write a file without any tenant's key. Raises FileExistsError: one is never overwritten."""
    create_key_file(path, _encoded(KeyFile(f"local-{os.urandom(4).hex()}")))


def read(path: Path) -> KeyFile:
    """Raises KeyringUnavailable."""
    content = read_key_file(path)
    try:
        found = _parsed(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise refused(path, "malformed") from None
    keys = [*found.tenants.values(), *([found.single] if found.single else [])]
    if "." in found.name or not all(key.is_sound for key in keys) or not all(map(is_tenant, found.tenants)):
        raise refused(path, "malformed")
    return found


@contextmanager
def changing(path: Path) -> Iterator[KeyFile]:
    """The content, to be changed in the block and written at its end; other writers wait. Raises KeyringUnavailable."""
    with locked(path):
        content = read(path)
        try:
            yield content
            replace_key_file(path, _encoded(content))
        finally:
            content.wipe()


def _parsed(content: Mapping[str, Any]) -> KeyFile:
    name = content["name"]
    if not isinstance(name, str):
        raise TypeError
    if content["format"] == FORMAT_1:
        return KeyFile(name, single=_key(content))
    if content["format"] != FORMAT:
        raise ValueError
    tenants = {str(tenant): _key(key) for tenant, key in content["tenants"].items()}
    return KeyFile(name, tenants, _key(content["single"]) if "single" in content else None)


def _key(content: Mapping[str, Any]) -> Key:
    keys = {int(version): bytearray(from_text(key)) for version, key in content["keys"].items()}
    made = {int(version): datetime.fromisoformat(at).isoformat() for version, at in content.get("made", {}).items()}
    return Key(int(content["current"]), keys, int(content.get("from", 1)), made)


def _encoded(content: KeyFile) -> bytes:
    document: dict[str, Any] = {
        "format": FORMAT,
        "name": content.name,
        "tenants": {tenant: _written(key) for tenant, key in sorted(content.tenants.items())},
    }
    if content.single is not None:
        document["single"] = _written(content.single)
    return json.dumps(document, indent=2).encode() + b"\n"


def _written(key: Key) -> dict[str, Any]:
    keys = {str(version): to_text(bytes(raw)) for version, raw in sorted(key.by_version.items())}
    made = {str(version): at for version, at in sorted(key.made.items())}
    return {"current": key.current, "from": key.floor, "keys": keys, "made": made}
