"""Keyrings with keys for tenants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from crypto import local_key_file
from crypto.local_key_file import Key
from crypto.local_keyring import LocalKeyring
from crypto.vault_login import read_role_file
from crypto.vault_session import VaultSession
from crypto.vault_tenant_keys import NEW_KEY


def a_keyring(path: Path, *tenants: str) -> LocalKeyring:
    """A new key file that has a key for each of ``tenants``."""
    made = LocalKeyring.create(path)
    with local_key_file.changing(path) as keys:
        for tenant in tenants:
            keys.tenants[tenant] = key = Key(0, {})
            key.add_version(datetime.now(UTC))
    return made


def operator_session(stack: Mapping[str, str]) -> VaultSession:
    """An operator's login to the stack's Vault."""
    role = read_role_file(Path(stack["DPJ_VAULT_OPERATOR_FILE"]))
    return VaultSession.connect(stack["DPJ_VAULT_ADDR"], *role)


def create_vault_key(stack: Mapping[str, str], tenant: str) -> None:
    """What ``dpj keys create`` does in Vault."""
    session = operator_session(stack)
    session.ask("post", f"keys/dpj-tenant-{tenant}", NEW_KEY)
    session.close()
