"""Which keyring the settings name, for processes and for operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.config.transport import https_tls

if TYPE_CHECKING:
    from crypto.local_keyring import LocalKeyring
    from crypto.local_tenant_keys import LocalTenantKeys
    from crypto.vault_login import WrappedSecretId
    from crypto.vault_session import VaultSession
    from crypto.vault_tenant_keys import VaultTenantKeys
    from crypto.vault_transit import VaultTransitKeyring
    from runtime.config.settings import Settings


def vault_session(settings: Settings) -> VaultSession:
    """A login to Vault as the pipeline's processes have it, one per process. Nothing is called until it is used."""
    from crypto.vault_login import WrappedSecretId

    wrapped = settings.vault_wrapped_secret_id_file
    secret_id = WrappedSecretId(wrapped) if wrapped else settings.vault_secret_id.get_secret_value()
    return _connected(settings, settings.vault_role_id.get_secret_value(), secret_id)


def create_keyring(settings: Settings, vault: Callable[[], VaultSession]) -> LocalKeyring | VaultTransitKeyring:
    """The keyring that the settings name. Raises ValueError if they don't say where it is."""
    if settings.keyring == "vault":
        from crypto.vault_transit import VaultTransitKeyring

        return VaultTransitKeyring(vault(), settings.vault_tenant_prefix, settings.vault_transit_key)
    if settings.keyring_file is None:
        raise ValueError("DPJ_KEYRING_FILE is not set")
    from crypto.local_keyring import LocalKeyring

    return LocalKeyring(settings.keyring_file)


def create_tenant_keys(settings: Settings) -> LocalTenantKeys | VaultTenantKeys:
    """What an operator does about the tenants' keys, with his own login. Raises ValueError if the settings don't say where."""
    if settings.keyring == "vault":
        if settings.vault_operator_file is None:
            raise ValueError("DPJ_VAULT_OPERATOR_FILE is not set")
        from crypto.vault_login import read_role_file
        from crypto.vault_tenant_keys import VaultTenantKeys

        session = _connected(settings, *read_role_file(settings.vault_operator_file))
        return VaultTenantKeys(session, settings.vault_tenant_prefix, settings.vault_transit_key)
    if settings.keyring_file is None:
        raise ValueError("DPJ_KEYRING_FILE is not set")
    from crypto.local_tenant_keys import LocalTenantKeys

    return LocalTenantKeys(settings.keyring_file)


def _connected(settings: Settings, role_id: str, secret_id: str | WrappedSecretId) -> VaultSession:
    from crypto.vault_session import VaultSession

    return VaultSession.connect(
        settings.vault_addr,
        role_id,
        secret_id,
        mount=settings.vault_mount,
        tls=https_tls(settings, settings.vault_addr),
        timeout=settings.vault_timeout,
    )
