"""Which signing key and which checkpoint store the settings name. Making one opens nothing; that happens at its first use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from runtime.config.transport import client_tls

if TYPE_CHECKING:
    from crypto.local_signer import LocalSigner
    from crypto.vault_session import VaultSession
    from crypto.vault_signer import VaultSigner
    from runtime.config.settings import Settings
    from storage.checkpoints.folder import FolderCheckpointStore
    from storage.checkpoints.s3 import S3CheckpointStore


class SigningParts:
    """Both, each made when it is first asked for and closed by ``aclose``."""

    def __init__(self, settings: Settings, vault: Callable[[], VaultSession]) -> None:
        self._settings = settings
        self._vault = vault
        self._closing = AsyncExitStack()

    @cached_property
    def signer(self) -> LocalSigner | VaultSigner:
        signer = create_signer(self._settings, self._vault)
        self._closing.push_async_callback(signer.aclose)
        return signer

    @cached_property
    def checkpoints(self) -> FolderCheckpointStore | S3CheckpointStore:
        store = create_checkpoint_store(self._settings)
        self._closing.push_async_callback(store.aclose)
        return store

    async def aclose(self) -> None:
        await self._closing.aclose()


def create_signer(settings: Settings, vault: Callable[[], VaultSession]) -> LocalSigner | VaultSigner:
    """Who signs checkpoints and receipts; ``vault`` is the process's login. Raises ValueError if the settings don't say where the key is."""
    if settings.signer == "vault":
        from crypto.vault_signer import VaultSigner

        return VaultSigner(vault(), settings.vault_signing_key)
    if settings.signing_key_file is None:
        raise ValueError("DPJ_SIGNING_KEY_FILE is not set")
    from crypto.local_signer import LocalSigner

    return LocalSigner(settings.signing_key_file)


def create_checkpoint_store(settings: Settings) -> FolderCheckpointStore | S3CheckpointStore:
    """Where checkpoints stay. Raises ValueError if the settings don't say where that is."""
    if settings.checkpoint_store == "s3":
        from storage.checkpoints.s3 import S3CheckpointStore

        return S3CheckpointStore(
            settings.checkpoint_endpoint,
            settings.checkpoint_access_key.get_secret_value(),
            settings.checkpoint_secret_key.get_secret_value(),
            settings.checkpoint_bucket,
            secure=settings.checkpoint_secure,
            tls=client_tls(settings) if settings.checkpoint_secure else None,
            least_days=settings.checkpoint_lock_days,
        )
    if settings.checkpoints_dir is None:
        raise ValueError("DPJ_CHECKPOINTS_DIR is not set")
    from storage.checkpoints.folder import FolderCheckpointStore

    return FolderCheckpointStore(settings.checkpoints_dir)
