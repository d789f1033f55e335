"""Tenants that an operator created; per type, who may decide and erase; orders that wait for a second person.

    tenants                     whose tokens the API takes; ``dpj keys create`` adds a row
    separation_des_taches       who deposited a document of this type may not decide about it; NULL: as the site's setting says
    effacement_a_deux           erasing a document of this type takes two persons; NULL: as the site's setting says
    ordres                      what one operator ordered and another has to confirm, one for each act and object

Only tenants that were given a key have documents with a wrapped key, or a canary: those are there from the start. One that has a key and
nothing else is added by ``dpj keys create`` (docs/OPERATIONS.md).
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"

STATEMENTS = (
    """
    CREATE TABLE tenants (
        tenant varchar(64) PRIMARY KEY CHECK (lower(tenant) <> 'system'),
        cree_par varchar(128) NOT NULL,
        cree_a timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    INSERT INTO tenants (tenant, cree_par)
    SELECT tenant, 'system:migration' FROM (
        SELECT tenant FROM documents WHERE cle_version IS NOT NULL OR statut IN ('ERASING', 'ERASED')
        UNION SELECT tenant FROM keyring_canaries WHERE tenant IS NOT NULL
    ) AS avec_cle
    WHERE lower(tenant) <> 'system'
    """,
    """
    ALTER TABLE types_documents
        ADD COLUMN separation_des_taches boolean,
        ADD COLUMN effacement_a_deux boolean
    """,
    """
    CREATE TABLE ordres (
        acte varchar(32) NOT NULL,
        objet varchar(128) NOT NULL,
        id uuid NOT NULL UNIQUE,
        tenant varchar(64) NOT NULL,
        parametres jsonb NOT NULL,
        ordonne_par varchar(128) NOT NULL,
        ordonne_a timestamptz NOT NULL,
        expire_a timestamptz NOT NULL,
        confirme_par varchar(128),
        confirme_a timestamptz,
        PRIMARY KEY (acte, objet),
        CHECK (confirme_par IS NULL OR confirme_par <> ordonne_par),
        CHECK ((confirme_par IS NULL) = (confirme_a IS NULL))
    )
    """,
    "CREATE INDEX ordres_expires ON ordres (expire_a)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
