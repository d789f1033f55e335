"""Personal texts of DOCUMENTS are sealed, under a key that the row names, and looked up by keyed indexes.

nom_original, courriel_scelle, commentaire_validation, motif_rejet and the text of decision_en_attente hold sealed texts where
cle_personnelle names their key; tags and metadata are then in etiquettes_scellees. A row is under one key as a whole, which the
database holds, so that one narrow index answers how many rows are under a key. Rows from before have no key: ``dpj personal reseal``
seals them, because a migration has no keys.

A key that was retired is taken from nobody any more (SQLSTATE DPJ01): a process that still has it would otherwise leave what nobody
can open.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"

STATEMENTS = (
    """
    ALTER TABLE documents
        ALTER COLUMN nom_original TYPE text,
        ADD COLUMN deposant_nom_scelle text,
        ADD COLUMN etiquettes_scellees text,
        ADD COLUMN cle_personnelle varchar(16),
        ADD COLUMN cle_index varchar(16),
        ADD COLUMN nom_original_index bytea,
        ADD COLUMN courriel_index bytea
    """,
    # Every row from before satisfies it; who writes one from now on is held to it.
    """
    ALTER TABLE documents ADD CONSTRAINT documents_personnel CHECK (
        CASE WHEN cle_personnelle IS NULL
        THEN cle_index IS NULL AND nom_original_index IS NULL AND courriel_index IS NULL
            AND deposant_nom_scelle IS NULL AND etiquettes_scellees IS NULL
        ELSE cle_index IS NOT NULL AND nom_original_index IS NOT NULL AND courriel_index IS NOT NULL
            AND starts_with(nom_original, 'p2.' || cle_personnelle || '.')
            AND starts_with(courriel_scelle, 'p2.' || cle_personnelle || '.')
            AND coalesce(starts_with(deposant_nom_scelle, 'p2.' || cle_personnelle || '.'), true)
            AND coalesce(starts_with(etiquettes_scellees, 'p2.' || cle_personnelle || '.'), true)
            AND coalesce(starts_with(commentaire_validation, 'p2.' || cle_personnelle || '.'), true)
            AND coalesce(starts_with(motif_rejet, 'p2.' || cle_personnelle || '.'), true)
            AND coalesce(decision_en_attente ->> 'texte' = ''
                OR starts_with(decision_en_attente ->> 'texte', 'p2.' || cle_personnelle || '.'), true)
            AND tags = '{}' AND metadata = '{}'
        END) NOT VALID
    """,
    # In the order in which resealing walks; counting reads nothing but the index. What was erased has no texts.
    """
    CREATE INDEX documents_cles_personnelles ON documents (cle_personnelle, cle_index, id)
    WHERE nom_original <> ''
    """,
    """
    CREATE INDEX documents_nom ON documents (tenant, nom_original_index, created_at DESC, id DESC)
    WHERE nom_original_index IS NOT NULL
    """,
    """
    CREATE INDEX documents_courriel ON documents (tenant, courriel_index, created_at DESC, id DESC)
    WHERE courriel_index IS NOT NULL
    """,
    """
    CREATE TABLE cles_personnelles_retirees (
        usage varchar(16) NOT NULL CHECK (usage IN ('scellement', 'index')),
        cle varchar(16) NOT NULL,
        retiree_a timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (usage, cle)
    )
    """,
    """
    CREATE FUNCTION documents_cle_personnelle_en_vigueur() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM cles_personnelles_retirees AS r
            WHERE (r.usage, r.cle) IN (('scellement', NEW.cle_personnelle), ('index', NEW.cle_index))
        ) THEN
            RAISE EXCEPTION 'key retired' USING ERRCODE = 'DPJ01';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER documents_cle_personnelle_en_vigueur BEFORE INSERT OR UPDATE OF cle_personnelle, cle_index ON documents
    FOR EACH ROW WHEN (NEW.cle_personnelle IS NOT NULL) EXECUTE FUNCTION documents_cle_personnelle_en_vigueur()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
