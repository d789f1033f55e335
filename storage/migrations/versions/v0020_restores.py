"""Restores that are being looked at (restaurations): until one is ended nothing is deleted, whatever a row says.

``effacements_refaits_a``: since when what was erased before, and came back with the restore, is erased again.
"""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"

STATEMENTS = (
    """
    CREATE TABLE restaurations (
        numero bigserial PRIMARY KEY,
        magasin varchar(32) NOT NULL,
        ouverte_a timestamptz NOT NULL DEFAULT now(),
        ouverte_par varchar(128) NOT NULL,
        motif_code varchar(64) NOT NULL,
        effacements_refaits_a timestamptz,
        fermee_a timestamptz,
        fermee_par varchar(128),
        CHECK ((fermee_a IS NULL) = (fermee_par IS NULL))
    )
    """,
    "CREATE UNIQUE INDEX restaurations_ouvertes ON restaurations (magasin) WHERE fermee_a IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
