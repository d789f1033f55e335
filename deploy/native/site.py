"""One stack's own things: folder, identity (ports, passwords, profile) and what a part needs to run there."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deploy.native import files, ports
from deploy.native.errors import StackError

Profile = Literal["embedded", "full"]
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")


@dataclass
class StackSite:
    """``identity`` is ``stack.json``: created once, private, the same at every start until the stack is wiped."""

    name: str
    folder: Path
    profile: Profile
    identity: dict[str, Any] = field(repr=False)

    @property
    def ports(self) -> dict[str, int]:
        found: dict[str, int] = self.identity["ports"]
        return found

    @property
    def extras(self) -> frozenset[str]:
        """Words for the parts that this stack has on request."""
        return frozenset(self.identity.get("extras", ()))

    @property
    def left_out(self) -> frozenset[str]:
        """Names of the parts of its profile that this stack does without."""
        return frozenset(self.identity.get("left_out", ()))

    @property
    def tls(self) -> bool:
        """Whether this stack's servers speak TLS, and nothing else."""
        return bool(self.identity.get("tls", False))

    @property
    def scheme(self) -> str:
        """Of the URLs of its HTTP servers."""
        return "https" if self.tls else "http"

    @property
    def id(self) -> str:
        return str(self.identity["id"])

    def address(self, port: str) -> str:
        return f"{ports.LOOPBACK}:{self.ports[port]}"

    def url(self, port: str) -> str:
        """Of an HTTP server of ours at that port, without a path."""
        return f"{self.scheme}://{self.address(port)}"

    def secret(self, what: str) -> str:
        """The generated password named ``what``. Raises KeyError for a name not in ``SECRETS``."""
        return str(self.identity["secrets"][what])

    def data(self, what: str) -> Path:
        """A private folder for a part's data."""
        return files.private_folder(self.folder / "data" / what)

    def save(self) -> None:
        files.write_json(self.folder / "stack.json", self.identity)


SECRETS = (
    "postgres_admin",
    "postgres",
    "mongo_admin",
    "mongo",
    "ged",
    "minio_admin",
    "minio",
    "redis",
    "minio_checkpoints",
    "identity_administrator",
    "identity_console",
    "identity_portal",
    "identity_operator",
    "identity_auditor",
)


def state_folder(name: str) -> Path:
    """Raises StackError for a name that could not be part of a path."""
    if not NAME.match(name):
        raise StackError(f"a stack's name has lower case letters, digits and hyphens, at most 40: not {name!r}")
    return files.home() / name


def targets_file(stack_folder: Path) -> Path:
    """What the stack's Prometheus scrapes, in its own JSON form (``file_sd_config``)."""
    return stack_folder / "config" / "targets.json"


def load(name: str) -> StackSite | None:
    """The site of an existing stack, or None."""
    folder = state_folder(name)
    try:
        identity = json.loads((folder / "stack.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    return StackSite(name, folder, identity["profile"], identity)


def load_or_create(name: str, profile: Profile) -> StackSite:
    """The site of stack ``name``, set to ``profile``; its folders exist and are private afterwards."""
    site = load(name)
    if site is None:
        identity = {
            "id": secrets.token_hex(8),
            "profile": profile,
            "ports": {},
            "kafka_cluster": secrets.token_urlsafe(16),  # Kafka's own form: 16 random bytes, base64url
            "secrets": {},
        }
        site = StackSite(name, state_folder(name), profile, identity)
    for what in SECRETS:
        site.identity["secrets"].setdefault(what, secrets.token_urlsafe(24))
    site.profile = site.identity["profile"] = profile
    files.home().mkdir(mode=0o700, parents=True, exist_ok=True)
    files.private_folder(site.folder)
    for sub in ("data", "logs", "objects", "keys", "config"):
        files.private_folder(site.folder / sub)
    site.save()
    return site


def ports_of_others(name: str) -> set[int]:
    """Ports that the other stacks of this home keep for themselves."""
    taken: set[int] = set()
    for path in files.home().glob("*/stack.json"):
        if path.parent.name == name:
            continue
        with contextlib.suppress(OSError, ValueError, KeyError):
            for port, number in json.loads(path.read_text("utf-8"))["ports"].items():
                taken.update(range(number, number + ports.width(port)))
    return taken
