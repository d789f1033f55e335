"""Keys of subjects (cles_sujets): what seals the personal fields of audit lines about a document, until its erasure.

The row stays when the key is destroyed, and the database itself lets no other key come in its place.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"

STATEMENTS = (
    # No reference to documents: it would cost every upload a look at the row that it has just written.
    """
    CREATE TABLE cles_sujets (
        sujet uuid PRIMARY KEY,
        tenant varchar(64) NOT NULL,
        cle_enveloppee varchar(128),
        creee_a timestamptz NOT NULL DEFAULT now(),
        detruite_a timestamptz,
        CHECK ((cle_enveloppee IS NULL) = (detruite_a IS NOT NULL))
    )
    """,
    """
    CREATE FUNCTION dpj_cle_sujet_detruite() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'a destroyed key does not come back' USING ERRCODE = 'check_violation';
    END $$
    """,
    """
    CREATE TRIGGER cles_sujets_detruites BEFORE UPDATE ON cles_sujets FOR EACH ROW
    WHEN (OLD.detruite_a IS NOT NULL AND NEW.detruite_a IS DISTINCT FROM OLD.detruite_a)
    EXECUTE FUNCTION dpj_cle_sujet_detruite()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
