"""Audit log and extended metadata of sites without MongoDB (``DPJ_AUDIT_STORE=postgresql``); empty where there is one.

``audit_logs`` takes rows and gives none up: UPDATE, DELETE and TRUNCATE are refused, also to what a replication applies. Who owns the
table can take the trigger away; what such a one does then is for ``dpj audit verify`` and the signed checkpoints to tell.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"

STATEMENTS = (
    """
    CREATE TABLE audit_logs (
        id uuid PRIMARY KEY,
        tenant varchar(64) NOT NULL,
        seq bigint NOT NULL,
        entity_type text NOT NULL,
        entity_id text NOT NULL,
        action text NOT NULL,
        utilisateur_id text NOT NULL,
        "timestamp" timestamptz NOT NULL,
        ip_address text,
        user_agent text,
        details jsonb NOT NULL,
        ancien_etat jsonb,
        nouvel_etat jsonb,
        correlation_id text NOT NULL,
        entree bytea NOT NULL,
        empreinte text NOT NULL,
        UNIQUE (tenant, seq)
    )
    """,
    # An index takes no text of any length, and who names an entity is not always this release.
    "CREATE INDEX audit_logs_par_entite ON audit_logs (tenant, left(entity_id, 64), seq)",
    'CREATE INDEX audit_logs_par_date ON audit_logs (tenant, "timestamp")',
    """
    CREATE FUNCTION dpj_audit_logs_restent() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'audit_logs is only ever added to' USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER audit_logs_restent BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_logs FOR EACH STATEMENT
    EXECUTE FUNCTION dpj_audit_logs_restent()
    """,
    "ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_restent",
    """
    CREATE TABLE metadonnees_etendues (
        document_id uuid PRIMARY KEY,
        tenant varchar(64) NOT NULL,
        metadonnees jsonb NOT NULL
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
