"""Retentions that a changed rule does not shorten, keys of subjects that stay destroyed, and when regular work was done last
(travaux_periodiques).

A type's shorter retention is for what comes after it: what is there keeps the longer one, in its own row.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"

STATEMENTS = (
    # What has no years of its own yet: deposited and not planned so far, or of a type that was never archived, from when only
    # the archived ones had their years written down.
    """
    CREATE FUNCTION dpj_conservation_du_type() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE documents SET duree_conservation_annees = OLD.duree_conservation_annees
        WHERE type_document = OLD.code_type AND duree_conservation_annees IS NULL;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER types_documents_conservation BEFORE UPDATE OF duree_conservation_annees ON types_documents FOR EACH ROW
    WHEN (NEW.duree_conservation_annees < OLD.duree_conservation_annees)
    EXECUTE FUNCTION dpj_conservation_du_type()
    """,
    """
    CREATE FUNCTION dpj_duree_prolongee() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'duree_conservation_annees is only ever raised' USING ERRCODE = 'check_violation';
    END $$
    """,
    """
    CREATE TRIGGER documents_duree BEFORE UPDATE OF duree_conservation_annees ON documents FOR EACH ROW
    WHEN (OLD.duree_conservation_annees IS NOT NULL
        AND (NEW.duree_conservation_annees IS NULL OR NEW.duree_conservation_annees < OLD.duree_conservation_annees))
    EXECUTE FUNCTION dpj_duree_prolongee()
    """,
    # The row of a destroyed key is what keeps another one from being made.
    """
    CREATE TRIGGER cles_sujets_restent BEFORE DELETE ON cles_sujets FOR EACH ROW
    WHEN (OLD.detruite_a IS NOT NULL)
    EXECUTE FUNCTION dpj_cle_sujet_detruite()
    """,
    """
    CREATE TABLE travaux_periodiques (
        travail varchar(32) PRIMARY KEY,
        acheve_a timestamptz NOT NULL
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
