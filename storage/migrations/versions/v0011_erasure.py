"""Erasures (effacements), legal holds (gels_juridiques), retentions that are only ever extended.

A document that is being erased has no key any more, which the database itself holds.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"

STATEMENTS = (
    # It had no name of its own; the new one lets the key of a document go before the rest of it.
    """
    DO $$
    DECLARE contrainte name;
    BEGIN
        SELECT conname INTO STRICT contrainte FROM pg_constraint
        WHERE conrelid = 'documents'::regclass AND contype = 'c'
            AND pg_get_constraintdef(oid) LIKE '%cle_enveloppee%';
        EXECUTE format('ALTER TABLE documents DROP CONSTRAINT %I', contrainte);
    END $$
    """,
    """
    ALTER TABLE documents
        ADD CONSTRAINT documents_contenu CHECK (statut IN ('PENDING', 'ABANDONED', 'ERASING', 'ERASED') OR (
            taille_fichier IS NOT NULL AND checksum_sha256 IS NOT NULL AND cle_enveloppee IS NOT NULL
            AND etag_objet IS NOT NULL AND taille_objet IS NOT NULL)),
        ADD CONSTRAINT documents_cle_detruite CHECK (statut NOT IN ('ERASING', 'ERASED') OR cle_enveloppee IS NULL)
    """,
    """
    CREATE TABLE effacements (
        document_id uuid PRIMARY KEY REFERENCES documents,
        tenant varchar(64) NOT NULL,
        demandeur varchar(128) NOT NULL,
        motif_code varchar(64) NOT NULL,
        base_legale varchar(32) NOT NULL,
        conservation_jusqua timestamptz NOT NULL,
        demande_a timestamptz NOT NULL,
        correlation_id uuid NOT NULL,
        cle_schema varchar(32) NOT NULL,
        cle_nom varchar(128) NOT NULL,
        cle_version integer NOT NULL,
        vignettes varchar(300)[] NOT NULL,
        prochain_essai timestamptz NOT NULL DEFAULT now(),
        essais integer NOT NULL DEFAULT 0,
        dernier_code varchar(64),
        recu text,
        cle_signature varchar(128),
        acheve_a timestamptz,
        CHECK ((acheve_a IS NULL) = (recu IS NULL) AND (recu IS NULL) = (cle_signature IS NULL))
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX effacements_dus ON effacements (prochain_essai) WHERE acheve_a IS NULL",
    # Reconciling looks at what was erased lately.
    "CREATE INDEX effacements_acheves ON effacements (acheve_a, document_id) WHERE acheve_a IS NOT NULL",
    """
    CREATE TABLE gels_juridiques (
        document_id uuid NOT NULL REFERENCES documents,
        reference varchar(64) NOT NULL,
        motif_code varchar(64) NOT NULL,
        pose_par varchar(128) NOT NULL,
        pose_a timestamptz NOT NULL,
        leve_par varchar(128),
        leve_a timestamptz,
        leve_motif varchar(64),
        PRIMARY KEY (document_id, reference),
        CHECK ((leve_a IS NULL) = (leve_par IS NULL) AND (leve_a IS NULL) = (leve_motif IS NULL))
    )
    """,
    # An erasure empties the answers that are kept for its document's upload.
    "CREATE INDEX idempotency_keys_document ON idempotency_keys (document_id)",
    # What is due by its own date; the few that were never archived are found by their states.
    """
    CREATE INDEX documents_echeance ON documents (date_expiration, id)
    WHERE date_expiration IS NOT NULL AND statut NOT IN ('PENDING', 'ABANDONED', 'ERASING', 'ERASED')
    """,
    """
    CREATE FUNCTION dpj_conservation_prolongee() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'date_expiration is only ever extended' USING ERRCODE = 'check_violation';
    END $$
    """,
    """
    CREATE TRIGGER documents_conservation BEFORE UPDATE OF date_expiration ON documents FOR EACH ROW
    WHEN (OLD.date_expiration IS NOT NULL
        AND (NEW.date_expiration IS NULL OR NEW.date_expiration < OLD.date_expiration))
    EXECUTE FUNCTION dpj_conservation_prolongee()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
