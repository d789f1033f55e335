"""What tells a damaged document from a keyring that is not this site's; see ``processors.resilience.canary_keyring``."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE keyring_canaries (
            scheme text NOT NULL,
            key_name text NOT NULL,
            key_version integer NOT NULL,
            ciphertext text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (scheme, key_name, key_version)
        )
        """
    )
