"""The first document types, with their rules; sites add their own as rows."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

PDF = "application/pdf"
IMAGES = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/gif")
ANY = (PDF, *IMAGES)

#: code, label, description, formats, largest size in MB, active, archived, years kept, template of the metadata
TYPES: tuple[tuple[object, ...], ...] = (
    (
        "CNI",
        "Carte nationale d'identité",
        "Recto et verso, en cours de validité.",
        ANY,
        20,
        True,
        True,
        10,
        {"numero": "string"},
    ),
    (
        "JUSTIFICATIF_DOMICILE",
        "Justificatif de domicile",
        "Facture ou attestation de moins de trois mois.",
        ANY,
        20,
        True,
        True,
        10,
        {"date_emission": "date"},
    ),
    ("RIB", "Relevé d'identité bancaire", "", ANY, 10, True, True, 10, {}),
    ("BULLETIN_SALAIRE", "Bulletin de salaire", "", ANY, 20, True, True, 10, {"mois": "string"}),
    ("AVIS_IMPOSITION", "Avis d'imposition", "Toutes les pages.", ANY, 50, True, True, 10, {"annee": "integer"}),
    ("CONTRAT", "Contrat signé", "Offre ou contrat signé par toutes les parties.", (PDF,), 200, True, True, 30, {}),
    ("PHOTO", "Photo d'identité", "Consultée pendant l'instruction, non archivée.", IMAGES, 20, True, False, 10, {}),
    ("DIVERS", "Document divers", "Tout document sans type propre.", ANY, 1100, True, True, 10, {}),
    ("CHEQUE_ANNULE", "Chèque annulé", "Remplacé par le RIB.", ANY, 10, False, True, 10, {}),
)


def upgrade() -> None:
    table = sa.table(
        "types_documents",
        sa.column("code_type"),
        sa.column("libelle"),
        sa.column("description"),
        sa.column("formats_autorises", sa.ARRAY(sa.String)),
        sa.column("taille_max_mb"),
        sa.column("est_actif"),
        sa.column("est_archive"),
        sa.column("duree_conservation_annees"),
        sa.column("template_metadata", sa.JSON),
    )
    names = [column.name for column in table.columns]
    op.bulk_insert(table, [dict(zip(names, _row(row), strict=True)) for row in TYPES])


def _row(row: tuple[object, ...]) -> list[object]:
    return [list(value) if isinstance(value, tuple) else json.loads(json.dumps(value)) for value in row]
